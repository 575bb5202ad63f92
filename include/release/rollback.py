"""Going back to an earlier release of a domain, as a new entry of the ledger; nothing is ever taken out of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from include.connections import Postgres
from include.dbt_project import Model
from include.errors import ReleaseError
from include.lake.attach import Lake
from include.release import ledger
from include.release.certify import Release, repoint, republish
from include.release.ledger import Entry
from include.release.publish import Mart
from include.release.reproduce import read_content

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Change:
    """One mart: its rows now and after the rollback, and the columns that readers would gain and lose."""

    mart: str
    rows_now: int | None
    rows_then: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a rollback would do. `kept` are marts that the target does not hold: readers keep what they have."""

    current: Entry
    target: Entry
    changes: tuple[Change, ...]
    kept: tuple[str, ...]


def plan(lake: Lake, marts: Postgres, domain: str, release_id: int) -> Plan:
    """What `rollback` would do; reads the target's rows at its snapshot and compares them with the ledger.

    Raises:
        ReleaseError: there is no such release of the domain, readers are on it already, or its rows are gone.
    """
    current, target = _pair(marts, domain, release_id)
    changes = []
    with lake.open(read_only=True) as connection:
        for name in target.marts:
            read_content(connection, target, name)
    for name, record in target.marts.items():
        now = current.marts.get(name)
        then_columns = {column for column, _ in record["columns"]}
        now_columns = {column for column, _ in now["columns"]} if now else set()
        changes.append(
            Change(
                name,
                now["rows"] if now else None,
                record["rows"],
                tuple(sorted(then_columns - now_columns)),
                tuple(sorted(now_columns - then_columns)),
            )
        )
    return Plan(current, target, tuple(changes), tuple(sorted(current.marts.keys() - target.marts.keys())))


def rollback(
    lake: Lake,
    marts: Postgres,
    domain: str,
    release_id: int,
    *,
    models: Sequence[Model] = (),
    dag_run_id: str = "",
    code_version: str,
    progress: Progress = lambda step: None,
) -> Release:
    """Bring every reader of a domain back to what an earlier release published.

    The rows come from that release's snapshot and must hash to what the ledger says of them. Postgres changes in one
    transaction, then the lake's views, which takes milliseconds.

    Args:
        models: today's models, for the descriptions of columns; the shape comes from the ledger.
        dag_run_id: who or what rolled back; by default the run of the release that is gone back to.

    Raises:
        ReleaseError: see `plan`; or Postgres cannot be given back its earlier shape.
    """
    ledger.ensure(marts)
    with lake.open() as connection, ledger.lock(marts):
        current, target = _pair(marts, domain, release_id)
        repoint(connection, current)
        return republish(connection, marts, models, target, dag_run_id or target.dag_run_id, code_version, progress)


def _pair(marts: Postgres, domain: str, release_id: int) -> tuple[Entry, Entry]:
    target = ledger.entry(marts, release_id)
    if target.domain != domain:
        raise ReleaseError(f"Release {release_id} is one of {target.domain}, not of {domain}; see `lake releases`.")
    current = ledger.last(marts, domain)
    assert current is not None
    if (current.snapshot_id, current.marts.keys()) == (target.snapshot_id, target.marts.keys()):
        raise ReleaseError(
            f"Readers of {domain} are on release {release_id} already (snapshot {target.snapshot_id}); there is "
            "nothing to roll back."
        )
    for record in target.marts.values():
        Mart.of_record("check", record)
    return current, target
