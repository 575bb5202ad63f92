"""Maintenance and writers keep out of each other's way, whoever starts first."""

import psycopg
import pytest

from include.lake import writers
from include.lake.attach import Lake
from include.lake.writers import BusyError, maintaining, writing


@pytest.fixture
def elsewhere(lake: Lake):
    """Take a lock as another process does: by a session of its own."""
    sessions = []

    def take(*, shared: bool) -> None:
        sessions.append(writers._lock(lake, 1, shared=shared))

    yield take
    for session in sessions:
        session.close()


def test_maintenance_waits_for_a_writer_and_then_says_so(lake: Lake, elsewhere) -> None:
    elsewhere(shared=True)
    with pytest.raises(BusyError, match="waited 1 s for writers") as raised, maintaining(lake, seconds=1):
        pass
    assert raised.value.retryable


def test_writers_wait_for_maintenance_and_readers_do_not(
    lake: Lake, elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.open().close()
    elsewhere(shared=False)
    monkeypatch.setattr(writers, "WRITER_SECONDS", 1)
    with pytest.raises(BusyError, match="waited 1 s for maintenance"):
        lake.open()
    with pytest.raises(BusyError), writing(lake):
        pass
    assert lake.open(read_only=True).execute("select 1").fetchone() == (1,)


def test_share_ends_with_the_connection_that_writes(lake: Lake, elsewhere) -> None:
    with lake.open() as one, lake.open() as other:
        assert one.execute("select 1").fetchone() == other.execute("select 1").fetchone()
        with pytest.raises(BusyError, match="This process"), maintaining(lake):
            pass
    del one, other
    with maintaining(lake, seconds=1), lake.open() as own:
        own.execute("create schema dl.made_by_maintenance")
    elsewhere(shared=False)


def test_closed_connection_that_somebody_still_refers_to_is_no_writer(lake: Lake) -> None:
    kept = lake.open()
    kept.close()
    with maintaining(lake, seconds=1):
        pass
    with lake.open() as again, pytest.raises(BusyError), maintaining(lake, seconds=1):
        again.execute("select 1")


def test_program_that_opens_the_lake_by_itself_is_a_writer(lake: Lake, elsewhere) -> None:
    with writing(lake), pytest.raises(BusyError):
        elsewhere(shared=False)
    elsewhere(shared=False)


def test_lost_lock_is_an_error_of_the_maintenance(lake: Lake) -> None:
    with (
        psycopg.connect(lake.catalog.conninfo(), autocommit=True) as other,
        pytest.raises(psycopg.OperationalError),
        maintaining(lake),
    ):
        other.execute(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' "
            "and database = (select oid from pg_database where datname = current_database())"
        )
