"""Readers that read everything, all the time: whatever they see has to be one whole release."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import duckdb

from include.connections import Postgres
from include.errors import first_line
from include.lake.attach import identifier
from include.layers import MARTS_SCHEMA
from include.release import ledger
from include.release.certify import pinned_views
from include.release.content_hash import Field, content_hash
from include.release.transaction import Transaction, attach_marts
from tests.pipeline.flow import Flow

PAUSE_SECONDS = 0.2
FIRST_READ_SECONDS = 60


@dataclass
class Seen:
    """What readers saw. `releases` counts whole ones, `refused` answers that were errors: neither is a half."""

    releases: Counter[int] = field(default_factory=Counter)
    halves: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def reads(self) -> int:
        return self.releases.total() + len(self.halves)

    def require_whole(self) -> None:
        assert self.halves == [], f"{len(self.halves)} reads of {self.reads} saw a half: {self.halves[:3]}"
        assert self.reads, f"no reader saw a release, so nothing shows that it was whole; refused: {self.refused}"


class Readers:
    """Reads all marts in PostgreSQL, as the role that only reads, and all of the lake's views, until the block ends.

    Each read is one transaction, and each mart in it is hashed as the ledger hashes. Both places are read at least once
    before the block begins and once after it ended, if they answer. Start it after the first release.
    """

    def __init__(self, flow: Flow, *, lake: bool = True, pause: float = PAUSE_SECONDS) -> None:
        reader = flow.reader
        assert reader is not None, "this flow has no reading role"
        self.seen = Seen()
        self._stop, self._pause = threading.Event(), pause
        kinds: dict[str, Callable[[], _Reader]] = {"postgres": lambda: _PostgresReader(flow, reader)}
        if lake:
            kinds["lake"] = lambda: _LakeReader(flow)
        self._begun = {name: threading.Event() for name in kinds}
        self._threads = [
            threading.Thread(target=self._watch, args=(name, make), name=f"reader-{name}", daemon=True)
            for name, make in kinds.items()
        ]

    def __enter__(self) -> "Readers":
        for thread in self._threads:
            thread.start()
        for name, begun in self._begun.items():
            assert begun.wait(FIRST_READ_SECONDS), f"the reader of {name} has not read within {FIRST_READ_SECONDS} s"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(FIRST_READ_SECONDS)
            assert not thread.is_alive(), f"{thread.name} hangs"

    def _watch(self, name: str, make: Callable[[], "_Reader"]) -> None:
        reader: _Reader | None = None
        last = False
        while True:
            try:
                reader = reader or make()
                state = reader.read()
            except Exception as error:  # noqa: BLE001  a reader that is refused comes back, as people do
                self.seen.refused[f"{name}: {first_line(error)}"] += 1
                if reader is not None:
                    reader.close()
                reader = None
            else:
                if isinstance(state, int):
                    self.seen.releases[state] += 1
                elif state is not None:
                    self.seen.halves.append(f"{name}: {state}")
            self._begun[name].set()
            if last:
                break
            last = self._stop.wait(self._pause)
        if reader is not None:
            reader.close()


class _Reader:
    connection: duckdb.DuckDBPyConnection

    def read(self) -> int | str | None:
        """The release that was seen, None where nothing was released yet, or what is wrong with it."""
        raise NotImplementedError

    def close(self) -> None:
        self.connection.close()


class _PostgresReader(_Reader):
    def __init__(self, flow: Flow, reader: Postgres) -> None:
        self.connection = duckdb.connect(config={**flow.lake.config(), "threads": 1})
        self.connection.execute("load postgres_scanner; set TimeZone = 'UTC'")
        attach_marts(self.connection, reader, read_only=True)

    def read(self) -> int | str | None:
        self.connection.begin()
        try:
            opened = Transaction(self.connection)
            (entry,) = opened.query("select max(release_id) from ledger.releases")[0]
            if entry is None:
                return None
            (marts,) = opened.query(f"select marts::text from ledger.releases where release_id = {entry}")[0]
            wrong = _differences(
                self.connection,
                json.loads(marts),
                lambda name, columns: opened.relation(f"select {columns} from {MARTS_SCHEMA}.{identifier(name)}"),
            )
        finally:
            self.connection.rollback()
        return f"release {entry}, but {', '.join(wrong)} differs" if wrong else entry


class _LakeReader(_Reader):
    def __init__(self, flow: Flow) -> None:
        self.connection = flow.lake.open(read_only=True)
        self.connection.execute("set threads = 1")
        self._marts = flow.marts
        self._entries: dict[int, Any] = {}

    def read(self) -> int | str | None:
        self.connection.begin()
        try:
            views = pinned_views(self.connection)
            releases = {release for _, release in views.values()}
            if not views:
                return None
            if len(releases) != 1 or None in releases:
                return f"views show {views}"
            (release,) = releases
            marts = self._entry(release)
            if marts.keys() != views.keys():
                return f"release {release} has {sorted(marts)}, there are views {sorted(views)}"
            wrong = _differences(
                self.connection,
                marts,
                lambda name, columns: f"(select {columns} from {MARTS_SCHEMA}.{identifier(name)})",
            )
        finally:
            self.connection.rollback()
        return f"release {release}, but {', '.join(wrong)} differs" if wrong else release

    def _entry(self, release: int) -> dict[str, Any]:
        if release not in self._entries:
            self._entries[release] = ledger.entry(self._marts, release).marts
        return self._entries[release]


def _differences(
    connection: duckdb.DuckDBPyConnection, marts: dict[str, Any], relation: Callable[[str, str], str]
) -> list[str]:
    """The marts whose rows do not give the ledger's hash."""
    wrong = []
    for name, record in marts.items():
        fields = [Field(*column) for column in record["columns"]]
        columns = ", ".join(identifier(each.name) for each in fields)
        if content_hash(connection, relation(name, columns), fields, record["key"]).sha256 != record["sha256"]:
            wrong.append(name)
    return wrong
