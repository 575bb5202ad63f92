"""HTTP with an API: whatever it answers, every page once or an error that says what is wrong."""

import dataclasses
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from include.connections import Connection
from include.errors import SetupError, SourceError
from include.sources.errors import AccessError
from include.sources.listing import Listed
from include.sources.rest.client import ApiClient
from include.sources.rest.streams import Paginator, Stream, TimeFormat
from tests.include.sources.rest.conftest import CURSOR, ORDERS, QUICK, SECRET, Api, Question, days, order

numbers = itertools.count(1)
Ask = Callable[..., Iterator[list[Any]]]


@pytest.fixture
def ask(api: Api) -> Ask:
    """Pages of a stream, of the first two days of November."""

    def ask(stream: Stream, **connection: Any) -> Iterator[list[Any]]:
        given = {"host": api.url, "password": SECRET} | connection
        with ApiClient(Listed("north", "shop_north"), Connection("shop_north", **given), QUICK) as client:
            interval = days(1, 3)
            yield from client.pages(stream, interval.start, interval.end)

    return ask


@pytest.mark.parametrize(
    "stream",
    [
        CURSOR,
        dataclasses.replace(ORDERS, paginator=Paginator.JSON_LINK),
        dataclasses.replace(ORDERS, paginator=Paginator.HEADER_LINK),
        dataclasses.replace(ORDERS, paginator=Paginator.OFFSET, page_size_param=None),
        dataclasses.replace(ORDERS, paginator=Paginator.OFFSET, page_size_param=None, paging={"total_path": "total"}),
        dataclasses.replace(ORDERS, paginator=Paginator.PAGE_NUMBER),
        dataclasses.replace(ORDERS, paginator=Paginator.SINGLE_PAGE, page_size_param=None),
    ],
    ids=["cursor", "json link", "header link", "offset", "offset and total", "page number", "single page"],
)
def test_every_page_comes_whatever_leads_to_it(api: Api, ask: Ask, stream: Stream) -> None:
    api.lists["orders"] = [order(number, 1 + number // 3) for number in range(9)]
    found = [record["id"] for page in ask(stream) for record in page]
    assert found[:6] == [0, 1, 2, 3, 4, 5]
    # A link to the next page loses the bounds here, as it does elsewhere: what is too much is left out later.
    assert len(found) == (9 if "link" in stream.paginator else 6)


@pytest.mark.parametrize(
    ("bounds", "since", "until"),
    [
        (TimeFormat.ISO, "2026-11-01T00:00:00Z", "2026-11-03T00:00:00Z"),
        (TimeFormat.DATE, "2026-11-01", "2026-11-03"),
        (TimeFormat.SECONDS, "1793491200", "1793664000"),
        (TimeFormat.MILLISECONDS, "1793491200000", "1793664000000"),
    ],
)
def test_requests_say_their_bounds_as_the_api_takes_them(
    api: Api, ask: Ask, bounds: TimeFormat, since: str, until: str
) -> None:
    stream = dataclasses.replace(CURSOR, bounds=bounds, params={"kind": "all"}, since_param="from", until_param="to")
    list(ask(stream))
    assert api.asked[0].values == {"kind": "all", "from": since, "to": until, "limit": "2"}


@pytest.mark.parametrize(
    ("connection", "header"),
    [
        ({"password": SECRET}, ("authorization", f"Bearer {SECRET}")),
        ({"password": SECRET, "extra": {"auth": "api_key"}}, ("x-api-key", SECRET)),
        ({"password": SECRET, "extra": {"auth": "api_key", "header": "Token"}}, ("token", SECRET)),
        ({"login": "me", "password": "it"}, ("authorization", "Basic bWU6aXQ=")),
    ],
    ids=["bearer", "api key", "api key by another name", "basic"],
)
def test_the_connection_says_who_asks(api: Api, ask: Ask, connection: dict[str, Any], header: tuple[str, str]) -> None:
    api.authorization = header
    api.lists["orders"] = [order(1, 1)]
    assert len(list(ask(CURSOR, **connection))) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_told_once_and_without_the_secret(api: Api, ask: Ask, status: int) -> None:
    api.fault = lambda _: (status, {}, f'{{"message": "{SECRET}"}}'.encode())
    with pytest.raises(AccessError, match=f"refuses its credentials: GET /orders answered {status}") as failed:
        list(ask(CURSOR))
    assert SECRET not in str(failed.value)
    assert "Site north (connection shop_north)" in str(failed.value)
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ({"host": None}, "has no host"),
        ({"host": f"https://me:{SECRET}@api.example.org"}, "has a secret in its address"),
        ({"host": "ftp://api.example.org"}, "needs an http or https address"),
        ({"extra": {"auth": "magic"}}, "has auth 'magic' in its extra; expected bearer, api_key, basic"),
        ({"login": "me", "password": None}, "has no password to log in with"),
        ({"extra": {"auth": "basic"}}, "needs a login beside its password"),
    ],
)
def test_a_connection_that_cannot_be_is_told(ask: Ask, connection: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said) as failed:
        list(ask(CURSOR, **connection))
    assert SECRET not in str(failed.value)


