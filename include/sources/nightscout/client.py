"""HTTP with one Nightscout site: which API it speaks, who we are, and its records page by page.

What Nightscout does, which this relies on:
- v1 lists newest first by the collection's time field; `find[field][$gte]` and `[$lt]` bound it; without `count` it
  answers 10 records, without a bound the last 4 days. `profile.json` knows only `count`.
- v3 wraps answers as `{"status", "result"}`; `field$gte`, `field$lt`, `sort$desc`, `limit` (400 when above the
  site's maximum, 1000 unless changed) and `skip`. Deleted documents show in `history/{srvModified}` only.
- Times that are text are compared as text, so a record that states an offset sorts by its local time.
"""

import hashlib
import logging
import re
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import orjson

from include.connections import Connection
from include.errors import SetupError, SourceError
from include.sources.errors import AccessError
from include.sources.http import LOOPBACK, Again, Patience, base_url, is_html, patiently, retry_after, shape
from include.sources.nightscout.sites import Site
from include.sources.nightscout.streams import Record, Stream, TimeEncoding, milliseconds, parse_time

log = logging.getLogger(__name__)

V1, V3 = "v1", "v3"
V1_PAGE, V3_PAGE = 5_000, 1_000
V1_LARGEST_PAGE = 100_000
PAGES_WITHOUT_PROGRESS = 3
MOST_PAGES = 10_000
HOUR_MS = 3_600_000
# What local time may differ from UTC, for bounds on times that are text.
BEHIND_UTC, AHEAD_OF_UTC = 12 * HOUR_MS, 14 * HOUR_MS
FIRST_V3_MOMENT = 946_684_800_001  # v3 takes earlier numbers for seconds, or refuses them
TOKEN = re.compile(r"[^\s/?#&]+-[0-9a-f]{16}")


class Change(NamedTuple):
    """A document that v3 history names: where it belongs now, and whether it was deleted."""

    record_id: str
    record: Record
    deleted: bool


@dataclass(frozen=True)
class Status:
    """What a site says about itself. `ahead_seconds` is its clock less ours."""

    api: str
    version: str
    may: str
    ahead_seconds: float | None


