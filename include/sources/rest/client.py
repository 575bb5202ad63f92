"""HTTP with one API: dlt's REST client and paginators, over a session that is patient and believes no answer unseen."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from include.connections import Connection
from include.errors import SetupError, SourceError
from include.sources.errors import AccessError
from include.sources.http import LOOPBACK, Again, Patience, base_url, is_html, patiently, retry_after, shape
from include.sources.json_records import Record, parse
from include.sources.listing import Listed
from include.sources.rest.streams import OPTIONS, Paginator, Stream

log = logging.getLogger(__name__)

MOST_PAGES = 100_000
MOST_EMPTY_PAGES = 100  # one after the other
# The option that says where an answer tells of the next page.
NEXT = {Paginator.JSON_LINK: "next_url_path", Paginator.CURSOR: "cursor_path"}
AUTH = ("bearer", "api_key", "basic")


class ApiClient:
    """One API, for one thread. Use as a context manager.

    The connection holds address (`host`, or a whole one; the file may name it) and secret: with a `login`, basic
    authentication; else the password is a bearer token, or an API key if its extra says `{"auth": "api_key"}`, in the
    header `X-API-Key` or the one that `{"header": …}` names.

    Every error names site and connection, and no error, log or repr holds a secret.

    Raises:
        SetupError: the connection lacks an address, or holds something that cannot be.
        AccessError: the API refuses the credentials (401, 403); not tried again.
        SourceError: anything else that it answers, or does not, in spite of retries.
    """

    def __init__(self, api: Listed, connection: Connection, patience: Patience | None = None) -> None:
        self.api = api
        self._conn_id = connection.conn_id
        self._patience = patience or Patience()
        self.base = base_url(api.site, api.url, connection, "https://api.example.org/v1")
        self._headers, self._basic = _credentials(api, connection)
        self._hidden = {value for value in (connection.password, *self._headers.values()) if value}
        self._session = _session_class()(self)
        # A proxy of the environment cannot reach this machine's own servers.
        self._session.trust_env = urlsplit(self.base).hostname not in LOOPBACK

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def __str__(self) -> str:
        return f"Site {self.api.site} (connection {self._conn_id})"

    def __repr__(self) -> str:
        return f"ApiClient({self.api.site}, {self._conn_id})"

    def pages(self, stream: Stream, since: datetime, until: datetime) -> Iterator[list[Record]]:
        """Pages of the records that were changed in `[since, until)`; of an API that takes no bounds, all it has.

        Raises:
            SourceError: see the class; or a page comes again without end.
        """
        from dlt.common.configuration.specs.runtime_configuration import RuntimeConfiguration
        from dlt.sources.helpers.rest_client import RESTClient

        client = RESTClient(
            base_url=self.base,
            headers={"Accept": "application/json"},
            auth=self._basic,
            session=self._session,
            config=RuntimeConfiguration(),
        )
        params: dict[str, Any] = dict(stream.params)
        for name, moment in ((stream.since_param, since), (stream.until_param, until)):
            if name:
                params[name] = stream.bound(moment)
        if stream.page_size_param:
            params[stream.page_size_param] = stream.page_size
        self._session.begin(stream)
        pages = client.paginate(
            stream.path, params=params, paginator=_paginator(stream), data_selector=stream.data, hooks={"response": []}
        )
        previous: list[Record] = []
        empty = 0
        for number in range(1, MOST_PAGES + 1):
            try:
                page = next(pages, None)
            except ValueError as error:  # a paginator that does not find what it goes by
                raise self._error(f"answered {stream.name} without what its pages go by: {error}") from None
            if page is None:
                return
            if page and page == previous:
                raise self._error(
                    f"answers the same page of {stream.name} twice ({len(page)} records, page {number}); the paginator "
                    f"({stream.paginator}) does not get it to go on"
                )
            previous, empty = list(page), 0 if page else empty + 1
            if empty > MOST_EMPTY_PAGES:
                raise self._error(f"answers {empty} empty pages of {stream.name} one after the other")
            yield previous
        raise self._error(f"answered more than {MOST_PAGES:,} pages of {stream.name}")

    # What the session asks

    def send(self, ask: Any, request: Any) -> Any:
        """Send a prepared request until it is answered with JSON; `ask` sends it once."""
        label = f"{request.method} {urlsplit(request.url).path}"
        if _origin(request.url) != _origin(self.base):
            raise self._error(
                f"names another server for the next page ({_origin(request.url)}); expected {_origin(self.base)}, the "
                "only one that is given the secret"
            )
        # Here and not in dlt's client, which logs the headers that it knows of.
        request.headers.update(self._headers)
        return patiently(
            lambda: self._once(ask, label),
            self._patience,
            self._error,
            label,
            lambda reason: log.info("%s: %s: %s; trying again.", self, label, reason),
        )

    def check_data(self, stream: Stream, body: Any, *, is_first: bool) -> None:
        """That the answer has the list of records where the stream says it is, and tells of the next page."""
        from dlt.common import jsonpath

        found = jsonpath.find_values(stream.data, body)
        if len(found) != 1 or not isinstance(found[0], list):
            raise self._error(
                f"answered {stream.path} with {shape(found[0]) if len(found) == 1 else 'nothing'} at {stream.data!r}; "
                f"expected a list of records, see data of stream {stream.name}"
            )
        if not all(isinstance(record, dict) for record in found[0]):
            raise self._error(f"answered {stream.path} with a list that holds something other than records")
        place = {**OPTIONS[stream.paginator], **stream.paging}.get(NEXT.get(stream.paginator, ""))
        is_full = stream.page_size_param is not None and len(found[0]) >= stream.page_size
        if not is_first or not is_full:
            return
        if stream.paginator is Paginator.SINGLE_PAGE:
            raise self._error(
                f"fills its only page of {stream.name} ({len(found[0])} records), so there may be more; name the "
                "paginator of the stream"
            )
        if place and not jsonpath.find_values(place, body):
            raise self._error(
                f"answers a full page of {stream.name} ({len(found[0])} records) and nothing at {place!r}, where the "
                "next one is expected; correct paging of the stream"
            )

    def repeated(self, stream: Stream) -> SourceError:
        return self._error(
            f"leads {stream.name} back to a page that was asked for already; its pages go round in a circle"
        )

    def _once(self, ask: Any, label: str) -> Any:
        import requests

        try:
            response = ask()
        except requests.Timeout:
            raise Again(f"no answer within {self._patience.read:g} s") from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader):
            raise self._error("has an address or a secret that HTTP cannot carry; correct the connection") from None
        except requests.RequestException as error:
            raise Again(f"the connection failed ({type(error).__name__})") from None
        status, body = response.status_code, response.content
        if status == 429 or status >= 500:
            raise Again(f"it answered {status}", retry_after(response.headers))
        if status in (401, 403):
            advice = "it may not read this" if status == 403 else "check the connection's password"
            raise AccessError(f"{self} refuses its credentials: {label} answered {status}; {advice}.")
        if 300 <= status < 400:
            raise self._error(f"answered {label} with {status}; put the final address into the connection")
        if status != 200:
            raise self._error(f"answered {label} with {status}{self._message(body)}; expected 200")
        if is_html(response.headers.get("content-type", ""), body):
            raise self._error(f"answered {label} with an HTML page instead of JSON; is a login in front of it")
        try:
            parsed = parse(body)
        except ValueError:
            raise Again(f"it answered JSON that breaks off or cannot be read ({len(body)} bytes)") from None
        # dlt's client and paginators ask the response; once parsed, with decimals, is enough.
        response.json = lambda **_: parsed
        return response

    def _error(self, what: str) -> SourceError:
        for secret in self._hidden:
            what = what.replace(secret, "***")
        return SourceError(f"{self} {what}.")

    def _message(self, body: bytes) -> str:
        with suppress(ValueError):
            answer = parse(body)
            for key in ("message", "error", "detail", "title"):
                text = answer.get(key) if isinstance(answer, dict) else None
                if isinstance(text, str):
                    return f" ({' '.join(text.split())[:200]})"
        return ""


@cache
def _session_class() -> type:
    import requests

    class Session(requests.Session):
        """What dlt's client sends its requests with."""

        def __init__(self, client: ApiClient) -> None:
            super().__init__()
            self._client = client
            self._stream: Stream | None = None
            self._asked: set[tuple[str, Any]] = set()

        def begin(self, stream: Stream) -> None:
            self._stream, self._asked = stream, set()

        def send(self, request: Any, **options: Any) -> Any:
            assert self._stream is not None
            if (question := (request.url, request.body)) in self._asked:
                raise self._client.repeated(self._stream)
            self._asked.add(question)
            patience = self._client._patience
            options |= {"timeout": (patience.connect, patience.read), "allow_redirects": False}
            response = self._client.send(lambda: super(Session, self).send(request, **options), request)
            self._client.check_data(self._stream, response.json(), is_first=len(self._asked) == 1)
            return response

    return Session


