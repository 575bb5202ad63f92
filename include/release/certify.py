"""The certified state: Postgres and the ledger in one transaction, then the lake's pinned views in another.

The first commit decides. A crash before it leaves everything as it was; a crash after it leaves the lake's views on
the release before, whole, until the next release of the domain (or `repoint`) brings them up to the ledger.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from include.connections import Postgres
from include.dbt_project import Model
from include.errors import ReleaseError
from include.interval import Interval
from include.lake import fsck
from include.lake.attach import ALIAS, Lake, identifier, literal, one_transaction
from include.layers import MARTS_SCHEMA, Layer
from include.release import ledger
from include.release.content_hash import ContentHash
from include.release.ledger import Entry
from include.release.publish import Mart, Published, gold, mart_of, publish, with_words
from include.release.transaction import Transaction, lost_connections_told, require_snapshot, transaction

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Release:
    """What a release or a rollback did.

    Args:
        created: False if the ledger had this release already and nothing in Postgres was touched.
        repointed: marts whose view in the lake was set anew.
        vanished: marts of the domain that this entry does not hold; readers keep their last release.
        published: what happened to each table; empty if nothing was published.
    """

    entry: Entry
    created: bool
    repointed: tuple[str, ...]
    vanished: tuple[str, ...]
    published: tuple[Published, ...] = ()

    @property
    def release_id(self) -> int:
        return self.entry.release_id

    def summary(self) -> dict[str, Any]:
        """JSON-serialisable, for an XCom or an asset event."""
        entry = self.entry.as_dict()
        names = ("release_id", "kind", "domain", "interval_start", "interval_end", "dag_run_id", "snapshot_id")
        return {name: entry[name] for name in names} | {
            "entry_hash": entry["entry_hash"],
            "created": self.created,
            "rows": {name: record["rows"] for name, record in entry["marts"].items()},
            "repointed": list(self.repointed),
            "vanished": list(self.vanished),
        }


@lost_connections_told()
def release(
    lake: Lake,
    marts: Postgres,
    models: Sequence[Model],
    domain: str,
    interval: Interval,
    dag_run_id: str,
    snapshot_id: int,
    gates: Sequence[Mapping[str, Any]],
    code_version: str,
    allow_empty: Collection[str] = (),
    progress: Progress = lambda step: None,
) -> Release:
    """Publish and certify every mart of a domain as it was at a snapshot; repeatable.

    A snapshot that was released before is not published again; the views are brought up to the ledger either way.

    Args:
        models: the domain's marts (`dbt_project.marts`).
        gates: the JSON of each gate's result; all green, and one of them gate_gold on exactly this snapshot.
        allow_empty: marts that may lose all their rows with this release.

    Raises:
        ReleaseError: a precondition does not hold, or what arrived in Postgres is not what the lake has. Readers have
            the previous release.
    """
    summaries = _passed(domain, snapshot_id, gates)
    if not models:
        raise ReleaseError(f"Domain {domain} has no marts; a release publishes at least one.")
    ledger.ensure(marts)
    progress("waiting for other releases")
    # One DuckDB for all steps: opening the lake costs more than a small release does.
    with lake.open() as connection, ledger.lock(marts):
        last = ledger.last(marts, domain)
        if last is not None:
            healed = repoint(connection, last)
            existing = _released(marts, domain, snapshot_id)
            if existing is not None:
                return Release(existing, False, healed, _vanished(marts, last))
        require_snapshot(connection, snapshot_id)
        progress("comparing the marts' files with the catalog")
        _require_files(lake, models, snapshot_id)
        targets = [mart_of(connection, model, snapshot_id) for model in models]
        previous = _previous(marts)
        with transaction(connection, marts) as opened:
            published = _publish(opened, targets, snapshot_id, previous, allow_empty, progress)
            progress("writing the ledger")
            content = _content(
                ledger.RELEASE, domain, interval, dag_run_id, code_version, snapshot_id, summaries, published
            )
            entry = ledger.append(opened, content)
        progress("repointing the lake's views")
        return Release(entry, True, repoint(connection, entry), _vanished(marts, entry), tuple(published))


def republish(
    connection: duckdb.DuckDBPyConnection,
    marts: Postgres,
    models: Sequence[Model],
    target: Entry,
    dag_run_id: str,
    code_version: str,
    progress: Progress = lambda step: None,
) -> Release:
    """Publish again what an earlier entry recorded, as a rollback. The caller holds `ledger.lock`."""
    words = {model.name: model for model in models}
    targets = [with_words(Mart.of_record(name, record), words.get(name)) for name, record in target.marts.items()]
    expected = {name: ContentHash(record["rows"], record["sha256"]) for name, record in target.marts.items()}
    require_snapshot(connection, target.snapshot_id)
    previous = _previous(marts)
    with transaction(connection, marts) as opened:
        published = _publish(opened, targets, target.snapshot_id, previous, target.marts, progress, expected)
        content = _content(
            ledger.ROLLBACK,
            target.domain,
            target.interval,
            dag_run_id,
            code_version,
            target.snapshot_id,
            target.gates,
            published,
            target.release_id,
        )
        entry = ledger.append(opened, content)
    return Release(entry, True, repoint(connection, entry), _vanished(marts, entry), tuple(published))


@lost_connections_told()
def withdraw(
    lake: Lake,
    marts: Postgres,
    models: Sequence[Model],
    domain: str,
    dag_run_id: str,
    code_version: str,
    progress: Progress = lambda step: None,
) -> Release:
    """Take every row of a domain's marts from its readers, as the lake has none left; no gate can certify nothing.

    Raises:
        ReleaseError: a mart has rows, the domain was never released, or one of its marts has no model any more.
    """
    ledger.ensure(marts)
    progress("waiting for other releases")
    with lake.open() as connection, ledger.lock(marts):
        last = ledger.last(marts, domain)
        if last is None:
            raise ReleaseError(f"Domain {domain} was never released, so there is nothing to withdraw.")
        ((snapshot_id,),) = connection.execute("select max(snapshot_id) from dl.snapshots()").fetchall()
        targets = [mart_of(connection, model, snapshot_id) for model in models]
        orphans = sorted(last.marts.keys() - {mart.name for mart in targets})
        if orphans:
            raise ReleaseError(f"{', '.join(orphans)} of {domain} have no model any more, so their rows would stay.")
        with transaction(connection, marts) as opened:
            names = [mart.name for mart in targets]
            published = _publish(opened, targets, snapshot_id, _previous(marts), names, progress)
            full = sorted(item.mart.name for item in published if item.content.rows)
            if full:
                raise ReleaseError(
                    f"{', '.join(full)} of {domain} have rows; what has rows is released through its gates."
                )
            content = _content(
                ledger.WITHDRAWAL, domain, last.interval, dag_run_id, code_version, snapshot_id, [], published
            )
            entry = ledger.append(opened, content)
        return Release(entry, True, repoint(connection, entry), (), tuple(published))


def repoint(connection: duckdb.DuckDBPyConnection, entry: Entry) -> tuple[str, ...]:
    """Bring the views of a domain up to its last entry, in one lake transaction; the marts whose view was set."""
    pinned = pinned_views(connection)
    behind = [name for name in entry.marts if pinned.get(name) != (entry.snapshot_id, entry.release_id)]
    if not behind:
        return ()
    mark = literal(ledger.lake_mark(entry))
    with one_transaction(connection):
        connection.execute(f"create schema if not exists {ALIAS}.{MARTS_SCHEMA}")
        for name in behind:
            view = f"{ALIAS}.{MARTS_SCHEMA}.{identifier(name)}"
            connection.execute(f"create or replace view {view} as select * from {gold(name, entry.snapshot_id)}")
            # Survives the expiry of the snapshot whose commit message says the same.
            connection.execute(f"comment on view {view} is {mark}")
        message = literal(f"{entry.kind} {entry.release_id} of {entry.domain}")
        connection.execute(f"call {ALIAS}.set_commit_message('lakehouse', {message}, extra_info => {mark})")
    return tuple(behind)


def pinned_release(lake: Lake, domain: str) -> int | None:
    """The release that readers of the lake's views see; None before the first."""
    with lake.open(read_only=True) as connection:
        views = _views(connection)
    return max((view.mark["release_id"] for view in views if view.mark.get("domain") == domain), default=None)


