"""Sites to ingest from: Nightscout's behaviour by the demo server, misbehaviour by a scripted one."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import duckdb
import orjson
import pytest

from include.connections import Connection
from include.interval import Interval
from include.lake.attach import Lake
from include.local.nightscout import NightscoutSite, serve
from include.sources.http import Patience
from include.sources.nightscout.pipeline import IngestResult, ingest
from include.sources.nightscout.sites import Site
from include.sources.nightscout.streams import ENTRIES, Stream

QUICK = Patience(attempts=3, first_wait=0.01, longest_wait=0.05, longest_retry_after=5, connect=2, read=2)
DAY = date(2026, 11, 3)
ONE_DAY = Interval.of_days(DAY, date(2026, 11, 4))


def at(text: str) -> int:
    """Epoch ms of an ISO time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def reading(time: str, sgv: Any = 100, **fields: Any) -> dict[str, Any]:
    return {"type": "sgv", "date": at(time), "dateString": f"{time}Z", "sgv": sgv, "device": "share2", **fields}


@dataclass
class World:
    """Sites that are served, and a lake to ingest them into."""

    lake: Lake
    pipelines_dir: Path
    sites: list[Site] = field(default_factory=list)
    connections: dict[str, Connection] = field(default_factory=dict)
    reader: duckdb.DuckDBPyConnection | None = None

    def ingest(self, stream: Stream = ENTRIES, interval: Interval = ONE_DAY, **options: Any) -> IngestResult:
        options = {"lookback_days": 0, "patience": QUICK} | options
        return ingest(
            self.lake,
            stream,
            interval,
            options.pop("sites", self.sites),
            self.connections.__getitem__,
            pipelines_dir=self.pipelines_dir,
            **options,
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the lake answers now; opening it costs a third of a second, so it stays open."""
        if self.reader is None:
            self.reader = self.lake.open(read_only=True)
        return self.reader.execute(query).fetchall()

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    def content(self, stream: Stream = ENTRIES) -> list[tuple[Any, ...]]:
        """The whole table without what differs from load to load by design."""
        return self.rows(
            "select * exclude (load_seq, fetched_at, interval_start, interval_end, _dlt_load_id) "
            f"from bronze.{stream.table} order by all"
        )


@pytest.fixture
def world(lake: Lake, tmp_path: Path) -> Iterator[World]:
    world = World(lake, tmp_path / "pipelines")
    yield world
    world.close()


@pytest.fixture
def served(world: World) -> Iterator[Callable[..., World]]:
    """Serve demo sites and add them to the world."""
    stops = []

    def start(*sites: NightscoutSite, optional: Sequence[str] = ()) -> World:
        server = serve(sites)
        running = server.__enter__()
        stops.append(server)
        for name, text in running.connections().items():
            conn_id = name.removeprefix("AIRFLOW_CONN_").lower()
            world.connections[conn_id] = Connection.parse(conn_id, text)
        for site in sites:
            world.sites.append(
                Site(site.site, time_zone=site.time_zone, units=site.units, optional=site.site in optional)
            )
        return world

    yield start
    for server in stops:
        server.__exit__(None, None, None)


@dataclass(frozen=True)
class Asked:
    path: str
    query: dict[str, str]
    headers: dict[str, str]


Script = Callable[[Asked], tuple[int, bytes] | tuple[int, bytes, dict[str, str]] | Any]


@contextmanager
def scripted(script: Script) -> Iterator[tuple[str, list[Asked]]]:
    """A server that answers what `script` returns: (status, body[, headers]), or anything else as JSON."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            question = Asked(parts.path, dict(parse_qsl(parts.query)), {k.lower(): v for k, v in self.headers.items()})
            asked.append(question)
            answer = script(question)
            if not (isinstance(answer, tuple) and isinstance(answer[0], int)):
                answer = (200, orjson.dumps(answer))
            status, body, headers = (*answer, {})[:3]
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
