"""The sites over HTTP: routes, status codes and shapes of API v1, v2 (tokens) and v3, one thread a connection."""

import errno
import hmac
import os
import re
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import orjson

from include.errors import SetupError
from include.local.nightscout import sites_file
from include.local.nightscout.faults import Fault
from include.local.nightscout.query import (
    MIN_TIMESTAMP,
    Condition,
    QueryError,
    iso,
    parse_int,
    text_or_pattern,
    to_milliseconds,
    v1_find,
    v3_filter,
)
from include.local.nightscout.store import COLLECTIONS, TIME_FIELD, NightscoutSite, Request, View, as_v3

V3_MAX_LIMIT = 1000
DEFAULT_WINDOW_MS = 4 * 86_400_000
"""How far back API v1 looks when a question has no bound on the collection's time."""
SECRET_PARAMETERS = frozenset({"token", "secret"})
LOOPBACK = "127.0.0.1"
ANYWHERE = "0.0.0.0"  # noqa: S104

_JSON = "application/json; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_TYPED: dict[str, dict[str, Callable[[str], Any]]] = {
    "entries": dict.fromkeys(("date", "sgv", "filtered", "unfiltered", "rssi", "noise", "mbg"), parse_int),
    "treatments": dict.fromkeys(("insulin", "carbs", "glucose"), parse_int)
    | dict.fromkeys(("notes", "eventType", "enteredBy"), text_or_pattern),
    "devicestatus": {"date": parse_int, "sgv": parse_int},
    "profile": {"date": parse_int, "sgv": parse_int},
}


@dataclass(frozen=True)
class Answer:
    """What goes back to the client; `page_of` names the collection of a list, for faults that concern lists."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    page_of: str | None = None


@dataclass(frozen=True)
class Question:
    """A GET request to one site; `path` starts after the site."""

    path: str
    parameters: list[tuple[str, str]]
    headers: Mapping[str, str]
    unbounded: bool = False

    def value(self, name: str) -> str | None:
        return next((text for key, text in self.parameters if key == name and text), None)


def answer(site: NightscoutSite, question: Question) -> Answer:
    """What the site says, faults aside."""
    parts = [unquote(part) for part in question.path.strip("/").split("/")]
    match parts:
        case ["api", "v1", *rest] if rest:
            return _v1(site, question, rest)
        case ["api", "v2", "authorization", "request", token]:
            issued = site.issue_jwt(token)
            return _unauthorised_v1() if issued is None else _json(issued)
        case ["api", "v3", *rest] if rest and site.v3:
            return _v3(site, question, rest)
        case ["api", "versions"]:
            paths = {"1.0.0": "/api/v1", "2.0.0": "/api/v2"} | ({"3.0.5": "/api/v3"} if site.v3 else {})
            return _json([{"version": version, "url": url} for version, url in paths.items()])
    return not_found(question.path)


def not_found(path: str) -> Answer:
    """The page that Nightscout's web framework gives for a path that nothing serves."""
    safe = re.sub(r"[^\w/.-]", "", path)
    page = f'<!DOCTYPE html>\n<html lang="en">\n<body>\n<pre>Cannot GET {safe}</pre>\n</body>\n</html>\n'
    return Answer(HTTPStatus.NOT_FOUND, page.encode(), _HTML)


# API v1