class _Unexpected(Exception):
    """An answer with a status that is neither success nor worth another try."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class SiteClient:
    """One site, for one thread. Use as a context manager.

    Every error names site and connection, and no error, log or repr holds a secret.

    Raises:
        SetupError: the connection lacks an address, or holds something that cannot be.
        AccessError: the site refuses the credentials (401, 403); not tried again.
        SourceError: anything else that the site answers, or does not, in spite of retries.
    """

    def __init__(self, site: Site, connection: Connection, patience: Patience | None = None) -> None:
        self.site = site
        self.api = ""
        self.ahead_seconds: float | None = None
        self._patience = patience or Patience()
        self._conn_id = connection.conn_id
        self._secret = connection.password
        self._wanted = _choice(connection, "api", (V1, V3))
        self._auth = _choice(connection, "auth", ("token", "secret"))
        if self._secret and not self._auth:
            self._auth = "token" if TOKEN.fullmatch(self._secret) else "secret"
        if self._wanted == V3 and self._auth != "token":
            raise SetupError(
                f"Connection {self._conn_id} asks for API v3, which takes an access token; "
                "put a token with the role 'readable' into its password."
            )
        self._base = base_url(site.site, site.url, connection, "https://my-nightscout.example.org")
        self._hidden = {self._secret, _sha1(self._secret)} if self._secret else set()
        self._bearer: str | None = None
        self._bearer_until = 0.0
        self._v3_limit = V3_PAGE
        self._srv_date: int | None = None
        self._version = ""
        # httpx logs the URL of every request, and a token may be in it.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        timeout = httpx.Timeout(self._patience.read, connect=self._patience.connect)
        self._http = httpx.Client(
            timeout=timeout,
            headers={"Accept": "application/json"},
            verify=_certificates(),
            # A proxy of the environment cannot reach this machine's own sites.
            trust_env=urlsplit(self._base).hostname not in LOOPBACK,
        )

    def __enter__(self) -> "SiteClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def __repr__(self) -> str:
        return f"SiteClient({self.site.site}, {self._conn_id}, {self.api or 'not connected'})"

    # Which API

    def connect(self) -> str:
        """Find out which API the site speaks with the credentials that we have: `v3` if it can, else `v1`."""
        if self._wanted != V1 and self._auth == "token" and self._find_v3():
            self.api = V3
        elif self._wanted == V3:
            raise self._error("does not speak API v3; remove 'api' from the connection's extra to use v1")
        else:
            self.api = V1
        return self.api

    def status(self) -> Status:
        """Version, rights and clock. v1 tells its clock and version only to who may read its status."""
        if self.api == V3:
            result = _unwrapped(self._get("api/v3/status", headers=self._v3_headers()))
            permissions = result.get("apiPermissions") or {}
            may = ", ".join(f"{name} {rights}" for name, rights in sorted(permissions.items()))
            return Status(V3, str(result.get("version", "")), may, _ahead(result.get("srvDate")))
        result = self._get("api/v1/status.json", **self._v1_auth())
        if not isinstance(result, dict):
            raise self._error(f"GET /api/v1/status.json answered {shape(result)}; expected an object")
        verified = self._get("api/v1/verifyauth", **self._v1_auth())
        message = verified.get("message") if isinstance(verified, dict) else None
        if isinstance(message, dict):
            message = "read" if message.get("canRead") else message.get("message")
        may = "read" if message == "OK" else str(message or "unknown")
        server_time = result.get("serverTimeEpoch") or parse_time(result.get("serverTime"))
        return Status(V1, str(result.get("version", "")), may, _ahead(server_time))

    def _find_v3(self) -> bool:
        try:
            version = _unwrapped(self._get("api/v3/version", unexpected=(403, 404, 405, 501), html_is_none=True))
        except _Unexpected:
            return False
        if not version.get("apiVersion"):
            return False
        self._authorize()
        self.ahead_seconds = _ahead(version.get("srvDate"))
        try:
            self._get("api/v3/status", headers=self._v3_headers(), unexpected=(403,))
        except _Unexpected as refusal:
            if "SSL" in str(refusal):
                log.info("Site %s offers API v3 over https only; using v1.", self.site.site)
                return False
            raise self._denied("api/v3/status", 403, str(refusal)) from None
        return True

    # Records

    def records(self, stream: Stream, start: int, end: int) -> Iterator[Sequence[Record]]:
        """Pages of the records of `[start, end)`, epoch ms, newest first, each record once.

        Times that are text are asked for with a margin for their offsets, so a page may hold records outside.
        """
        if stream.time_encoding is TimeEncoding.ISO:
            start, end = start - BEHIND_UTC, end + AHEAD_OF_UTC
        seen: set[str] = set()
        bound, size, skip, idle = end, V1_PAGE if self.api == V1 else self._v3_limit, 0, 0
        previous = -1
        for _ in range(MOST_PAGES):
            page = self._page(stream, start, bound, size, skip)
            if self.api == V3:
                size = self._v3_limit
            fresh = _unseen(page, seen)
            if fresh:
                yield fresh
            full = len(page) >= size
            if page and not fresh and len(page) == previous and _ignores_bound(stream, page, bound):
                raise self._error(f"repeats the same {stream.name} page: {len(page)} records, whatever is asked")
            if not page or (not full and (self.api == V3 or not fresh)):
                return
            if full:
                self._check_newest_first(stream, page)
            lower = _bound_below(stream, page)
            moved = lower is not None and lower < bound
            if moved and lower <= start:
                return
            # v3 can skip, so anything new is progress; v1 must get to older records.
            idle = 0 if fresh and (moved or self.api == V3) else idle + 1
            if idle > PAGES_WITHOUT_PROGRESS:
                raise self._error(f"repeats the same {stream.name} page without end")
            if moved:
                bound, skip = lower, 0
            elif self.api == V3:
                # More records of one moment than fit a page; a page that ignores the bound is asked for again.
                skip += 0 if _ignores_bound(stream, page, bound) else size
            elif len(page) == previous or size >= V1_LARGEST_PAGE:
                raise self._error(
                    f"repeats the same {stream.name} page: {len(page)} records, none of them older than those before"
                )
            else:
                previous, size = len(page), min(size * 4, V1_LARGEST_PAGE)
        raise self._error(f"answered more than {MOST_PAGES} pages of {stream.name} for one range")

    def every_record(self, stream: Stream) -> list[Record]:
        """Every document of a small stream."""
        if self.api == V1:
            size, previous = 1_000, -1
            while True:
                page = self._list(f"api/v1/{stream.v1_path}", {"count": size})
                if len(page) < size or len(page) == previous:
                    return _unseen(page, set())
                if size >= V1_LARGEST_PAGE:
                    raise self._error(f"holds more than {V1_LARGEST_PAGE} documents of {stream.name}")
                previous, size = len(page), size * 4
        seen: set[str] = set()
        documents: list[Record] = []
        skip = 0
        for _ in range(MOST_PAGES):
            page = self._v3_list(
                f"api/v3/{stream.v3_collection}",
                {"sort$desc": stream.time_field, "limit": self._v3_limit, "skip": skip},
            )
            fresh = _unseen(page, seen)
            documents += fresh
            if len(page) < self._v3_limit:
                return documents
            if not fresh:
                raise self._error(f"repeats the same {stream.name} page without end")
            skip += len(page)
        raise self._error(f"answered more than {MOST_PAGES} pages of {stream.name}")

    def changes(self, stream: Stream, start: int, end: int) -> Iterator[list[Change]]:
        """Pages of documents that were written, edited or deleted in `[start, end)`, by the site's clock in epoch ms.

        v3 only: v1 does not tell.
        """
        path = f"api/v3/{stream.v3_collection}"
        fields = "identifier,date,created_at,startDate,dateString,srvModified,isValid"
        seen: set[tuple[str, int]] = set()
        cursor = max(start, FIRST_V3_MOMENT) - 1
        for _ in range(MOST_PAGES):
            page = self._v3_list(f"{path}/history/{cursor}", {"limit": self._v3_limit, "fields": fields})
            yield _changes_of(page, seen, start, end)
            last = max(map(_modified, page), default=end)
            if len(page) < self._v3_limit or last >= end:
                return
            if last - 1 > cursor:
                cursor = last - 1  # history answers what is later than this: read the last moment again, whole
                continue
            # One moment fills the page; search can skip, though it hides what was deleted.
            for skip in range(0, MOST_PAGES * self._v3_limit, self._v3_limit):
                rest = self._v3_list(
                    path, {"srvModified$eq": last, "limit": self._v3_limit, "skip": skip, "fields": fields}
                )
                yield _changes_of(rest, seen, start, end)
                if len(rest) < self._v3_limit:
                    break
            cursor = last
        raise self._error(f"answered more than {MOST_PAGES} pages of {stream.name} history")

    def newest(self, stream: Stream) -> Record | None:
        """The newest record of a stream."""
        if self.api == V1:
            page = self._list(f"api/v1/{stream.v1_path}", {"count": 1, **_v1_find(stream, 0, None)})
        else:
            page = self._v3_list(f"api/v3/{stream.v3_collection}", {"sort$desc": stream.time_field, "limit": 1})
        return page[0] if page else None

    def _page(self, stream: Stream, start: int, end: int, size: int, skip: int) -> list[Record]:
        if self.api == V1:
            return self._list(f"api/v1/{stream.v1_path}", {**_v1_find(stream, start, end), "count": size})
        field = stream.time_field
        parameters = {
            f"{field}$gte": _encoded(stream, start),
            f"{field}$lt": _encoded(stream, end),
            "sort$desc": field,
            "limit": size,
            "skip": skip,
        }
        return self._v3_list(f"api/v3/{stream.v3_collection}", parameters)

    def _check_newest_first(self, stream: Stream, page: Sequence[Record]) -> None:
        first, last = _sort_time(stream, page[0]), _sort_time(stream, page[-1])
        if first is not None and last is not None and first < last:
            raise self._error(f"answers {stream.name} oldest first; expected newest first, as Nightscout does")

    # Requests

    def _list(self, path: str, parameters: dict[str, Any]) -> list[Record]:
        return self._records_in(path, self._get(path, parameters, **self._v1_auth()))

    def _v3_list(self, path: str, parameters: dict[str, Any]) -> list[Record]:
        while True:
            try:
                answer = self._get(path, parameters, headers=self._v3_headers(), unexpected=(400,))
            except _Unexpected as refusal:
                # A site may have lowered its maximum; the answer does not say to what.
                if "limit" in str(refusal) and parameters["limit"] > 10:
                    self._v3_limit = parameters["limit"] = parameters["limit"] // 10
                    continue
                raise self._error(f"GET /{path} answered 400 {refusal}") from None
            return self._records_in(path, answer.get("result", answer) if isinstance(answer, dict) else answer)

    def _records_in(self, path: str, answer: Any) -> list[Record]:
        if not isinstance(answer, list):
            raise self._error(f"GET /{path} answered {shape(answer)}; expected a list of records")
        if not {*map(type, answer)} <= {dict}:
            raise self._error(f"GET /{path} answered a list that holds something other than records")
        return answer

    def _v1_auth(self) -> dict[str, Any]:
        if not self._secret:
            return {}
        if self._auth == "token":
            return {"query": {"token": self._secret}}
        return {"headers": {"api-secret": _sha1(self._secret)}}

    def _v3_headers(self) -> dict[str, str]:
        if time.monotonic() > self._bearer_until:
            self._authorize()
        # Versions before 14.2 refuse a request that does not say when it was made.
        now = format_datetime(datetime.now(UTC), usegmt=True)
        return {"Authorization": f"Bearer {self._bearer}", "Date": now}

    def _authorize(self) -> None:
        answer = self._get(f"api/v2/authorization/request/{self._secret}", label="api/v2/authorization/request/…")
        bearer = answer.get("token") if isinstance(answer, dict) else None
        if not isinstance(bearer, str) or not bearer:
            raise self._error("gave no JWT for the access token at /api/v2/authorization/request/…")
        self._bearer = bearer
        self._hidden.add(bearer)
        issued, expires = answer.get("iat"), answer.get("exp")
        lifetime = expires - issued if isinstance(issued, int) and isinstance(expires, int) else 600
        self._bearer_until = time.monotonic() + max(lifetime - 60, 1)

    def _get(
        self,
        path: str,
        parameters: dict[str, Any] | None = None,
        *,
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
        unexpected: tuple[int, ...] = (),
        html_is_none: bool = False,
        label: str | None = None,
    ) -> Any:
        label = label or path
        everything = {**(parameters or {}), **(query or {})}
        return patiently(
            lambda: self._once(path, label, everything, headers, unexpected, html_is_none),
            self._patience,
            self._error,
            f"GET /{label}",
            lambda reason: log.info("Site %s: GET /%s: %s; trying again.", self.site.site, label, reason),
        )

    def _once(
        self,
        path: str,
        label: str,
        parameters: dict[str, Any],
        headers: dict[str, str] | None,
        unexpected: tuple[int, ...],
        html_is_none: bool,
    ) -> Any:
        try:
            response = self._http.get(f"{self._base}/{path}", params=parameters or None, headers=headers)
        except httpx.TimeoutException:
            raise Again(f"no answer within {self._patience.read:g} s") from None
        except httpx.TransportError as error:
            raise Again(f"the connection failed ({self._clean(str(error)) or type(error).__name__})") from None
        except httpx.InvalidURL:
            raise self._error("has an address that is not a URL; correct the connection's host") from None
        status = response.status_code
        if status == 429 or status >= 500:
            raise Again(f"it answered {status}", retry_after(response.headers))
        message = self._message(response)
        if status in unexpected:
            raise _Unexpected(status, message)
        if status in (401, 403):
            raise self._denied(label, status, message)
        if 300 <= status < 400:
            target = urlsplit(response.headers.get("location", ""))
            place = f"{target.scheme}://{target.netloc}" if target.netloc else "another path"
            raise self._error(f"GET /{label} answered {status} to {place}; put the final address into the connection")
        if status != 200:
            raise self._error(f"GET /{label} answered {status} {message}; is this the address of a Nightscout site?")
        body = response.content
        if is_html(response.headers.get("content-type", ""), body):
            if html_is_none:
                return {}
            raise self._error(f"GET /{label} answered an HTML page instead of JSON; is a login in front of it?")
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Again(f"it answered JSON that breaks off or cannot be read ({len(body)} bytes)") from None

    # Errors

    def _error(self, what: str) -> SourceError:
        return SourceError(f"Site {self.site.site} (connection {self._conn_id}) {self._clean(what)}.")

    def _denied(self, label: str, status: int, message: str) -> AccessError:
        held = {"token": "access token", "secret": "API secret"}.get(self._auth or "", "missing secret")
        advice = "it may not read this" if status == 403 else "check the connection's password"
        return AccessError(
            f"Site {self.site.site} (connection {self._conn_id}) refuses the {held}: GET /{label} answered {status} "
            f"{self._clean(message)}; {advice}."
        )

    def _message(self, response: httpx.Response) -> str:
        if response.status_code == 200:
            return ""
        try:
            body = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            return ""
        text = body.get("message") or body.get("description") if isinstance(body, dict) else None
        return self._clean(text[:200]) if isinstance(text, str) else ""

    def _clean(self, text: str) -> str:
        for secret in self._hidden:
            text = text.replace(secret, "***")
        return text


def record_id(record: Record) -> str:
    """v3's `identifier` (which v3 sets to `_id` where a document has none), else `_id`.

    A record without either is known by a hash of its content.
    """
    identifier = record.get("identifier")
    if identifier and type(identifier) is str:
        return identifier
    stored = record.get("_id")
    if stored and type(stored) is str:
        return stored
    return "sha-" + hashlib.sha256(orjson.dumps(record, option=orjson.OPT_SORT_KEYS)).hexdigest()[:24]


def _unseen(page: Sequence[Record], seen: set[str]) -> list[Record]:
    fresh = []
    for record in page:
        stored = record.get("_id")
        key = stored if stored and type(stored) is str else record_id(record)
        if key not in seen:
            seen.add(key)
            fresh.append(record)
    return fresh


def _changes_of(page: Sequence[Record], seen: set[tuple[str, int]], start: int, end: int) -> list[Change]:
    changes = []
    for document in page:
        modified = _modified(document)
        key = (record_id(document), modified)
        if start <= modified < end and key not in seen:
            seen.add(key)
            changes.append(Change(key[0], document, document.get("isValid") is False))
    return changes


def _v1_find(stream: Stream, start: int, end: int | None) -> dict[str, Any]:
    field = stream.time_field
    bounds = {f"find[{field}][$gte]": _encoded(stream, start)}
    if end is not None:
        bounds[f"find[{field}][$lt]"] = _encoded(stream, end)
    return bounds


def _encoded(stream: Stream, moment: int) -> int | str:
    if stream.time_encoding is TimeEncoding.EPOCH_MS:
        return moment
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sort_time(stream: Stream, record: Record) -> int | None:
    """The time by which the site sorts: a text's local time as if it were UTC."""
    value = record.get(stream.time_field)
    if stream.time_encoding is TimeEncoding.ISO and isinstance(value, str):
        value = re.sub(r"(?<=\d)(?:[Zz]|[+-]\d\d:?\d\d)$", "", value.strip())
    return parse_time(value)


