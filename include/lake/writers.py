"""Maintenance never beside writers: an advisory lock in the catalog's database, which writers share.

Whoever opens the lake for writing holds its share for as long as the connection lives, so no writer can forget it. dbt
opens the lake by itself: whoever starts it calls `hold`. A killed process gives its lock up with its connection.
"""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from include.errors import LakehouseError

if TYPE_CHECKING:
    import psycopg

    from include.lake.attach import Lake

# Any number will do as long as every version of this code uses the same; the second half is the catalog's schema.
_LOCK = 520_531_104
WRITER_SECONDS = 1800
# A waiting maintenance makes writers that come later wait behind it, so it must not wait for long.
MAINTENANCE_SECONDS = 600


class BusyError(LakehouseError):
    """Writers and maintenance met; later it works."""

    retryable = True


@dataclass
class _Session:
    """This process's lock on one lake. Shared by all that it writes: a second request could wait for itself."""

    connection: "psycopg.Connection"
    holders: list[weakref.ref] = field(default_factory=list)

    def in_use(self) -> bool:
        return any(_is_open(holder()) for holder in self.holders)


@dataclass
class _Process:
    pid: int = field(default_factory=os.getpid)
    sessions: dict[tuple[str, str], _Session] = field(default_factory=dict)


_mutex = threading.RLock()
_process = _Process()


def hold(lake: "Lake", holder: object) -> None:
    """Hold the writer's share for as long as `holder` lives; inside `maintaining` of this process, be part of it.

    Raises:
        BusyError: maintenance has been running for longer than half an hour.
    """
    key = _key(lake)
    with _mutex:
        session = _sessions().get(key)
        if session is None:
            session = _sessions()[key] = _Session(_lock(lake, WRITER_SECONDS, shared=True))
        pid = os.getpid()
        session.holders.append(weakref.ref(holder, lambda _: _release(key, session, pid)))


@contextmanager
def writing(lake: "Lake") -> Iterator[None]:
    """Hold the writer's share for a program that is started here and opens the lake by itself."""

    class Holder: ...

    holder = Holder()
    hold(lake, holder)
    yield


@contextmanager
def maintaining(lake: "Lake", seconds: int = MAINTENANCE_SECONDS) -> Iterator[None]:
    """Be alone with the lake; no other process opens it for writing until this ends.

    Raises:
        BusyError: somebody has been writing for longer than `seconds`, this process among them.
    """
    key = _key(lake)
    with _mutex:
        mine = _sessions().get(key)
        if mine is not None:
            if mine.in_use():
                raise BusyError("This process writes the lake itself; close its connections before maintenance.")
            _end(key, mine)  # somebody still refers to a connection that was closed
        session = _sessions()[key] = _Session(_lock(lake, seconds))
        session.holders.append(weakref.ref(session))
    try:
        yield
        session.connection.execute("select 1")  # a lost connection was a lost lock
    finally:
        with _mutex:
            _end(key, session)


def _lock(lake: "Lake", seconds: int, *, shared: bool = False) -> "psycopg.Connection":
    import psycopg

    from include.lake.locks import half_key, take
    from include.lake.passfile import use_passwords

    use_passwords(lake.catalog)
    connection = psycopg.connect(lake.catalog.conninfo(), autocommit=True)
    try:
        if not take(connection, [_LOCK, half_key(lake.metadata_schema)], seconds, shared=shared):
            who, other = ("A writer", "maintenance") if shared else ("Maintenance", "writers")
            raise BusyError(
                f"{who} of the lake waited {seconds} s for {other} to end; nothing was changed. Try again later: "
                "Airflow's running tasks, and `select * from pg_locks where locktype = 'advisory'`, show who it is."
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _release(key: tuple[str, str], session: _Session, pid: int) -> None:
    if pid != os.getpid():  # a fork inherits the reference, not the lock
        return
    with _mutex:
        if _sessions().get(key) is session and all(holder() is None for holder in session.holders):
            _end(key, session)


def _end(key: tuple[str, str], session: _Session) -> None:
    if _sessions().get(key) is session:
        del _sessions()[key]
    session.connection.close()


def _is_open(holder: object) -> bool:
    import duckdb

    if not isinstance(holder, duckdb.DuckDBPyConnection):
        return holder is not None
    try:
        holder.cursor().close()
    except duckdb.ConnectionException:
        return False
    return True


def _sessions() -> dict[tuple[str, str], _Session]:
    global _process
    if _process.pid != os.getpid():
        _process = _Process()
    return _process.sessions


def _key(lake: "Lake") -> tuple[str, str]:
    return lake.catalog.conninfo(), lake.metadata_schema
