"""A proxy in front of PostgreSQL that cuts connections, and loses the reply to a COMMIT that stuck."""

import re
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from include.connections import Postgres

COMMIT = re.compile(rb"\s*commit\b", re.IGNORECASE)
# What a DuckLake transaction says that added a Parquet file, or anything at all.
ADDS_FILES = b'INTO "ducklake".ducklake_data_file'
ADDS_SNAPSHOT = b'INTO "ducklake".ducklake_snapshot '
_READY = b"Z\x00\x00\x00\x05"  # ReadyForQuery, followed by the transaction's state


@dataclass(frozen=True)
class Trap:
    """What befalls a statement, once per trap.

    Args:
        statement: the statement that springs it.
        within: what the connection must have said since its last BEGIN; empty for anything.
        executed: whether the server still gets the statement, and only its reply is lost.
        away: seconds for which nobody gets in afterwards.
        after: how many such statements pass unharmed before.
    """

    statement: re.Pattern[bytes]
    within: bytes = b""
    executed: bool = True
    away: float = 0.0
    after: int = 0


@dataclass
class PostgresProxy:
    """Listens on a Unix socket of its own; what it is told befalls the connections that go through it."""

    target: Postgres
    folder: Path
    sprung: list[Trap] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._traps: list[Trap] = []
        self._open: set[_Link] = set()
        self._lock = threading.Lock()
        self._away_until = 0.0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / f".s.PGSQL.{self.target.port}"))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def of(self, database: Postgres) -> Postgres:
        """The same database, by way of this proxy."""
        return replace(database, host=str(self.folder))

    def lose_reply(self, within: bytes = b"", *, after: int = 0, away: float = 0.0) -> None:
        """Let a COMMIT of a transaction that said `within` stick, and its connection end without an answer."""
        self.set(Trap(COMMIT, within, after=after, away=away))

    def set(self, trap: Trap) -> None:
        with self._lock:
            self._traps.append(trap)

    def let_in(self) -> None:
        """Nobody is kept out any longer."""
        self._away_until = 0.0

    def close(self) -> None:
        self._listener.close()
        with self._lock:
            links = list(self._open)
        for link in links:
            link.close()

    # --- inside ---------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if time.monotonic() < self._away_until:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(Path(self.target.host) / f".s.PGSQL.{self.target.port}"))
            except OSError:
                client.close()
                server.close()
                continue
            link = _Link(self, client, server)
            with self._lock:
                self._open.add(link)
            threading.Thread(target=link.run, daemon=True).start()

    def _forget(self, link: "_Link") -> None:
        with self._lock:
            self._open.discard(link)

    def _springs(self, statement: bytes, transaction: bytes) -> Trap | None:
        with self._lock:
            for number, trap in enumerate(self._traps):
                if not trap.statement.match(statement) or trap.within not in transaction:
                    continue
                if trap.after:
                    self._traps[number] = replace(trap, after=trap.after - 1)
                    continue
                del self._traps[number]
                self.sprung.append(trap)
                self._away_until = time.monotonic() + trap.away
                return trap
        return None


class _Link:
    """One client and its connection to the server, in one thread."""

    def __init__(self, proxy: PostgresProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server

    def run(self) -> None:
        try:
            with suppress(OSError):
                self._pump()
        finally:
            self.close()
            self._proxy._forget(self)

    def close(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pump(self) -> None:
        waiting, started, transaction = b"", False, b""
        while True:
            ready, _, _ = select.select([self._client, self._server], [], [])
            if self._server in ready:
                answer = self._server.recv(65536)
                if not answer:
                    return
                self._client.sendall(answer)
            if self._client in ready:
                chunk = self._client.recv(65536)
                if not chunk:
                    return
                waiting += chunk
                while message := _first_message(waiting, started):
                    waiting = waiting[len(message) :]
                    if started and message[:1] in (b"Q", b"P"):
                        statement = message[5:]
                        if re.match(rb"\W*(begin|start transaction)\b", statement, re.IGNORECASE):
                            transaction = b""
                        transaction += statement
                        trap = self._proxy._springs(statement, transaction)
                        if trap:
                            if trap.executed:
                                self._server.sendall(message)
                                self._await_ready()
                            return
                    started = True
                    self._server.sendall(message)

    def _await_ready(self) -> None:
        answer = b""
        while _READY not in answer:
            chunk = self._server.recv(65536)
            if not chunk:
                return
            answer += chunk


def _first_message(data: bytes, started: bool) -> bytes:
    """The first whole message that a client sent; the very first has no type byte."""
    head = 1 if started else 0
    if len(data) < head + 4:
        return b""
    (length,) = struct.unpack("!I", data[head : head + 4])
    return data[: head + length] if len(data) >= head + length else b""


@contextmanager
def postgres_proxy(target: Postgres, folder: Path) -> Iterator[PostgresProxy]:
    """A proxy in front of the server of `target`; `folder` must be short enough for the path of a socket."""
    folder.mkdir(parents=True, exist_ok=True)
    proxy = PostgresProxy(target, folder)
    try:
        yield proxy
    finally:
        proxy.close()