def _paginator(stream: Stream) -> Any:
    from dlt.sources.helpers.rest_client import paginators

    options = {**OPTIONS[stream.paginator], **stream.paging}
    match stream.paginator:
        case Paginator.JSON_LINK:
            return paginators.JSONLinkPaginator(**options)
        case Paginator.HEADER_LINK:
            return paginators.HeaderLinkPaginator(**options)
        case Paginator.OFFSET:
            return paginators.OffsetPaginator(limit=stream.page_size, **options)
        case Paginator.PAGE_NUMBER:
            return paginators.PageNumberPaginator(**options)
        case Paginator.CURSOR:
            return paginators.JSONResponseCursorPaginator(**options)
    return paginators.SinglePagePaginator()


def _credentials(api: Listed, connection: Connection) -> tuple[dict[str, str], Any]:
    """Headers that carry the secret, or what `requests` makes of login and password."""
    kind = connection.extra.get("auth") or ("basic" if connection.login else "bearer")
    if kind not in AUTH:
        raise SetupError(
            f"Connection {connection.conn_id} of site {api.site} has auth {kind!r} in its extra; expected "
            f"{', '.join(AUTH)}."
        )
    if not connection.password:
        if connection.login or connection.extra.get("auth"):
            raise SetupError(f"Connection {connection.conn_id} of site {api.site} has no password to log in with.")
        return {}, None
    if kind == "basic":
        from requests.auth import HTTPBasicAuth

        if not connection.login:
            raise SetupError(f"Connection {connection.conn_id} of site {api.site} needs a login beside its password.")
        return {}, HTTPBasicAuth(connection.login.encode(), connection.password.encode())
    if kind == "api_key":
        return {str(connection.extra.get("header") or "X-API-Key"): connection.password}, None
    return {"Authorization": f"Bearer {connection.password}"}, None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"