def failing(times: int, status: int, headers: dict[str, str] | None = None, body: bytes = b"{}") -> Any:
    left = [times]

    def fault(_: Question) -> Any:
        left[0] -= 1
        return (status, headers or {}, body) if left[0] >= 0 else None

    return fault


@pytest.mark.parametrize(
    ("fault", "least"),
    [
        (failing(2, 503), 0.03),
        (failing(1, 429, {"Retry-After": "0.2"}), 0.2),
        (failing(1, 200, body=b'{"data": [{"id": 1, "upd'), 0.01),
    ],
    ids=["503", "429", "cut off"],
)
def test_what_can_be_better_next_time_is_asked_again(api: Api, ask: Ask, fault: Any, least: float) -> None:
    api.lists["orders"] = [order(1, 1)]
    api.fault = fault
    before = time.monotonic()
    assert len(list(ask(CURSOR))) == 1
    assert time.monotonic() - before >= least


def silent(_: Question) -> Any:
    time.sleep(0.8)
    return 200, {}, b"[]"


def same_page(_: Question) -> Any:
    return 200, {}, json.dumps({"data": [order(1, 1)], "cursors": {"next": str(datetime.now(UTC))}}).encode()


def same_cursor(_: Question) -> Any:
    return 200, {}, json.dumps({"data": [order(next(numbers), 1)], "cursors": {"next": "again"}}).encode()


def empty_pages(question: Question) -> Any:
    following = int(question.values.get("after", 0)) + 1
    return 200, {}, json.dumps({"data": [], "cursors": {"next": str(following)}}).encode()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (failing(9, 500), "failed 3 times; the last time: it answered 500"),
        (failing(9, 429, {"Retry-After": "3600"}), "asks to be left alone for 3600 s (Retry-After); run again later"),
        (failing(9, 200, {"Content-Type": "text/html"}, b"<html>Log in</html>"), "an HTML page instead of JSON"),
        (failing(9, 200, body=b'{"data": [{"id": 1'), "JSON that breaks off or cannot be read"),
        (failing(9, 200, body=b'{"data": [{"id": NaN}]}'), "JSON that breaks off or cannot be read"),
        (failing(9, 200, body=b'{"items": []}'), "with nothing at 'data'; expected a list of records"),
        (failing(9, 200, body=b'{"data": {"id": 1}}'), "with an object at 'data'; expected a list of records"),
        (failing(9, 200, body=b'{"data": [1]}'), "a list that holds something other than records"),
        (failing(9, 404, body=b'{"message": "gone\\nfor good"}'), "answered GET /orders with 404 (gone for good)"),
        (failing(9, 301, {"Location": "https://elsewhere"}), "with 301; put the final address into the connection"),
        (silent, "no answer within 0.5 s"),
        (same_page, "answers the same page of orders twice (1 records, page 2)"),
        (same_cursor, "leads orders back to a page that was asked for already"),
        (empty_pages, "empty pages of orders one after the other"),
        (failing(9, 200, body=b'{"data": [{"id": 1}, {"id": 2}]}'), "and nothing at 'cursors.next', where the next"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_a_wrong_answer_is_a_clear_error(api: Api, ask: Ask, fault: Any, said: str) -> None:
    api.fault = fault
    with pytest.raises(SourceError, match=re.escape(said)) as failed:
        list(ask(CURSOR))
    assert str(failed.value).startswith("Site north (connection shop_north) ")
    assert SECRET not in str(failed.value)


def test_a_single_page_that_is_full_is_not_believed_to_be_all(api: Api, ask: Ask) -> None:
    api.lists["orders"] = [order(number, 1) for number in range(3)]
    stream = dataclasses.replace(ORDERS, paginator=Paginator.SINGLE_PAGE)
    with pytest.raises(SourceError, match="fills its only page of orders"):
        list(ask(stream))


def test_a_total_that_is_missing_is_told(api: Api, ask: Ask) -> None:
    api.lists["orders"] = [order(1, 1)]
    stream = dataclasses.replace(ORDERS, paginator=Paginator.PAGE_NUMBER, paging={"total_path": "count"})
    with pytest.raises(SourceError, match="answered orders without what its pages go by"):
        list(ask(stream))


def test_the_secret_goes_to_no_other_server(api: Api, ask: Ask) -> None:
    api.fault = lambda _: (200, {}, json.dumps({"data": [], "next": "http://127.0.0.1:9/orders"}).encode())
    stream = dataclasses.replace(ORDERS, paginator=Paginator.JSON_LINK)
    with pytest.raises(SourceError, match=r"names another server for the next page \(http://127.0.0.1:9\)"):
        list(ask(stream))
