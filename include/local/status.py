"""The state of the stack as facts: what is up, what is fresh, what is certified. Unknown is never good."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from include import runtime
from include import settings as environment
from include.errors import LakehouseError, first_line
from include.local import airflow_api, stack
from include.release.ledger import Entry

DOMAINS = ("nightscout",)
LATE = timedelta(hours=36)  # a day's release is due within hours after midnight UTC; a day and a half is late


@dataclass(frozen=True)
class State:
    """`good` is None where the check could not be made."""

    name: str
    good: bool | None
    detail: str


def collect() -> list[State]:
    """Every state, in the order in which an operator asks. Processes are listed where `up` has started some."""
    states = []
    if (environment.settings().home / "run").is_dir():
        left = stack.left_behind()
        states += [State(name, alive, _process(alive, left.get(name, 0))) for name, alive in stack.running().items()]
    states.append(_airflow())
    states.append(_lake())
    for domain in DOMAINS:
        states += _certified(domain)
    return states


def _process(alive: bool, left: int) -> str:
    if alive:
        return "runs"
    return (
        f"does not run, and left {left} processes; `lake up` mends it" if left else "does not run; `lake up` starts it"
    )


def _airflow() -> State:
    try:
        good = airflow_api.reachable(environment.connection("airflow_api"))
    except LakehouseError as error:
        return State("airflow api", None, str(error))
    return State("airflow api", good, stack.login().url if good else "does not answer; `make up` starts it")


def _lake() -> State:
    import duckdb

    try:
        with runtime.lake().open(read_only=True) as connection:
            row = connection.execute(
                "select max(snapshot_id), max(snapshot_time) from ducklake_snapshots('dl')"
            ).fetchone()
    except (LakehouseError, duckdb.Error) as error:
        return State("lake", False, first_line(error))
    assert row is not None
    return State("lake", True, f"snapshot {row[0]}, written {row[1]:%Y-%m-%d %H:%M} UTC")


def _certified(domain: str) -> list[State]:
    from include.release import certify, ledger

    try:
        entries = ledger.entries(runtime.marts(), domain)
    except (LakehouseError, psycopg.Error) as error:
        return [State(f"{domain} release", None, first_line(error))]
    if not entries:
        return [State(f"{domain} release", False, "none yet; `make demo` or `lake run` makes one")]
    last, until = entries[-1], covered_until(entries)
    detail = f"release {last.release_id} up to {until:%Y-%m-%d}, certified {last.released_at:%Y-%m-%d %H:%M} UTC"
    states = [State(f"{domain} release", datetime.now(UTC) - until < LATE, detail)]
    try:
        pinned = certify.pinned_release(runtime.lake(), domain)
    except LakehouseError as error:
        return [*states, State(f"{domain} views", None, first_line(error))]
    same = pinned == last.release_id
    detail = f"show release {pinned}" if same else f"show release {pinned}, the ledger says {last.release_id}"
    return [*states, State(f"{domain} views", same, detail)]


def covered_until(entries: Sequence[Entry]) -> datetime:
    """The end of the newest days that readers have; an old interval that was released last makes nothing older."""
    newest = entries[-1]
    visible = newest.rolled_back_to or newest.release_id
    return max(entry.interval_end for entry in entries if entry.kind == "release" and entry.release_id <= visible)
