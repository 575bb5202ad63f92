"""Ingest: from the sites into bronze. One stream is one dlt pipeline, and its table changes in one lake transaction."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import orjson

from include.errors import LakehouseError, SourceError
from include.interval import Interval
from include.lake.attach import Lake, identifier
from include.lake.erasures import Erased
from include.sources import bronze, dlt_runtime
from include.sources.bronze import Bronze
from include.sources.errors import ErasedError
from include.sources.http import Patience
from include.sources.ingest import GetConnection, Progress
from include.sources.ingest import ingest as ingest_any
from include.sources.nightscout.client import SiteClient, record_id
from include.sources.nightscout.fetch import SiteAnswer, fetch_site
from include.sources.nightscout.sites import Site
from include.sources.nightscout.streams import LINEAGE, Stream
from include.sources.nightscout.tables import Page
from include.sources.results import IngestResult, SiteFailure, SiteLoad

DOMAIN = "nightscout"
MOST_SITES_AT_ONCE = 16


@dataclass(frozen=True)
class NightscoutLoad(SiteLoad):
    """What one site brought.

    Attributes:
        touched: days among the windows that only v3's history, or an earlier document, led to.
        outside: records that the site answered of days that nobody asked for.
    """

    api_version: str
    touched: tuple[str, ...]
    outside: int


def ingest(
    lake: Lake,
    stream: Stream,
    interval: Interval,
    sites: Sequence[Site],
    connections: GetConnection,
    *,
    pipelines_dir: Path,
    lookback_days: int = 2,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> IngestResult:
    """Fetch the interval from every site and replace its (site, UTC day) windows in bronze.

    Again gives the same rows, and intervals may come in any order. Which days are replaced: see `fetch`. A site that
    fails, or whose connection is missing or wrong, keeps the rows that it had.

    Args:
        connections: gives the connection of an id; called in this thread.
        pipelines_dir: where dlt works; one process at a time per stream and folder.
        lookback_days: days before the interval that are fetched again.
        progress: called from several threads with a site's id and its records so far.

    Raises:
        SitesError: a site that is not optional failed, or all did; its `result` says what was loaded.
        SchemaError: a field changed its type; nothing was loaded.
        LoadError: the load failed; bronze is as it was, or holds the load whole.
        SourceError: there is no site.
    """
    if not sites:
        raise SourceError(f"No site to ingest {stream.name} from; expected at least one.")
    clients: list[SiteClient] = []
    failed: list[SiteFailure] = []
    for site in sites:
        try:
            clients.append(SiteClient(site, connections(site.connection_id), patience))
        except LakehouseError as error:
            failed.append(SiteFailure.of(site.site, error, optional=site.optional))
    source = _Sites(lake, stream, interval, lookback_days, clients, failed, progress)
    return ingest_any(lake, stream, interval, source, connections, domain=DOMAIN, pipelines_dir=pipelines_dir)


@dataclass(frozen=True)
class _Sites:
    lake: Lake
    stream: Stream
    interval: Interval
    lookback_days: int
    clients: Sequence[SiteClient]
    failed: Sequence[SiteFailure]
    progress: Progress | None

    def fetch(
        self, connection: duckdb.DuckDBPyConnection, before: Bronze, erased: Erased | None
    ) -> tuple[list[SiteAnswer], list[SiteFailure]]:
        forgotten = [client for client in self.clients if erased and client.site.site in erased]
        clients = [client for client in self.clients if client not in forgotten]
        answers, unanswered = _fetch_all(
            clients, self.stream, self.interval, self.lookback_days, before, connection, self.progress
        )
        gone = [SiteFailure.of(client.site.site, ErasedError(), optional=True) for client in forgotten]
        return answers, [*self.failed, *gone, *unanswered]

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        answers: Sequence[SiteAnswer],
        load_seq: int,
        before: Bronze,
        folder: Path,
    ) -> str:
        from include.sources.nightscout.source import nightscout

        table = self.stream.table
        dlt_runtime.use_settings(folder)
        source = nightscout(self.stream, answers, self.interval, load_seq, before.columns)
        return dlt_runtime.load(self.lake, connection, table, source, folder, {table: bronze.PARTITION})

    def check(
        self, connection: duckdb.DuckDBPyConnection, before: Bronze, answers: Sequence[SiteAnswer], load_seq: int
    ) -> int:
        sent = {a.site.site: bronze.Sent(len(a.windows), a.records, a.records) for a in answers}
        days = sorted({day for answer in answers for day in answer.windows})
        among = "interval_date in (" + ", ".join(f"date '{day}'" for day in days) + ")"
        key = ("site", "interval_date", "record_id")
        return bronze.check_load(connection, before.table, load_seq, sent, key=key, among=among)

    def undated(self, answers: Sequence[SiteAnswer]) -> list[tuple[str, str, str]]:
        # History names a record before a page holds it whole: the later one stays.
        kept = {(answer.site.site, record_id(record)): record for answer in answers for record in answer.undated}
        return [(site, identity, orjson.dumps(record).decode()) for (site, identity), record in kept.items()]

    def loaded(self, answer: SiteAnswer) -> NightscoutLoad:
        return NightscoutLoad(
            site=answer.site.site,
            api_version=answer.api_version,
            windows=len(answer.windows),
            records=answer.records,
            touched=tuple(day.isoformat() for day in answer.touched),
            outside=answer.outside,
            undated=len(answer.undated),
        )


def _fetch_all(
    clients: Sequence[SiteClient],
    stream: Stream,
    interval: Interval,
    lookback_days: int,
    before: Bronze,
    connection: duckdb.DuckDBPyConnection,
    progress: Progress | None,
) -> tuple[list[SiteAnswer], list[SiteFailure]]:
    lock = threading.Lock()

    def days_in_bronze(site: str, record_ids: Sequence[str] | None) -> set[date]:
        if not before.columns:
            return set()
        query = f"select distinct interval_date from {before.name} where site = ? and record_id is not null"
        values: list[Any] = [site]
        if record_ids is not None:
            query += " and record_id in (select unnest(?))"
            values.append(list(record_ids))
        with lock:
            return {row[0] for row in connection.execute(query, values).fetchall()}

    def held_days(site: Site, api: str, page: Page) -> set[date]:
        with lock:
            return _held_days(connection, before, site, api, page)

    def fetch(client: SiteClient) -> SiteAnswer:
        with client:
            return fetch_site(
                client,
                stream,
                interval,
                lookback_days,
                bronze=before.columns,
                days_in_bronze=days_in_bronze,
                held_days=held_days,
                progress=progress,
            )

    answers, failed = [], []
    with ThreadPoolExecutor(max(1, min(len(clients), MOST_SITES_AT_ONCE)), thread_name_prefix="site") as pool:
        futures = [(client.site, pool.submit(fetch, client)) for client in clients]
        import dlt  # noqa: F401  takes as long as the sites do

        for site, future in futures:
            try:
                answers.append(future.result())
            except LakehouseError as error:
                failed.append(SiteFailure.of(site.site, error, optional=site.optional))
    return answers, failed


def _held_days(connection: duckdb.DuckDBPyConnection, before: Bronze, site: Site, api: str, page: Page) -> set[date]:
    """Days of a page on which a load would leave the very records of the site that bronze has."""
    answered = page.table
    if not {*answered.column_names} <= before.columns.keys():
        return set()
    same = {"api_version": api, "site_time_zone": site.time_zone, "site_units": site.units}
    columns = [name for name in before.columns if name not in LINEAGE or name in ("interval_date", "record_id", *same)]

    def spelled(name: str) -> str:
        if name in answered.column_names:
            return identifier(name)
        return f"{'?' if name in same else 'null'}::{before.columns[name]} as {identifier(name)}"

    connection.register("answered", answered)
    try:
        rows = connection.execute(
            f"with held as (select {', '.join(map(identifier, columns))} from {before.name} "
            "where site = ? and record_id is not null), "
            f"fetched as (select {', '.join(map(spelled, columns))} from answered), "
            "differing as ((from fetched except all from held) union all (from held except all from fetched)) "
            "select interval_date from fetched except select interval_date from differing",
            [site.site, *(same[name] for name in columns if name in same)],
        ).fetchall()
    finally:
        connection.unregister("answered")
    return {day for (day,) in rows}
