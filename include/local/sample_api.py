"""An API of made-up records, for a domain that reads one: what its `sample.py` is made with.

It answers each stream as the stream says that it is asked: path, bounds, pages, where the list is. Times are compared
as moments, and a request without the secret is refused.
"""

import json
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from include.interval import Interval
from include.local.sample import Place, Sample
from include.local.sample_rows import PSEUDONYM_KEY, Statements, rows_of
from include.sources.json_records import dump, moment_of
from include.sources.rest.streams import OPTIONS, Paginator, Stream, TimeFormat

Answer = tuple[int, dict[str, str], str]


@contextmanager
def sample_api(
    place: Place, domain: str, site: str, interval: Interval, statements: Statements, streams: Mapping[str, Stream]
) -> Iterator[Sample]:
    """An API on this machine until the block ends.

    Args:
        site: its id in the lake.
        statements: by stream, a query of DuckDB that gives its records.
    """
    records = {stream.path.strip("/"): (stream, rows_of(statements, stream.name)) for stream in streams.values()}
    with serve(records) as (url, secret):
        file = place.folder / f"{domain}_apis.yaml"
        file.write_text(f"apis:\n  - site: {site}\n")
        yield Sample(
            interval,
            {
                f"LAKE_{domain.upper()}_APIS": str(file),
                f"AIRFLOW_CONN_{domain.upper()}_{site.upper()}": json.dumps(
                    {"conn_type": "http", "host": url, "password": secret}
                ),
                f"AIRFLOW_CONN_{domain.upper()}_PSEUDONYM": json.dumps(
                    {"conn_type": "generic", "password": PSEUDONYM_KEY}
                ),
            },
        )


@contextmanager
def serve(records: Mapping[str, tuple[Stream, list[dict[str, Any]]]]) -> Iterator[tuple[str, str]]:
    """A server of lists, by path; gives its address and the bearer token that it asks for. Lists may change."""
    secret = secrets.token_urlsafe(24)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = self._answer()
            content = body.encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _answer(self) -> Answer:
            parts = urlsplit(self.path)
            if self.headers.get("Authorization") != f"Bearer {secret}":
                return 401, {}, '{"message": "unknown token"}'
            if (path := parts.path.strip("/")) not in records:
                return 404, {}, '{"message": "no such list"}'
            stream, listed = records[path]
            values = {name: found[0] for name, found in parse_qs(parts.query).items()}
            address = f"http://{self.headers['Host']}{parts.path}"
            return _page(stream, [each for each in listed if _is_asked(stream, each, values)], values, address)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", secret
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _is_asked(stream: Stream, record: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    at = record[stream.updated_at]
    since, until = (
        _moment(stream, values[name]) if name and name in values else None
        for name in (stream.since_param, stream.until_param)
    )
    return (since is None or at >= since) and (until is None or at < until)


def _moment(stream: Stream, text: str) -> datetime:
    if stream.bounds in (TimeFormat.ISO, TimeFormat.DATE):
        found = moment_of(text, stream.epoch)
        assert found is not None
        return found
    seconds = int(text) / (1 if stream.bounds is TimeFormat.SECONDS else 1000)
    return datetime.fromtimestamp(seconds, UTC)


def _page(stream: Stream, found: Sequence[Mapping[str, Any]], values: Mapping[str, str], address: str) -> Answer:
    """A page of the records, and what leads to the next, as the stream's paginator expects it."""
    options = {**OPTIONS[stream.paginator], **stream.paging}
    size, first = stream.page_size, 0
    match stream.paginator:
        case Paginator.SINGLE_PAGE:
            size = max(len(found), 1)
        case Paginator.OFFSET:
            first = int(values.get(options["offset_param"], 0))
        case Paginator.PAGE_NUMBER:
            first = (int(values.get(options["page_param"], options["base_page"])) - options["base_page"]) * size
        case Paginator.CURSOR:
            first = int(values.get(options["cursor_param"], 0))
        case _:
            first = int(values.get("after", 0))
    following = first + size if first + size < len(found) else None
    link = f"{address}?{urlencode({**values, 'after': following})}" if following else None
    answer: Any = [{name: _json(value) for name, value in each.items()} for each in found[first : first + size]]
    if stream.data != "$":
        answer = {stream.data.removeprefix("$."): answer, "total": len(found)}
        match stream.paginator:
            case Paginator.JSON_LINK:
                _put(answer, options["next_url_path"], link)
            case Paginator.CURSOR:
                _put(answer, options["cursor_path"], str(following) if following else None)
    headers = {"Link": f'<{link}>; rel="next"'} if link and stream.paginator is Paginator.HEADER_LINK else {}
    return 200, headers, dump(answer)


def _put(answer: dict[str, Any], path: str, value: Any) -> None:
    *folders, last = path.split(".")
    for folder in folders:
        answer = answer.setdefault(folder, {})
    answer[last] = value


def _json(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if isinstance(value, str | int | float | Decimal | bool | None) else str(value)