def _bound_below(stream: Stream, page: Sequence[Record]) -> int | None:
    """An upper bound for the next page that leaves out nothing: the oldest record's moment, itself included.

    For texts with offsets it must do for a server that compares texts and for one that compares moments.
    """

    def oldest(times: Iterable[int | None]) -> int | None:
        return min((moment for moment in times if moment is not None), default=None)

    moments = oldest(parse_time(record.get(stream.time_field)) for record in page)
    if stream.time_encoding is TimeEncoding.EPOCH_MS:
        return None if moments is None else moments + 1
    texts = oldest(_sort_time(stream, record) for record in page)
    bounds = [bound for bound in (moments, texts) if bound is not None]
    if not bounds:
        return None
    # As text, "…05Z" sorts after "…05.999Z": only the next second is surely later.
    return (max(bounds) // 1000 + 1) * 1000


def _ignores_bound(stream: Stream, page: Sequence[Record], bound: int) -> bool:
    """Whether a record is above the bound, however the site compares."""
    for record in page:
        times = (_sort_time(stream, record), parse_time(record.get(stream.time_field)))
        if all(moment is not None and moment >= bound for moment in times):
            return True
    return False


def _choice(connection: Connection, key: str, choices: tuple[str, ...]) -> str | None:
    value = connection.extra.get(key)
    if value in (None, ""):
        return None
    if value not in choices:
        raise SetupError(
            f"Connection {connection.conn_id} has {key!r} in its extra that is not known; "
            f"expected {' or '.join(choices)}."
        )
    return value


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # 20 ms, the same for every site


def _sha1(secret: str) -> str:
    return hashlib.sha1(secret.encode(), usedforsecurity=False).hexdigest()


def _modified(document: Record) -> int:
    value = document.get("srvModified")
    return value if type(value) is int else 0


def _unwrapped(answer: Any) -> dict[str, Any]:
    """The `result` of a v3 answer; versions before 14.1 have no envelope."""
    inner = answer.get("result", answer) if isinstance(answer, dict) else None
    return inner if isinstance(inner, dict) else {}


def _ahead(server_time: Any) -> float | None:
    moment = parse_time(server_time)
    return None if moment is None else (moment - milliseconds(datetime.now(UTC))) / 1000
