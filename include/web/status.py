"""The status page's states, each computed from what was read just now. What could not be read is unknown, never ok."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from include.connections import Postgres
from include.dbt_project import PROJECT_DIR
from include.errors import LakehouseError
from include.layers import Layer
from include.web import lake_probe, pages, quality, releases
from include.web.lake_probe import LakeAnswer
from include.web.releases import Ledger, Mart, Release

if TYPE_CHECKING:
    from include.lake.attach import Lake

LATE = timedelta(hours=36)  # a day's release is due within hours after midnight UTC; a day and a half is late
KEEP_SECONDS = 10.0


class Level(StrEnum):
    """How good a state is; the order is from good to bad."""

    OK = "ok"
    LATE = "late"
    UNKNOWN = "unknown"
    FAILED = "failed"

    @classmethod
    def worst(cls, levels: Iterable["Level"]) -> "Level":
        """The worst of them; unknown if there are none, since nothing was checked."""
        order = list(cls)
        return max(levels, key=order.index, default=cls.UNKNOWN)


@dataclass(frozen=True)
class State:
    """One thing that was looked at. `path` leads to the page with more, below the plugin's prefix."""

    name: str
    level: Level
    reason: str
    path: str = ""


@dataclass(frozen=True)
class Group:
    name: str
    states: tuple[State, ...]

    @property
    def level(self) -> Level:
        return Level.worst(state.level for state in self.states)


@dataclass(frozen=True)
class Status:
    checked_at: datetime
    groups: tuple[Group, ...]

    @property
    def level(self) -> Level:
        return Level.worst(group.level for group in self.groups)


@dataclass(frozen=True)
class Sources:
    """Where the states are read. The callables read connections when they are called, and may raise."""

    quality_dir: Path
    domains: Callable[[], list[str]]
    marts: Callable[[], Postgres]
    lake: Callable[[], "Lake"]


class Recent:
    """The last status, while it is recent; several people who look at once cause one look at the servers."""

    def __init__(self, sources: Sources) -> None:
        self._sources, self._lock = sources, threading.Lock()
        self._status: Status | None = None
        self._expires = 0.0

    def get(self) -> Status:
        with self._lock:
            if self._status is None or time.monotonic() >= self._expires:
                self._status = collect(self._sources, datetime.now(UTC))
                self._expires = time.monotonic() + KEEP_SECONDS
            return self._status


def project_domains(project: Path = PROJECT_DIR) -> list[str]:
    """The domains of the dbt project: each has a folder of marts."""
    gold = project / "models" / Layer.GOLD.value
    return sorted(folder.name for folder in gold.iterdir() if folder.is_dir()) if gold.is_dir() else []


def collect(sources: Sources, now: datetime) -> Status:
    """Look at everything."""
    lake, answer = _lake(sources)
    marts, ledger, database = _ledger(sources, answer)
    domains = sorted({*sources.domains(), *(ledger.heads() if ledger is not None else ())})
    groups = [Group("Platform", (database, _chain(ledger), lake))]
    for domain in domains:
        groups.append(Group(domain, tuple(_domain(sources, domain, marts, ledger, answer, now))))
    if not domains:
        nothing = State("Domains", Level.UNKNOWN, "No domain was found: dbt/models/gold has no folder.")
        groups.append(Group("Domains", (nothing,)))
    return Status(now, tuple(groups))


def _ledger(sources: Sources, answer: LakeAnswer | None) -> tuple[Postgres | None, Ledger | None, State]:
    name = "Marts database"
    try:
        marts = sources.marts()
    except LakehouseError as error:
        return None, None, State(name, Level.UNKNOWN, str(error))
    try:
        ledger = releases.read(marts, answer.anchors if answer is not None else None)
    except LakehouseError as error:
        return marts, None, State(name, Level.FAILED, str(error))
    return marts, ledger, State(name, Level.OK, f"{marts.database} on {marts.host} answers.")


def _chain(ledger: Ledger | None) -> State:
    name = "Ledger chain"
    if ledger is None:
        return State(name, Level.UNKNOWN, "The ledger could not be read.", "releases")
    if ledger.chain.state == "broken":
        return State(name, Level.FAILED, ledger.chain.detail, "releases")
    whole = ledger.chain.state == "verified" and ledger.chain.compared
    return State(name, Level.OK if whole else Level.UNKNOWN, ledger.chain.detail, "releases")


def _lake(sources: Sources) -> tuple[State, LakeAnswer | None]:
    name = "Lake"
    try:
        lake = sources.lake()
    except LakehouseError as error:
        return State(name, Level.UNKNOWN, str(error)), None
    try:
        answer = lake_probe.ask(lake)
    except lake_probe.NoAnswerInTime as error:
        return State(name, Level.UNKNOWN, str(error)), None
    except LakehouseError as error:
        return State(name, Level.FAILED, str(error)), None
    reason = f"Answers at snapshot {answer.snapshot_id}, written {pages.minute(answer.written_at)} UTC."
    return State(name, Level.OK, reason), answer


def _domain(
    sources: Sources,
    domain: str,
    marts: Postgres | None,
    ledger: Ledger | None,
    answer: LakeAnswer | None,
    now: datetime,
) -> list[State]:
    head = ledger.heads().get(domain) if ledger is not None else None
    if ledger is not None and head is None and _is_unused(sources.quality_dir, domain):
        return [State("Use", Level.OK, f"It has not run yet; `lake run {domain}` or DAG {domain}_daily runs it.")]
    states = [_release(domain, ledger, now), *_gates(sources.quality_dir, domain)]
    if head is None or marts is None:
        reason = "There is no release to compare with." if ledger is not None else "The ledger could not be read."
        return [*states, State("Marts", Level.UNKNOWN, reason), State("Lake views", Level.UNKNOWN, reason)]
    return [*states, _marts(marts, head), _views(head, answer)]