def _v1(site: NightscoutSite, question: Question, parts: list[str]) -> Answer:
    name, _, extension = parts[-1].partition(".")
    parts = [*parts[:-1], name]
    collection = {"profiles": "profile"}.get(parts[0], parts[0])
    admin = _is_admin(site, question)
    known = admin or _has_token(site, question)
    allowed = known and (collection not in COLLECTIONS or site.may_read(collection, admin=admin))
    if collection not in (*COLLECTIONS, "status", "verifyauth"):
        return not_found(question.path)
    if parts == ["verifyauth"]:
        return _json({"status": 200, "message": _rights_v1(site, known=known, admin=admin)})
    if not allowed:
        return _unauthorised_v1()
    try:
        match parts:
            case ["status"]:
                return _json(_status_v1(site))
            case ["entries"]:
                return _list_v1(site, question, "entries", [], 10, tabbed=_wants_text(question, extension))
            case ["entries", "current"]:
                view = site.view("entries")
                return _page_v1(view, view.documents[-1:])
            case ["entries", spec] if re.fullmatch(r"[0-9a-f]{24}", spec):
                view = site.view("entries")
                found = view.find([Condition("_id", "eq", spec)])
                return _page_v1(view, found) if found else _mongo_error(f"No such id: '{spec}'")
            case ["entries", kind]:
                return _list_v1(site, question, "entries", [Condition("type", "eq", kind)], 10)
            case ["treatments"]:
                bounded = any(key.startswith("find[") for key, _ in question.parameters)
                return _list_v1(site, question, "treatments", [], 1000 if bounded else 100)
            case ["devicestatus" | "profiles"]:
                return _list_v1(site, question, collection, [], 10)
            case ["profile"]:
                view = site.view("profile")
                return _page_v1(view, view.documents[::-1][: _count(question, 10)])
            case ["profile", "current"]:
                view = site.view("profile")
                return Answer(HTTPStatus.OK, view.v1_json(view.documents[-1:])[1:-1] or b"null")
    except QueryError as problem:
        return _mongo_error(str(problem))
    return not_found(question.path)


def _list_v1(
    site: NightscoutSite,
    question: Question,
    collection: str,
    conditions: list[Condition],
    default_count: int,
    *,
    tabbed: bool = False,
) -> Answer:
    time_field = TIME_FIELD[collection]
    epoch = collection == "entries"
    given = v1_find(question.parameters, typed=_TYPED[collection], date_field=time_field)
    fixed = {condition.field for condition in conditions}
    wanted = [condition for condition in given if condition.field not in fixed] + conditions
    if not {time_field, "dateString", "_id"} & {condition.field for condition in wanted}:
        since = site.now() - DEFAULT_WINDOW_MS
        wanted.append(Condition(time_field, "gte", since if epoch else iso(since)))
    if question.unbounded:
        wanted = [condition for condition in wanted if not condition.bounds]
    view = site.view(collection)
    found = view.find(wanted, descending=True, limit=_count(question, default_count))
    if tabbed:
        lines = ["\t".join(_cell(row, name) for name in ("dateString", "date", "sgv", "direction")) for row in found]
        return Answer(HTTPStatus.OK, "\r\n".join(lines).encode(), "text/plain; charset=utf-8")
    return _page_v1(view, found)


def _page_v1(view: View, documents: list[dict[str, Any]]) -> Answer:
    headers = {}
    if documents and view.collection in ("entries", "treatments"):
        moment = to_milliseconds(str(documents[0].get(TIME_FIELD[view.collection], "")))
        if moment is not None:
            headers["Last-Modified"] = _http_date(moment)
    return Answer(HTTPStatus.OK, view.v1_json(documents), headers=headers, page_of=view.collection)


def _rights_v1(site: NightscoutSite, *, known: bool, admin: bool) -> Any:
    message = "OK" if known else "UNAUTHORIZED"
    if not site.v3:
        return message
    found = "FOUND" if known else "NOTFOUND"
    return {"canRead": known, "canWrite": admin, "isAdmin": admin, "message": message, "rolefound": found}


def _status_v1(site: NightscoutSite) -> dict[str, Any]:
    now = site.now()
    return {
        "status": "ok",
        "name": "nightscout",
        "version": _version(site),
        "serverTime": iso(now),
        "serverTimeEpoch": now,
        "apiEnabled": True,
        "careportalEnabled": True,
        "boluscalcEnabled": True,
        "settings": {"units": "mmol" if site.units == "mmol/l" else "mg/dl", "timeFormat": 24, "language": "en"},
        "extendedSettings": {},
        "authorized": None,
        "runtimeState": "loaded",
    }