def pinned_snapshot(connection: duckdb.DuckDBPyConnection, domain: str) -> int | None:
    """The snapshot that readers of the lake's views see of a domain; None before its first release."""
    shown = (view.snapshot for view in _views(connection) if view.mark.get("domain") == domain)
    return max((snapshot for snapshot in shown if snapshot is not None), default=None)


def _content(
    kind: str,
    domain: str,
    interval: Interval,
    dag_run_id: str,
    code_version: str,
    snapshot_id: int,
    gates: Sequence[Mapping[str, Any]],
    published: Sequence[Published],
    rolled_back_to: int | None = None,
) -> dict[str, Any]:
    """What the ledger keeps of what was published."""
    return {
        "kind": kind,
        "domain": domain,
        "interval_start": ledger.timestamp(interval.start),
        "interval_end": ledger.timestamp(interval.end),
        "dag_run_id": dag_run_id,
        "code_version": code_version,
        "snapshot_id": snapshot_id,
        "gates": gates,
        "marts": {item.mart.name: item.mart.as_record(item.content) for item in published},
        "rolled_back_to": rolled_back_to,
        "released_at": ledger.timestamp(datetime.now(UTC)),
    }


def _passed(domain: str, snapshot_id: int, gates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the ledger keeps of the gates.

    Raises:
        ReleaseError: one is red, empty or of another domain, or gate_gold did not look at this snapshot.
    """
    summaries = []
    for gate in gates:
        if not gate:
            raise ReleaseError(f"A gate of {domain} left no result, so nothing says that it passed; run it again.")
        name = gate["gate"]
        if gate["domain"] != domain:
            raise ReleaseError(f"{name} judged domain {gate['domain']}, and this is a release of {domain}.")
        if not gate["success"]:
            raise ReleaseError(f"{name} of {domain} is red; nothing is released until it passes.")
        if not gate["evaluated"]:
            raise ReleaseError(f"{name} of {domain} evaluated no check, which proves nothing; look at its suite.")
        kept = ("gate", "success", "snapshot_id", "evaluated", "dag_run_id", "results_sha256", "docs")
        warned = [finding["check"] if isinstance(finding, Mapping) else finding for finding in gate["warned"]]
        summaries.append({key: gate[key] for key in kept} | {"warned": warned})
    judged = [gate["snapshot_id"] for gate in gates if gate["gate"] == Layer.GOLD.gate]
    if snapshot_id not in judged:
        found = f"it judged snapshot {judged[0]}" if judged else "it was not given"
        raise ReleaseError(
            f"Snapshot {snapshot_id} of {domain} has not passed {Layer.GOLD.gate}: {found}. Run the gate again and "
            "release the snapshot that it judged."
        )
    return summaries


def _released(marts: Postgres, domain: str, snapshot_id: int) -> Entry | None:
    """The release of this snapshot if there is one.

    Raises:
        ReleaseError: a later snapshot was released.
    """
    releases = [entry for entry in ledger.entries(marts, domain) if entry.kind == ledger.RELEASE]
    for entry in releases:
        if entry.snapshot_id == snapshot_id:
            return entry
    newest = max(releases, key=lambda entry: entry.snapshot_id)
    if newest.snapshot_id > snapshot_id:
        raise ReleaseError(
            f"Snapshot {snapshot_id} is older than snapshot {newest.snapshot_id}, which release {newest.release_id} of "
            f"{domain} published; readers would go back. That release holds this run's data too. To go back on "
            "purpose, use `lake rollback`."
        )
    return None


def _require_files(lake: Lake, models: Sequence[Model], snapshot_id: int) -> None:
    """Every file that the marts are read from is in storage, whole.

    Raises:
        ReleaseError: one is not.
    """
    report = fsck.check(lake, tables={f"{Layer.GOLD}.{model.name}" for model in models}, snapshot=snapshot_id)
    if report.damage:
        raise ReleaseError(
            f"{len(report.damage)} files of snapshot {snapshot_id} are damaged, the first: {report.damage[0]}. Nothing "
            "was published. Run `lake fsck --repair`, rebuild the marts that it names, and release again."
        )


def _publish(
    opened: Transaction,
    targets: Sequence[Mart],
    snapshot_id: int,
    previous: Mapping[str, Mapping[str, Any]],
    allow_empty: Collection[str],
    progress: Progress,
    expected: Mapping[str, ContentHash] | None = None,
) -> list[Published]:
    published = []
    for mart in targets:
        progress(f"publishing {mart.name}")
        wanted = expected[mart.name] if expected else None
        published.append(publish(opened, mart, snapshot_id, previous.get(mart.name), wanted, mart.name in allow_empty))
    return published


def _previous(marts: Postgres) -> dict[str, dict[str, Any]]:
    """The last record of each mart that was ever published, of any domain: they share one schema."""
    return {name: record for entry in ledger.entries(marts) for name, record in entry.marts.items()}


def _vanished(marts: Postgres, entry: Entry) -> tuple[str, ...]:
    """Marts that earlier entries of the domain published and this one does not."""
    known = {name for other in ledger.entries(marts, entry.domain) for name in other.marts}
    return tuple(sorted(known - entry.marts.keys()))


def pinned_views(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[int, int | None]]:
    """The snapshot and the release that each view shows."""
    return {
        view.name: (view.snapshot, view.mark.get("release_id"))
        for view in _views(connection)
        if view.snapshot is not None
    }


@dataclass(frozen=True)
class _View:
    """A view of the marts: the snapshot that it pins, and what its release left as a comment; empty without one."""

    name: str
    snapshot: int | None
    mark: dict[str, Any]


def _views(connection: duckdb.DuckDBPyConnection) -> list[_View]:
    found = connection.execute(
        "select view_name, sql, comment from duckdb_views() where database_name = ? and schema_name = ?",
        [ALIAS, MARTS_SCHEMA],
    ).fetchall()
    views = []
    for name, text, comment in found:
        version = re.search(r"version\s*=>\s*(\d+)", text, re.IGNORECASE)
        views.append(_View(name, int(version[1]) if version else None, ledger.read_mark(comment or "") or {}))
    return views