def _release(domain: str, ledger: Ledger | None, now: datetime) -> State:
    name = "Certified release"
    if ledger is None:
        return State(name, Level.UNKNOWN, "The ledger could not be read.", "releases")
    head = ledger.heads().get(domain)
    if head is None:
        return State(name, Level.FAILED, f"{domain} has never been released.", "releases")
    if head.is_withdrawal:
        when = f"{pages.minute(head.released_at)} UTC"
        reason = f"Withdrawn {when}, as no rows were left; the next release brings it back."
        return State(name, Level.LATE, reason, f"releases/{head.release_id}")
    end = datetime.fromisoformat(ledger.covers_until(domain))
    age = now - end
    what = f"Rollback to release {head.rolled_back_to}" if head.is_rollback else f"Release {head.release_id}"
    reason = (
        f"{what}, certified {pages.minute(head.released_at)} UTC, holds data up to {pages.minute(end)} UTC, "
        f"{pages.span(age)} ago."
    )
    if age <= LATE:
        return State(name, Level.OK, reason, f"releases/{head.release_id}")
    late = f"{reason} A daily release is late after {pages.span(LATE)}."
    return State(name, Level.LATE, late, f"releases/{head.release_id}")


def _is_unused(quality_dir: Path, domain: str) -> bool:
    """Nothing of the domain was ever checked, so that no release of it is missed."""
    return not quality.unreadable(quality_dir) and not any(quality.latest(quality_dir, domain).values())


def _gates(quality_dir: Path, domain: str) -> list[State]:
    states = []
    broken = quality.unreadable(quality_dir)
    for name, result in quality.latest(quality_dir, domain).items():
        if result is None:
            reason = f"No result of this gate was found in {quality_dir}."
            if broken:
                reason = f"{reason} Unreadable: {broken[0]}"
            states.append(State(name, Level.UNKNOWN, reason, "data-docs/"))
            continue
        where = f"snapshot {result.snapshot_id}, run {result.dag_run_id}, {pages.minute(result.checked_at)} UTC"
        path = f"data-docs/{result.docs}"
        if not result.success:
            failed = ", ".join(finding.check for finding in result.failed) or "no check is named"
            states.append(State(name, Level.FAILED, f"Red: {failed} ({where}).", path))
        elif not result.evaluated:
            states.append(State(name, Level.UNKNOWN, f"It evaluated no check ({where}).", path))
        else:
            warned = f", {len(result.warned)} warned" if result.warned else ""
            states.append(State(name, Level.OK, f"{result.evaluated} checks hold{warned} ({where}).", path))
    return states


def _marts(marts: Postgres, head: Release) -> State:
    """The rows that readers of PostgreSQL find, against those that were certified."""
    name, path = "Marts", f"releases/{head.release_id}"
    if not head.marts:
        return State(name, Level.FAILED, f"Release {head.release_id} certified no mart.", path)
    try:
        counts = _counts(marts, [mart.name for mart in head.marts])
    except LakehouseError as error:
        return State(name, Level.UNKNOWN, str(error), path)
    wrong = []
    for mart in head.marts:
        found = counts[mart.name]
        if found is None:
            wrong.append(f"{mart.name} is missing")
        elif found != mart.rows:
            wrong.append(f"{mart.name} has {found:,} rows, certified {_certified(mart)}")
    if wrong:
        return State(name, Level.FAILED, f"{'; '.join(wrong)}.", path)
    listed = ", ".join(f"{mart} {found:,}" for mart, found in counts.items())
    return State(name, Level.OK, f"Rows as certified: {listed}.", path)


def _counts(marts: Postgres, names: list[str]) -> dict[str, int | None]:
    from psycopg import sql

    counts: dict[str, int | None] = {}
    with releases.reading(marts) as connection:
        query = "select table_name from information_schema.tables where table_schema = 'marts'"
        there = {row[0] for row in connection.execute(query)}
        for name in names:
            count = sql.SQL("select count(*) from marts.{}").format(sql.Identifier(name))
            counts[name] = connection.execute(count).fetchone()[0] if name in there else None
    return counts


def _views(head: Release, answer: LakeAnswer | None) -> State:
    name = "Lake views"
    if answer is None:
        return State(name, Level.UNKNOWN, "The lake could not be read.")
    wrong = []
    for mart in head.marts:
        view = answer.views.get(mart.name)
        if view is None:
            wrong.append(f"{mart.name} is missing")
        elif view.error:
            wrong.append(f"{mart.name} cannot be read: {view.error}")
        elif view.pinned_to != head.snapshot_id:
            wrong.append(f"{mart.name} shows {view.pinned_to if view.pinned_to is not None else 'no snapshot'}")
        elif view.rows != mart.rows:
            wrong.append(f"{mart.name} has {view.rows:,} rows, certified {_certified(mart)}")
    if wrong or not head.marts:
        reason = "; ".join(wrong) or "the release certified no mart"
        return State(name, Level.FAILED, f"Expected snapshot {head.snapshot_id}: {reason}.")
    many = f"{len(head.marts)} {'view shows' if len(head.marts) == 1 else 'views show'}"
    return State(name, Level.OK, f"{many} snapshot {head.snapshot_id}, as the ledger says.")


def _certified(mart: Mart) -> str:
    return "an unknown number" if mart.rows is None else f"{mart.rows:,}"