def _count(question: Question, default: int) -> int | None:
    """Upstream takes `count=0`, or a text, for no limit."""
    text = question.value("count")
    if text is None:
        return default
    return int(text) if re.fullmatch(r"\s*\d+\s*", text) and int(text) > 0 else None


def _wants_text(question: Question, extension: str) -> bool:
    return extension in ("txt", "tsv") or (extension != "json" and "json" not in question.headers.get("accept", ""))


def _cell(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return "" if value is None else str(value)


def _is_admin(site: NightscoutSite, question: Question) -> bool:
    given = question.value("secret") or question.headers.get("api-secret", "")
    return site.accepts_secret(given)


def _has_token(site: NightscoutSite, question: Question) -> bool:
    bearer = _bearer(question)
    if bearer:
        return site.accepts_jwt(bearer)
    # A client may also send its access token where the secret goes.
    given = question.value("token") or question.headers.get("api-secret", "")
    return site.issue_jwt(given) is not None


def _bearer(question: Question) -> str:
    scheme, _, text = question.headers.get("authorization", "").partition(" ")
    return text.strip() if scheme == "Bearer" else ""


def _unauthorised_v1() -> Answer:
    return _json({"status": 401, "message": "Unauthorized", "description": "Invalid/Missing"}, HTTPStatus.UNAUTHORIZED)


def _mongo_error(description: str) -> Answer:
    error = {"status": 500, "message": "Mongo Error", "description": description}
    return _json(error, HTTPStatus.INTERNAL_SERVER_ERROR)


# API v3


def _v3(site: NightscoutSite, question: Question, parts: list[str]) -> Answer:
    collection = parts[0]
    if parts == ["version"]:
        return _result(_version_v3(site))
    if collection not in (*COLLECTIONS, "food", "settings", "status", "lastModified"):
        return _refuse(HTTPStatus.NOT_FOUND, "Bad operation or collection")
    bearer, token = _bearer(question), question.value("token")
    if not bearer and not token:
        return _refuse(HTTPStatus.UNAUTHORIZED, "Missing or bad access token or JWT")
    if not (site.accepts_jwt(bearer) if bearer else site.issue_jwt(token or "")):
        return _refuse(HTTPStatus.UNAUTHORIZED, "Bad access token or JWT")
    if parts == ["status"]:
        readable = [name for name in (*COLLECTIONS, "food") if site.may_read(name, admin=False)]
        return _result(_version_v3(site) | {"apiPermissions": dict.fromkeys(readable, "r")})
    if parts == ["lastModified"]:
        return _result({"srvDate": site.now(), "collections": _last_modified(site)})
    if collection == "settings":
        return _refuse(HTTPStatus.FORBIDDEN, "Missing permission api:settings:admin")
    if not site.may_read(collection, admin=False):
        return _refuse(HTTPStatus.FORBIDDEN, f"Missing permission api:{collection}:read")
    try:
        match parts:
            case [_]:
                return _search_v3(site, question, collection)
            case [_, "history"]:
                return _history_v3(site, question, collection, None)
            case [_, "history", since]:
                return _history_v3(site, question, collection, since)
            case [_, identifier]:
                return _read_v3(site, question, collection, identifier)
    except QueryError as problem:
        return _refuse(HTTPStatus.BAD_REQUEST, str(problem))
    return _refuse(HTTPStatus.NOT_FOUND, "Bad operation or collection")


def _search_v3(site: NightscoutSite, question: Question, collection: str) -> Answer:
    conditions = v3_filter(question.parameters)
    if question.unbounded:
        conditions = [condition for condition in conditions if not condition.bounds]
    ascending, descending = question.value("sort"), question.value("sort$desc")
    if ascending and descending:
        raise QueryError("Parameters sort and sort_desc cannot be combined")
    limit, skip = _limit(question), _skip(question)
    fields = [name for name in (ascending or descending, "identifier", "created_at", "date") if name]
    view = site.view(collection)
    conditions.append(Condition("isValid", "ne", False))
    found = view.find(conditions, fields, descending=bool(descending), skip=skip, limit=limit)
    return _page_v3(view, question, found)


def _history_v3(site: NightscoutSite, question: Question, collection: str, since: str | None) -> Answer:
    """Every change after a moment, deletions too; what API v1 uploaded has no srvModified and is not in it."""
    if since is not None:
        moment, operator = to_milliseconds(since), "gt"
    else:
        moment, operator = to_milliseconds(question.headers.get("last-modified", "")), "gte"
        moment = None if moment is None else moment - moment % 1000
    if moment is None:
        raise QueryError("Bad or missing Last-Modified header/parameter")
    limit = _limit(question)
    conditions = [] if question.unbounded else [Condition("srvModified", operator, moment)]
    view = site.view(collection)
    conditions.append(Condition("srvModified", "gte", MIN_TIMESTAMP))
    found = view.find(conditions, ["srvModified"], limit=limit)
    page = _page_v3(view, question, found)
    if not found:
        return page
    newest = found[-1]["srvModified"]
    return replace(page, headers={"Last-Modified": _http_date(newest), "ETag": f'W/"{newest}"'})


def _read_v3(site: NightscoutSite, question: Question, collection: str, identifier: str) -> Answer:
    view = site.view(collection)
    found = view.find([Condition("identifier", "eq", identifier)]) or view.find([Condition("_id", "eq", identifier)])
    if not found:
        return _refuse(HTTPStatus.NOT_FOUND)
    if found[0].get("isValid") is False:
        return _refuse(HTTPStatus.GONE)
    shown = as_v3(collection, found[0])
    headers = {}
    if "srvModified" in shown:
        headers["Last-Modified"] = _http_date(shown["srvModified"])
        known = to_milliseconds(question.headers.get("if-modified-since", ""))
        if known is not None and shown["srvModified"] // 1000 <= known // 1000:
            return Answer(HTTPStatus.NOT_MODIFIED, b"", headers=headers)
    body = orjson.dumps({"status": 200, "result": _project(question, shown)})
    return Answer(HTTPStatus.OK, body, headers=headers)


def _page_v3(view: View, question: Question, documents: list[dict[str, Any]]) -> Answer:
    if _fields(question) is None:
        rows = view.v3_json(documents)
    else:
        rows = orjson.dumps([_project(question, as_v3(view.collection, document)) for document in documents])
    return Answer(HTTPStatus.OK, b'{"status":200,"result":' + rows + b"}", page_of=view.collection)


def _fields(question: Question) -> list[str] | None:
    text = question.value("fields")
    return None if text is None or text == "_all" else text.split(",")


def _project(question: Question, document: dict[str, Any]) -> dict[str, Any]:
    fields = _fields(question)
    return document if fields is None else {name: document[name] for name in fields if name in document}


def _limit(question: Question) -> int:
    text = question.value("limit")
    if text is None:
        return V3_MAX_LIMIT
    if not re.fullmatch(r"\d+", text) or not 0 < int(text) <= V3_MAX_LIMIT:
        raise QueryError("Parameter limit out of tolerance")
    return int(text)


def _skip(question: Question) -> int:
    text = question.value("skip")
    if text is None:
        return 0
    if not re.fullmatch(r"\d+", text):
        raise QueryError("Parameter skip out of tolerance")
    return int(text)


def _last_modified(site: NightscoutSite) -> dict[str, int]:
    newest = {}
    for collection in COLLECTIONS:
        documents = site.view(collection).documents if site.may_read(collection, admin=False) else []
        fallback = "date" if collection == "entries" else "created_at"
        moments = [to_milliseconds(str(row.get(name, ""))) for row in documents for name in ("srvModified", fallback)]
        found = max((moment for moment in moments if moment is not None), default=None)
        if found is not None:
            newest[collection] = found
    return newest


def _version_v3(site: NightscoutSite) -> dict[str, Any]:
    storage = {"storage": "mongodb", "version": "5.0.14"}
    return {"version": _version(site), "apiVersion": "3.0.5", "srvDate": site.now(), "storage": storage}


def _result(result: Any) -> Answer:
    return _json({"status": 200, "result": result})


def _refuse(status: HTTPStatus, message: str | None = None) -> Answer:
    return _json({"status": status.value} | ({"message": message} if message else {}), status)


def _version(site: NightscoutSite) -> str:
    return "15.0.3" if site.v3 else "0.12.5"


def _json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(status, orjson.dumps(value))


def _http_date(milliseconds: int) -> str:
    return formatdate(milliseconds // 1000, usegmt=True)


# Faults

_STATUS_FAULTS = {
    "401": Answer(HTTPStatus.UNAUTHORIZED, b'{"status":401,"message":"Unauthorized","description":"Invalid/Missing"}'),
    "429": Answer(HTTPStatus.TOO_MANY_REQUESTS, b"Too many requests, please try again later.", _HTML),
    "500": Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b'{"status":500,"message":"Internal Server Error"}'),
    "502": Answer(HTTPStatus.BAD_GATEWAY, b"<html><body><h1>502 Bad Gateway</h1></body></html>", _HTML),
    "503": Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"<html><body><h1>Application starting</h1></body></html>", _HTML),
    "html": Answer(HTTPStatus.OK, b"<!DOCTYPE html><html><body><h1>Please sign in</h1></body></html>", _HTML),
}


