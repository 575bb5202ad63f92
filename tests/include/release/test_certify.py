"""A release is whole or did not happen, for every reader, whatever goes wrong."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.connections import Postgres, Storage
from include.errors import ReleaseError, SetupError
from include.lake.attach import Lake
from include.release import certify, ledger, publish
from tests.include.release.building import DAILY, HOURLY, Releasing, build, gate, lake_connection, whole, write

EMPTY_DAILY = "select 'a' as site, date '2026-11-01' as day, 0.0::double as mean where false"
EMPTY_HOURLY = "select 'a' as site, 0 as hour, 0::bigint as readings where false"


@pytest.fixture
def unreachable(tmp_path: Path) -> Releasing:
    """What is refused before anything is opened."""
    nowhere = Postgres(str(tmp_path), 1, "none", "nobody")
    return Releasing(Lake(nowhere, Storage(str(tmp_path)), tmp_path, tmp_path), nowhere)


def test_release_publishes_every_mart_and_pins_the_views(releasing: Releasing) -> None:
    snapshot = build(releasing.lake, 1)
    released = releasing.release(snapshot)
    build(releasing.lake, 2)
    assert (released.release_id, released.created) == (1, True)
    assert releasing.seen() == whole(1)
    assert set(released.entry.marts) == {"mrt_daily", "mrt_hourly"}
    assert released.entry.marts["mrt_daily"]["rows"] == 5
    assert released.entry.gates[1]["warned"] == ["late share"]
    assert certify.pinned_release(releasing.lake, "demo") == 1
    assert released.summary()["rows"] == {"mrt_daily": 5, "mrt_hourly": 24}


def test_next_release_replaces_only_rows_that_differ(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1, days=5))
    before = releasing.query("select ctid, day from marts.mrt_daily order by day")
    released = releasing.release(build(releasing.lake, 1, days=6))
    done = {item.mart.name: (item.replaced, item.written) for item in released.published}
    assert done == {"mrt_daily": (0, 1), "mrt_hourly": (0, 0)}
    assert releasing.query("select ctid, day from marts.mrt_daily order by day")[:5] == before


def test_withdrawal_leaves_readers_empty_marts_and_an_entry_that_says_so(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    with pytest.raises(ReleaseError, match="mrt_daily, mrt_hourly of demo have rows"):
        releasing.withdraw()
    assert releasing.seen() == whole(1)
    snapshot = write(releasing.lake, mrt_daily=EMPTY_DAILY, mrt_hourly=EMPTY_HOURLY)
    with pytest.raises(ReleaseError, match="mrt_hourly of demo have no model"):
        releasing.withdraw([DAILY])
    done = releasing.withdraw()
    assert (done.entry.kind, done.entry.gates, done.entry.snapshot_id) == ("withdrawal", [], snapshot)
    assert releasing.query("select count(*) from marts.mrt_daily") == [(0,)]
    assert releasing.view("select count(*) from dl.marts.mrt_hourly") == [(0,)]
    assert ledger.verify(releasing.marts, releasing.lake).entries == 2
    releasing.release(build(releasing.lake, 2))
    assert releasing.seen() == whole(2)


def test_what_was_never_released_is_not_withdrawn(releasing: Releasing) -> None:
    write(releasing.lake, mrt_daily=EMPTY_DAILY, mrt_hourly=EMPTY_HOURLY)
    with pytest.raises(ReleaseError, match="never released"):
        releasing.withdraw()


def test_rerun_of_the_same_snapshot_changes_nothing(releasing: Releasing) -> None:
    snapshot = build(releasing.lake, 1)
    first = releasing.release(snapshot)
    rows = releasing.query("select xmin, ctid, * from marts.mrt_daily order by day")
    snapshots = releasing.view("select count(*) from ducklake_snapshots('dl')")
    again = releasing.release(snapshot, dag_run_id="another")
    assert (again.entry, again.created, again.repointed) == (first.entry, False, ())
    assert releasing.query("select xmin, ctid, * from marts.mrt_daily order by day") == rows
    assert releasing.view("select count(*) from ducklake_snapshots('dl')") == snapshots


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"success": False}, "gate_gold of demo is red"),
        ({"evaluated": 0}, "evaluated no check"),
        ({"domain": "other"}, "judged domain other"),
        ({"snapshot_id": 1}, "has not passed gate_gold: it judged snapshot 1"),
        ({"gate": "gate_silver"}, "has not passed gate_gold: it was not given"),
    ],
)
def test_release_needs_a_green_gate_on_this_snapshot(
    unreachable: Releasing, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ReleaseError, match=message):
        unreachable.release(5, gates=[{**gate("gate_gold", 5), **change}])


def test_any_red_gate_stops_the_release(unreachable: Releasing) -> None:
    with pytest.raises(ReleaseError, match="gate_silver of demo is red"):
        unreachable.release(5, gates=[gate("gate_silver", 1, success=False), gate("gate_gold", 5)])
    with pytest.raises(ReleaseError, match="left no result"):
        unreachable.release(5, gates=[None, gate("gate_gold", 5)])
    with pytest.raises(ReleaseError, match="has no marts"):
        unreachable.release(5, models=[])


def test_older_snapshot_than_the_released_one_is_refused(releasing: Releasing) -> None:
    old, new = build(releasing.lake, 1), build(releasing.lake, 2)
    releasing.release(new)
    with pytest.raises(ReleaseError, match="older than snapshot"):
        releasing.release(old)
    assert releasing.seen() == whole(2)


def test_unknown_snapshot_is_named(releasing: Releasing) -> None:
    build(releasing.lake, 1)
    with pytest.raises(ReleaseError, match="no snapshot 999"):
        releasing.release(999)


def test_mart_that_left_the_project_is_kept_and_named(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    released = releasing.release(build(releasing.lake, 2), models=[DAILY])
    assert released.vanished == ("mrt_hourly",)
    seen = releasing.seen()
    assert seen["postgres hourly"] == seen["lake hourly"] == {1}
    assert seen["postgres daily"] == seen["lake daily"] == {2}
    assert len(ledger.pinned_snapshots(releasing.marts)) == 2


def test_mart_that_lost_all_rows_needs_leave(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    empty = build(releasing.lake, 2, days=0)
    with pytest.raises(ReleaseError, match="mrt_daily has no rows, and the previous release had 5"):
        releasing.release(empty)
    assert releasing.seen() == whole(1)
    assert releasing.release(empty, allow_empty=["mrt_daily"]).entry.marts["mrt_daily"]["rows"] == 0


def test_missing_reading_role_is_a_task_for_the_administrator(
    releasing: Releasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "READER", "nobody_has_this_role")
    with pytest.raises(SetupError, match="create role nobody_has_this_role"):
        releasing.release(build(releasing.lake, 1))


# --- readers while a release runs ---------------------------------------------------------------------------------


def test_readers_see_only_whole_releases_and_never_wait(releasing: Releasing) -> None:
    releasing.release(build(releasing.lake, 1))
    snapshots = [build(releasing.lake, version) for version in range(2, 6)]
    stop, seen, failures = threading.Event(), [], []

    def read() -> None:
        try:
            with psycopg.connect(releasing.marts.conninfo()) as connection:
                while not stop.is_set():
                    connection.execute("set transaction isolation level repeatable read")
                    connection.execute("set local lock_timeout = '200ms'")
                    daily = connection.execute("select count(*), min(mean), max(mean) from marts.mrt_daily").fetchone()
                    stop.wait(0.01)
                    hourly = connection.execute(
                        "select count(*), min(readings), max(readings) from marts.mrt_hourly"
                    ).fetchone()
                    connection.rollback()
                    seen.append((daily, hourly))
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    def read_lake() -> None:
        try:
            while not stop.is_set():
                with releasing.lake.open(read_only=True) as connection:
                    row = connection.execute(
                        "select count(distinct v), any_value(v) from "
                        "(select mean as v from dl.marts.mrt_daily union all select readings from dl.marts.mrt_hourly)"
                    ).fetchone()
                assert row is not None
                assert row[0] == 1
                stop.wait(0.05)
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    readers = [threading.Thread(target=read), threading.Thread(target=read_lake)]
    for reader in readers:
        reader.start()
    for snapshot in snapshots:
        releasing.release(snapshot)
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert len(seen) > 20
    for daily, hourly in seen:
        version = daily[1]
        assert daily == (5, version, version)
        assert hourly == (24, version, version)
    assert len({daily[1] for daily, _ in seen}) > 1


def test_two_releases_at_once_follow_each_other(releasing: Releasing) -> None:
    first, second = build(releasing.lake, 1), build(releasing.lake, 2)
    ledger.ensure(releasing.marts)
    outcomes: list[Any] = []

    def run(snapshot: int) -> None:
        try:
            outcomes.append(releasing.release(snapshot).entry.snapshot_id)
        except ReleaseError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=run, args=[snapshot]) for snapshot in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The older one comes first or is refused; either way the newer one is what readers see.
    assert second in outcomes
    assert first in outcomes or any("older than snapshot" in str(outcome) for outcome in outcomes)
    assert releasing.seen() == whole(2)
    assert ledger.verify(releasing.marts, releasing.lake).entries == len([o for o in outcomes if isinstance(o, int)])


def test_release_waits_no_longer_than_it_says(releasing: Releasing) -> None:
    ledger.ensure(releasing.marts)
    with (
        ledger.lock(releasing.marts),
        pytest.raises(ReleaseError, match="Another release has been running for 1 s"),
        ledger.lock(releasing.marts, seconds=1),
    ):
        pass


# --- a crash at every step ---------------------------------------------------------------------------------------

# Where the process dies, and which version Postgres and the lake's views are on then.
CRASHES = {
    "before the first mart": ("include.release.certify.publish", "before", (1, 1)),
    "between two marts": ("include.release.certify.publish", "after", (1, 1)),
    "rows deleted, none written": ("include.release.publish._delete_gone", "after", (1, 1)),
    "before the ledger": ("include.release.certify.ledger.append", "before", (1, 1)),
    "after the ledger, before commit": ("include.release.certify.ledger.append", "after", (1, 1)),
    "committed, views behind": ("include.release.certify.repoint", "before", (2, 1)),
    "views set, not committed": ("include.release.ledger.lake_mark", "after", (2, 1)),
    "all done, not returned": ("include.release.certify.repoint", "after", (2, 2)),
}


def _die(target: str, when: str) -> Callable[[Any], None]:
    """Make a function kill its process with SIGKILL, on the call that belongs to the second release."""

    def patch(monkey: pytest.MonkeyPatch) -> None:
        module, _, name = target.rpartition(".")
        import importlib

        parts, owner = module.split("."), None
        for end in range(len(parts), 0, -1):
            try:
                owner = importlib.import_module(".".join(parts[:end]))
            except ModuleNotFoundError:
                continue
            for part in parts[end:]:
                owner = getattr(owner, part)
            break
        original = getattr(owner, name)
        entered = []

        def dying(*args: Any, **kwargs: Any) -> Any:
            entered.append(args)
            healing = name == "repoint" and len(entered) == 1  # the release begins by looking after the views
            if healing:
                return original(*args, **kwargs)
            if when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            original(*args, **kwargs)
            return os.kill(os.getpid(), signal.SIGKILL)

        monkey.setattr(owner, name, dying)

    return patch


def _release_and_die(releasing: Releasing, snapshot: int, target: str, when: str) -> None:
    with pytest.MonkeyPatch.context() as monkey:
        _die(target, when)(monkey)
        releasing.release(snapshot)


@pytest.mark.parametrize("crash", CRASHES)
def test_kill_leaves_a_whole_release_and_the_next_run_completes_it(releasing: Releasing, crash: str) -> None:
    releasing.release(build(releasing.lake, 1))
    deleting = crash == "rows deleted, none written"  # which takes a release that keeps some rows
    snapshot = build(releasing.lake, 1, days=4) if deleting else build(releasing.lake, 2)
    target, when, (postgres, lake) = CRASHES[crash]
    lake_connection(releasing.lake).close()  # a fork does not take DuckDB's threads along
    lake_connection.cache_clear()
    child = multiprocessing.get_context("fork").Process(
        target=_release_and_die, args=(releasing, snapshot, target, when)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL, "the process did not reach the point where it was to die"
    if deleting:
        assert releasing.query("select count(*) from marts.mrt_daily") == [(5,)]
        assert releasing.release(snapshot).created
        assert releasing.query("select count(*) from marts.mrt_daily") == [(4,)]
    else:
        assert releasing.seen() == whole(postgres, lake)
        again = releasing.release(snapshot)
        assert again.created == (postgres == 1)
        assert releasing.seen() == whole(2)
    assert [entry.release_id for entry in ledger.entries(releasing.marts)] == [1, 2]
    assert ledger.verify(releasing.marts, releasing.lake).entries == 2
    assert certify.pinned_release(releasing.lake, "demo") == 2
    left = releasing.query("select relname from pg_class where relname = 'release_gone'")
    assert left == []


def test_next_release_first_completes_one_that_was_cut_off(
    releasing: Releasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    releasing.release(build(releasing.lake, 1))
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        calls = []

        def second_call_fails(*args: Any) -> Any:
            calls.append(args)
            if len(calls) == 2:
                raise RuntimeError
            return ()

        patch.setattr(certify, "repoint", second_call_fails)
        releasing.release(build(releasing.lake, 2))
    assert releasing.seen() == whole(2, 1)
    # The third release fails before it publishes, and still the second is complete.
    lake_connection(releasing.lake).execute("drop table dl.gold.mrt_daily")
    with pytest.raises(ReleaseError, match="mrt_daily is not in the lake"):
        releasing.release(write(releasing.lake, other="select 1 as a"))
    assert releasing.seen() == whole(2)


def meddle(releasing: Releasing, body: str) -> None:
    """A trigger that does something for each row that comes to mrt_daily."""
    releasing.query(
        f"create function public.meddle() returns trigger language plpgsql as $$ begin {body}; end $$;"
        "create trigger meddle before insert on marts.mrt_daily for each row execute function public.meddle()"
    )


@pytest.mark.parametrize("kind", ["rows", "values"])
def test_what_postgres_changes_on_the_way_is_never_published(releasing: Releasing, kind: str) -> None:
    releasing.release(build(releasing.lake, 1))
    meddle(releasing, "return null" if kind == "rows" else "new.mean = new.mean + 1e-9; return new")
    with pytest.raises(ReleaseError, match="Does the table have a trigger"):
        releasing.release(build(releasing.lake, 2))
    assert releasing.seen() == whole(1)
    assert ledger.verify(releasing.marts, releasing.lake).entries == 1
    releasing.query("drop trigger meddle on marts.mrt_daily")
    assert releasing.release(build(releasing.lake, 2)).release_id == 2  # no gap


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("another row", "update marts.mrt_daily set mean = mean + 1e-9 where day < new.day; return new"),
        ("another is gone", "delete from marts.mrt_daily where day = '2026-11-02'; return new"),
        ("the new row", "new.mean = new.mean + 1e-9; return new"),
        ("no new row", "return null"),
    ],
)
def test_what_postgres_changes_beside_the_rows_that_differ_is_never_published(
    releasing: Releasing, kind: str, body: str
) -> None:
    releasing.release(build(releasing.lake, 1, days=5))
    meddle(releasing, body)
    with pytest.raises(ReleaseError, match="Does the table have a trigger"):
        releasing.release(build(releasing.lake, 1, days=6))
    assert releasing.seen() == whole(1)
    assert releasing.query("select count(*) from marts.mrt_daily") == [(5,)]
    releasing.query("drop trigger meddle on marts.mrt_daily")
    assert releasing.release(build(releasing.lake, 1, days=6)).entry.marts["mrt_daily"]["rows"] == 6


def test_only_rows_that_differ_are_read_back(releasing: Releasing, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    published = publish._published
    monkeypatch.setattr(
        publish, "_published", lambda t, mart, *where: asked.append(mart.name) or published(t, mart, *where)
    )
    releasing.release(build(releasing.lake, 1, days=5))
    asked.clear()
    releasing.release(build(releasing.lake, 1, days=6))
    assert asked.count("mrt_daily") == 2  # as it was, and the row that came


def test_lost_connection_leaves_the_previous_release(releasing: Releasing, monkeypatch: pytest.MonkeyPatch) -> None:
    releasing.release(build(releasing.lake, 1))
    snapshot = build(releasing.lake, 2)
    append = ledger.append

    def cut(*args: Any) -> Any:
        entry = append(*args)
        releasing.query(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
            "and pid <> pg_backend_pid() and state = 'idle in transaction'"
        )
        return entry

    with monkeypatch.context() as patch, pytest.raises(Exception, match=r"terminating|closed"):
        patch.setattr(ledger, "append", cut)
        releasing.release(snapshot)
    assert releasing.seen() == whole(1)
    assert releasing.release(snapshot).release_id == 2
    assert releasing.seen() == whole(2)


def test_marts_of_another_domain_are_left_alone(releasing: Releasing) -> None:
    snapshot = build(releasing.lake, 1)
    releasing.release(snapshot, models=[DAILY])
    other = releasing.release(
        build(releasing.lake, 2),
        models=[HOURLY],
        domain="other",
        gates=[gate("gate_gold", snapshot + 2, domain="other")],
    )
    assert other.vanished == ()
    assert releasing.seen()["lake daily"] == {1}
    assert certify.pinned_release(releasing.lake, "demo") == 1
    assert certify.pinned_release(releasing.lake, "other") == 2
