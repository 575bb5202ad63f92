"""Who may delete the lake's files when: PostgreSQL advisory locks in the catalog's database, gone with their holder.

* What deletes files (`ducklake_cleanup_old_files`, `ducklake_delete_orphaned_files`, `CHECKPOINT`) does so inside
  `cleanup(catalog)`: one at a time, and never while somebody relies on files that a catalog he has read names.
* Who relies on them (a backup, a check of catalog against storage) works inside `no_cleanup(catalog)`: many at once.

Expiring snapshots, merging and rewriting only schedule files for deletion, and need neither.

Another lock of this kind keeps two `lake backfill` of one domain from starting the same runs.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from include.connections import Postgres
from include.errors import LakehouseError
from include.lake.passfile import use_passwords

# Any numbers will do as long as every version of this code uses the same.
FILES, BACKUPS = 5_205_311_964_770_101, 5_205_311_964_770_102
BACKFILL = 520_531_106
WAIT_SECONDS = 900


class LockError(LakehouseError):
    """Somebody else holds what this needs, or it was lost with the connection; later it may work."""

    retryable = True


class Held:
    """A lock that is held."""

    def __init__(self, connection: psycopg.Connection, what: str) -> None:
        self._connection, self._what = connection, what

    def check(self) -> None:
        """Make sure before relying on it: a lock goes with its connection, unnoticed.

        Raises:
            LockError: the connection was lost, and with it the lock.
        """
        try:
            self._connection.execute("select 1")
        except psycopg.Error as error:
            raise LockError(
                f"The connection that held {self._what} was lost, so it was not safe to go on; run this again."
            ) from error


def take(connection: psycopg.Connection, keys: Sequence[int], seconds: int, *, shared: bool = False) -> bool:
    """Wait for an advisory lock, held for as long as the connection lives; False if others had it for `seconds`.

    Args:
        keys: one number of 64 bits, or two of 32.
    """
    # Nothing happens on this connection for as long as the lock is held.
    connection.execute(f"set lock_timeout = '{seconds}s'; set idle_session_timeout = 0; set statement_timeout = 0")
    function, places = f"pg_advisory_lock{'_shared' if shared else ''}", ", ".join("%s" for _ in keys)
    try:
        connection.execute(f"select {function}({places})", keys)
    except psycopg.errors.LockNotAvailable:
        return False
    return True


@contextmanager
def no_cleanup(catalog: Postgres, seconds: int = WAIT_SECONDS) -> Iterator[Held]:
    """Keep every file of the lake where it is: no cleanup starts until this ends.

    Raises:
        LockError: a cleanup has been running for longer than `seconds`.
    """
    with _hold(catalog, [FILES], "the lake's files against a cleanup", seconds, shared=True) as held:
        yield held


@contextmanager
def cleanup(catalog: Postgres, seconds: int = WAIT_SECONDS) -> Iterator[Held]:
    """Hold the right to delete files of the lake; waits for backups and others inside `no_cleanup`.

    Raises:
        LockError: they have been running for longer than `seconds`; nothing may be deleted.
    """
    with _hold(catalog, [FILES], "the right to delete the lake's files", seconds) as held:
        yield held


@contextmanager
def one_backup(catalog: Postgres, seconds: int = WAIT_SECONDS) -> Iterator[Held]:
    """Hold the right to change the backup location: one backup, pruning or restore at a time.

    Raises:
        LockError: another has been running for longer than `seconds`.
    """
    with _hold(catalog, [BACKUPS], "the right to change the backups", seconds) as held:
        yield held


@contextmanager
def one_backfill(catalog: Postgres, domain: str) -> Iterator[Held]:
    """Be the only one that starts runs of a backfill of the domain; does not wait.

    Raises:
        LockError: somebody else does.
    """
    refusal = (
        f"Another `lake backfill {domain}` is under way and starts the next run when one has ended; wait for it, or "
        "stop it and give this command again. Nothing was started."
    )
    with _hold(catalog, [BACKFILL, half_key(domain)], f"the backfill of {domain}", 1, refusal) as held:
        yield held


def half_key(name: str) -> int:
    """The second of two numbers of 32 bits, for locks that differ by a name."""
    return zlib.crc32(name.encode()) - 2**31


@contextmanager
def _hold(
    catalog: Postgres, keys: Sequence[int], what: str, seconds: int, refusal: str = "", *, shared: bool = False
) -> Iterator[Held]:
    use_passwords(catalog)
    with psycopg.connect(catalog.conninfo(), autocommit=True) as connection:
        if not take(connection, keys, seconds, shared=shared):
            raise LockError(
                refusal
                or f"Another process has held {what} for {seconds} s (a backup, a cleanup or a restore); wait for it "
                "to end and run this again."
            )
        yield Held(connection, what)