def _answer_with(site: NightscoutSite, question: Question, fault: Fault | None) -> Answer:
    kind = fault.kind if fault else ""
    if fault and kind in _STATUS_FAULTS:
        retry = {"Retry-After": str(fault.retry_after)} if kind in ("429", "503") else {}
        return replace(_STATUS_FAULTS[kind], headers=retry)
    if fault and kind == "slow":
        time.sleep(fault.delay)
    given = answer(site, replace(question, unbounded=kind == "ignore_bounds"))
    if given.page_of is not None:
        if kind == "duplicate_page":
            return site.previous_page(given.page_of, given)
        site.remember_page(given.page_of, given)
    return replace(given, body=given.body[: len(given.body) // 2]) if kind == "truncated" else given


# HTTP


class _Handler(BaseHTTPRequestHandler):
    server: "SiteServer"
    protocol_version = "HTTP/1.1"
    # One write an answer: small writes would wait for the client's delayed acknowledgement.
    disable_nagle_algorithm = True
    timeout = 120

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        name, _, rest = url.path.lstrip("/").partition("/")
        site = self.server.sites.get(name)
        if site is None:
            self._send(not_found(url.path))
            return
        parameters = parse_qsl(url.query, keep_blank_values=True)
        shown = urlencode([pair for pair in parameters if pair[0] not in SECRET_PARAMETERS], safe="[]$:")
        shown_path = "/api/v2/authorization/request/…" if "/authorization/request/" in url.path else f"/{rest}"
        fault = site.take_fault(f"{shown_path}?{shown}")
        if fault and fault.kind == "reset":
            site.requests.append(Request(shown_path, shown, 0))
            self._reset()
            return
        headers = {key.lower(): value for key, value in self.headers.items()}
        given = _answer_with(site, Question(f"/{rest}", parameters, headers), fault)
        site.requests.append(Request(shown_path, shown, int(given.status)))
        self._send(given, cut=bool(fault and fault.kind == "cut"))

    def do_POST(self) -> None:
        self._admin(lambda site, body: site.fail(Fault(**body)))

    def do_DELETE(self) -> None:
        self._admin(lambda site, body: site.heal())

    do_PUT = do_PATCH = do_POST

    def _admin(self, change: Callable[[NightscoutSite, Any], None]) -> None:
        """`POST` or `DELETE /_admin/<site>/faults` with the key; everything else is read-only."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path).path.strip("/").split("/")
        key = self.server.admin_key
        if parts[0] != "_admin" or key is None:
            self._send(_refuse(HTTPStatus.METHOD_NOT_ALLOWED, "The demo sites are read-only"))
            return
        if not hmac.compare_digest(self.headers.get("X-Admin-Key", "").encode(), key.encode()):
            self._send(_unauthorised_v1())
            return
        site = self.server.sites.get(parts[1]) if len(parts) == 3 and parts[2] == "faults" else None
        if site is None:
            self._send(not_found(self.path))
            return
        try:
            change(site, orjson.loads(body or b"{}"))
        except (TypeError, ValueError) as problem:
            self._send(_refuse(HTTPStatus.BAD_REQUEST, str(problem)))
            return
        self._send(_json({"status": 200}))

    def _send(self, given: Answer, *, cut: bool = False) -> None:
        lines = [
            f"HTTP/1.1 {int(given.status)} {HTTPStatus(given.status).phrase}",
            f"Date: {formatdate(usegmt=True)}",
            f"Content-Type: {given.content_type}",
            f"Content-Length: {len(given.body)}",
            *(f"{name}: {value}" for name, value in given.headers.items()),
        ]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        body = given.body[: len(given.body) // 2] if cut else given.body
        if cut:
            self.close_connection = True
        self.wfile.write(head + body)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Closing the descriptor itself, unread and without lingering, sends a reset instead of an orderly end.
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:
        """Access logs would bury what the operator should see; `NightscoutSite.requests` has them."""


class SiteServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Sites on one port, from `start` to `stop`.

    Raises:
        SetupError: the port is in use, or may not be taken.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        sites: Iterable[NightscoutSite],
        port: int = 0,
        *,
        host: str = LOOPBACK,
        admin_key: str | None = None,
    ) -> None:
        self.sites = {site.site: site for site in sites}
        self.admin_key = admin_key
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        try:
            super().__init__((host, port), _Handler)
        except OSError as problem:
            reason = "is in use" if problem.errno == errno.EADDRINUSE else f"cannot be taken ({problem.strerror})"
            raise SetupError(
                f"Port {port} on {host} {reason}; stop what listens there or choose another port for the demo sites."
            ) from None

    @property
    def host(self) -> str:
        """The address at which this machine reaches the sites."""
        host = str(self.server_address[0])
        return LOOPBACK if host == ANYWHERE else host

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def url(self, site: NightscoutSite | str) -> str:
        """The base URL of a site, as a Nightscout client wants it."""
        return f"{self.base_url}/{site if isinstance(site, str) else site.site}"

    def sites_yaml(self) -> str:
        """What a sites file says of the sites that are served."""
        return sites_file.sites_yaml(self.sites.values())

    def connections(self) -> dict[str, str]:
        """The sites' connections as environment variables, secrets included."""
        return sites_file.connection_variables(self.sites.values(), self.host, self.port)

    def start(self) -> None:
        """Answer in a thread of its own."""
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="nightscout", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop answering; connections that are open are closed."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
            self._thread = None
        self.server_close()
        with self._guard:
            left = list(self._open)
        for connection in left:
            with _ignore_closed():
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error; anything else is printed, as the base class does."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


@contextmanager
def serve(sites: Iterable[NightscoutSite], port: int = 0, *, admin_key: str | None = None) -> Iterator[SiteServer]:
    """Serve sites on the loopback until the block is left; port 0 takes a free one.

    Raises:
        SetupError: the port is in use.
    """
    server = SiteServer(sites, port, admin_key=admin_key)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _ignore_closed() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno not in (errno.ENOTCONN, errno.EBADF):
            raise
