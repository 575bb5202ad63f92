"""Files are not deleted while somebody relies on them."""

import psycopg
import pytest

from include.lake.attach import Lake
from include.lake.locks import LockError, cleanup, no_cleanup, one_backfill, one_backup


def test_cleanup_waits_for_those_who_rely_on_the_files(lake: Lake) -> None:
    with no_cleanup(lake.catalog), no_cleanup(lake.catalog), pytest.raises(LockError, match="for 1 s"):
        cleanup(lake.catalog, seconds=1).__enter__()
    with cleanup(lake.catalog, seconds=1), pytest.raises(LockError), no_cleanup(lake.catalog, seconds=1):
        pass


def test_only_one_backup_runs(lake: Lake) -> None:
    with one_backup(lake.catalog), no_cleanup(lake.catalog), pytest.raises(LockError):
        one_backup(lake.catalog, seconds=1).__enter__()


def test_two_backfills_of_a_domain_do_not_start_runs_side_by_side(lake: Lake) -> None:
    with one_backfill(lake.catalog, "nightscout"):
        with pytest.raises(LockError, match="`lake backfill nightscout` is under way"):
            one_backfill(lake.catalog, "nightscout").__enter__()
        with one_backfill(lake.catalog, "saas"):
            pass
    with one_backfill(lake.catalog, "nightscout"):
        pass


def test_lock_that_went_with_its_connection_is_noticed(lake: Lake) -> None:
    with no_cleanup(lake.catalog) as held, psycopg.connect(lake.catalog.conninfo(), autocommit=True) as other:
        held.check()
        other.execute("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'")
        with pytest.raises(LockError, match="was lost"):
            held.check()
