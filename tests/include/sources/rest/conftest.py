"""A small API over real HTTP that can do all that APIs do, and all that they should not."""

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import pytest

from include.connections import Connection
from include.interval import Interval
from include.lake.attach import Lake
from include.sources.http import Patience
from include.sources.listing import Listed
from include.sources.rest.pipeline import ingest
from include.sources.rest.streams import Paginator, Stream
from include.sources.results import IngestResult

QUICK = Patience(attempts=3, first_wait=0.01, longest_wait=0.05, longest_retry_after=1.0, connect=2, read=0.5)
SECRET = "s3cr3t-0123456789"
ORDERS = Stream(
    "shop",
    "orders",
    "orders",
    ("id",),
    "updated_at",
    day="created_at",
    since_param="since",
    until_param="until",
    data="data",
    paginator=Paginator.CURSOR,
    page_size=2,
    page_size_param="limit",
    types={"total": "DECIMAL(12,2)"},
)
CURSOR = dataclasses.replace(ORDERS, paging={"cursor_param": "after"})
EVENTS = Stream("shop", "events", "events", ("id",), "at", since_param="since", until_param="until")

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Question:
    path: str
    values: dict[str, str]
    headers: dict[str, str]


@dataclass
class Api:
    """Lists of records by path; `fault` may answer a request in their place."""

    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    fault: Callable[[Question], Reply | None] = lambda _: None
    asked: list[Question] = field(default_factory=list)
    url: str = ""
    authorization: tuple[str, str] = ("authorization", f"Bearer {SECRET}")

    def answer(self, question: Question) -> Reply:
        self.asked.append(question)
        if (reply := self.fault(question)) is not None:
            return reply
        name, value = self.authorization
        if question.headers.get(name) != value:
            return 401, {}, b'{"message": "who are you"}'
        path = question.path.strip("/")
        if path not in self.lists:
            return 404, {}, b'{"error": "no such list"}'
        found = self.lists[path]
        values = question.values
        for bound, keeps in (("since", lambda one, at: one >= at), ("until", lambda one, at: one < at)):
            if bound in values:
                found = [each for each in found if keeps(each.get("updated_at") or each["at"], values[bound])]
        return page(found, path, values, self.url)


def page(found: list[dict[str, Any]], path: str, values: dict[str, str], url: str) -> Reply:
    """A page of records: by `after` (a cursor), `page`, or `offset`, whichever is asked for."""
    size = int(values.get("limit", 1000))
    first = int(values.get("after") or values.get("offset") or (int(values.get("page", 1)) - 1) * size)
    records, rest = found[first : first + size], found[first + size :]
    there = f"{url}/{path}?limit={size}&after={first + size}" if rest else None
    answer = {
        "data": records,
        "cursors": {"next": str(first + size) if rest else None},
        "next": there,
        "total": len(found),
    }
    headers = {"Link": f'<{there}>; rel="next"'} if there else {}
    return 200, headers, dumped(answer if path != "events" else records)


def dumped(answer: Any) -> bytes:
    """JSON in which a text like `=1.10` is a number with just these digits."""
    text = json.dumps(answer)
    while '"=' in text:
        before, _, after = text.partition('"=')
        number, _, after = after.partition('"')
        text = before + number + after
    return text.encode()


def handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            values = {key: value[0] for key, value in parse_qs(parts.query).items()}
            headers = {key.lower(): value for key, value in self.headers.items()}
            status, more, body = api.answer(Question(parts.path, values, headers))
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | more).items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(BrokenPipeError):  # whoever asked has lost patience
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api({"orders": [], "events": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(api))
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield api
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class World:
    """An API and a lake that it is loaded into."""

    api: Api
    lake: Lake
    pipelines_dir: Path
    apis: list[Listed] = field(default_factory=lambda: [Listed("north", "shop_north")])
    connections: dict[str, Connection] = field(default_factory=dict)
    watch: duckdb.DuckDBPyConnection | None = None

    def ingest(self, interval: Interval, stream: Stream = ORDERS, **options: Any) -> IngestResult:
        return ingest(
            options.pop("lake", self.lake),
            stream,
            interval,
            options.pop("apis", self.apis),
            self.connections.__getitem__,
            pipelines_dir=self.pipelines_dir,
            patience=QUICK,
            **options,
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the lake answers now."""
        if self.watch is None:
            self.watch = self.lake.open(read_only=True)
        return self.watch.execute(query).fetchall()

    def live(self, columns: str = "record_id, interval_date", table: str = "shop_orders") -> list[tuple[Any, ...]]:
        """Records that the API has still, in order."""
        return self.rows(
            f"select {columns} from bronze.{table} where record_id is not null and source_deleted_at is null "
            "order by record_id"
        )

    def windows(self, table: str = "shop_orders") -> dict[int, int]:
        found = self.rows(
            f"select extract(day from interval_date), window_records from bronze.{table} where record_id is null"
        )
        assert len(dict(found)) == len(found)
        return dict(found)


@pytest.fixture
def world(api: Api, lake: Lake, tmp_path: Path) -> Iterator[World]:
    world = World(api, lake, tmp_path / "pipelines")
    world.connections["shop_north"] = Connection("shop_north", host=api.url, password=SECRET)
    yield world
    if world.watch is not None:
        world.watch.close()


def order(number: int, created: int, updated: int | None = None, **values: Any) -> dict[str, Any]:
    """An order of November 2026, made and changed at noon of these days."""
    return {
        "id": number,
        "total": "=9.99",
        "created_at": moment(created),
        "updated_at": moment(updated or created),
    } | values


def days(first: int, end: int) -> Interval:
    """Days of November 2026, the end exclusive."""
    return Interval.of_days(date(2026, 11, first), date(2026, 11, end))


def moment(day: int, hour: int = 12) -> str:
    return f"2026-11-{day:02}T{hour:02}:00:00Z"
