import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from include.connections import Connection
from include.errors import SetupError, SourceError
from include.local.nightscout import Fault, NightscoutSite, serve
from include.sources.errors import AccessError
from include.sources.nightscout.client import SiteClient, _encoded
from include.sources.nightscout.sites import Site
from include.sources.nightscout.streams import DEVICESTATUS, ENTRIES, PROFILE, TREATMENTS, Stream
from tests.include.sources.nightscout.conftest import QUICK, Asked, Script, at, reading, scripted

SITE = Site("amber", time_zone="UTC")
SECRET = "correct-horse-battery"
TOKEN = "reader-0123456789abcdef"
START, END = at("2026-11-03T00:00:00"), at("2026-11-04T00:00:00")
NO_V3 = (404, b"<html>Cannot GET</html>", {"Content-Type": "text/html"})


def connection(url: str, password: str | None = SECRET, **extra: Any) -> Connection:
    return Connection("nightscout_amber", host=url, password=password, extra=extra)


@contextmanager
def client_of(url: str, password: str | None = SECRET, **extra: Any) -> Iterator[SiteClient]:
    with SiteClient(SITE, connection(url, password, **extra), QUICK) as client:
        yield client


@contextmanager
def demo_client(site: NightscoutSite) -> Iterator[SiteClient]:
    with serve([site]) as server:
        given = next(iter(server.connections().values()))
        with SiteClient(SITE, Connection.parse("nightscout_amber", given), QUICK) as client:
            client.connect()
            yield client


def fetched(client: SiteClient, stream: Stream = ENTRIES, start: int = START, end: int = END) -> list[dict[str, Any]]:
    return [record for page in client.records(stream, start, end) for record in page]


def v1(script: Script) -> Script:
    """A site without API v3."""
    return lambda asked: NO_V3 if "/api/v3" in asked.path else script(asked)


# Which API


@pytest.mark.parametrize(
    ("v3", "auth", "api"),
    [(True, "token", "v3"), (False, "token", "v1"), (True, "secret", "v1"), (False, "secret", "v1")],
)
def test_api_is_what_site_and_secret_allow(v3: bool, auth: str, api: str) -> None:
    site = NightscoutSite("amber", v3=v3, auth=auth)
    site.add("entries", reading("2026-11-03T12:00:00"))
    with demo_client(site) as client:
        assert client.api == api
        assert [record["sgv"] for record in fetched(client)] == [100]


def test_connection_can_insist_on_v1() -> None:
    site = NightscoutSite("amber")
    site.add("entries", reading("2026-11-03T12:00:00"))
    with serve([site]) as server, client_of(server.url(site), site.token, api="v1") as client:
        assert client.connect() == "v1"
        assert len(fetched(client)) == 1
    assert not [request for request in site.requests if "v3" in request.path]


def test_insisting_on_v3_fails_where_there_is_none() -> None:
    site = NightscoutSite("amber", v3=False)
    with serve([site]) as server, client_of(server.url(site), site.token, api="v3") as client:
        with pytest.raises(SourceError, match="does not speak API v3"):
            client.connect()
        with pytest.raises(SetupError, match="takes an access token"):
            SiteClient(SITE, connection("https://x", SECRET, api="v3"))


def test_v3_that_wants_https_is_read_by_v1() -> None:
    def script(asked: Asked) -> Any:
        if asked.path == "/api/v3/version":
            return {"status": 200, "result": {"apiVersion": "3.0.2"}}
        if asked.path == "/api/v3/status":
            return 403, b'{"status":403,"message":"Not using SSL/TLS"}'
        if "authorization" in asked.path:
            return {"token": "jwt", "iat": 1, "exp": 1000}
        return [reading("2026-11-03T12:00:00", _id="a")]

    with scripted(script) as (url, _), client_of(url, TOKEN) as client:
        assert client.connect() == "v1"
        assert len(fetched(client)) == 1


def test_secret_travels_as_its_sha1_and_token_as_a_parameter() -> None:
    with scripted(v1(lambda asked: [])) as (url, asked):
        for password in (SECRET, TOKEN):
            with client_of(url, password) as client:
                client.connect()
                fetched(client)
    by_secret, by_token = [a for a in asked if "v1" in a.path]
    assert by_secret.headers["api-secret"] == hashlib.sha1(SECRET.encode()).hexdigest()
    assert SECRET not in str(by_secret)
    assert by_token.query["token"] == TOKEN


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ({"host": "my.site"}, "https://my.site"),
        ({"host": "my.site", "port": 1337, "schema": "http"}, "http://my.site:1337"),
        ({"host": "https://my.site/ns/"}, "https://my.site/ns"),
        ({"host": "ignored", "extra": {"url": "http://127.0.0.1:8090/amber"}}, "http://127.0.0.1:8090/amber"),
    ],
)
def test_address_is_read_from_host_port_and_schema_or_whole(given: dict[str, Any], base: str) -> None:
    with SiteClient(SITE, Connection("nightscout_amber", **given)) as client:
        assert client._base == base


def test_address_with_a_secret_in_it_is_refused_without_quoting_it() -> None:
    with pytest.raises(SetupError, match="nightscout_amber") as caught:
        SiteClient(SITE, connection("https://me:hush@my.site"))
    assert "hush" not in str(caught.value)
    with pytest.raises(SetupError, match="no host"):
        SiteClient(SITE, Connection("nightscout_amber"))


# Paging


@pytest.mark.parametrize("v3", [True, False])
@pytest.mark.parametrize("stream", [ENTRIES, TREATMENTS, DEVICESTATUS])
def test_pages_add_up_to_every_record_once(v3: bool, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.sources.nightscout.client.V1_PAGE", 7)
    monkeypatch.setattr("include.sources.nightscout.client.V3_PAGE", 7)
    site = NightscoutSite("amber", v3=v3)
    for minute in range(0, 600, 5):
        moment = START + minute * 60_000
        site.add(stream.v3_collection, {"date": moment, "created_at": _encoded(TREATMENTS, moment), "n": minute})
    with demo_client(site) as client:
        found = fetched(client, stream)
    assert sorted(record["n"] for record in found) == list(range(0, 600, 5))


@pytest.mark.parametrize("v3", [True, False])
def test_equal_times_at_a_page_edge_lose_nothing(v3: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.sources.nightscout.client.V1_PAGE", 4)
    monkeypatch.setattr("include.sources.nightscout.client.V3_PAGE", 4)
    site = NightscoutSite("amber", v3=v3)
    # 3 before, 30 of one moment, 3 after: no page of 4 gets over them.
    for number, minute in enumerate([0, 1, 2, *[30] * 30, 57, 58, 59]):
        site.add("entries", {**reading(f"2026-11-03T10:{minute:02}:00"), "n": number})
    with demo_client(site) as client:
        assert sorted(record["n"] for record in fetched(client)) == list(range(36))


@pytest.mark.parametrize("v3", [True, False])
def test_local_times_with_offsets_are_found_in_their_utc_day(v3: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.sources.nightscout.client.V1_PAGE", 3)
    monkeypatch.setattr("include.sources.nightscout.client.V3_PAGE", 3)
    site = NightscoutSite("amber", v3=v3)
    inside = ["2026-11-02T14:30:00-10:00", "2026-11-04T09:59:00+10:00", "2026-11-03T10:00:00Z", "2026-11-03T00:00:00Z"]
    inside += [f"2026-11-03T10:00:{second:02}.{second:03}+02:00" for second in range(20)]
    outside = ["2026-11-03T00:30:00+02:00", "2026-11-04T00:00:00Z", "2026-11-03T20:00:00-10:00"]
    for created_at in inside + outside:
        site.add("treatments", {"created_at": created_at, "eventType": "Note"})
    with demo_client(site) as client:
        found = fetched(client, TREATMENTS)
    kept = [record["created_at"] for record in found if START <= TREATMENTS.event_time(record) < END]
    assert sorted(kept) == sorted(inside)


def test_server_that_ignores_bounds_is_read_to_the_end() -> None:
    everything = [reading(f"2026-11-{day:02}T12:00:00", _id=f"{day}") for day in range(30, 0, -1)]
    with scripted(v1(lambda asked: everything)) as (url, asked), client_of(url) as client:
        client.connect()
        found = fetched(client)
    assert {record["_id"] for record in found} >= {"3"}
    assert len(asked) <= 4


def test_server_that_caps_the_page_is_asked_again() -> None:
    everything = [reading(f"2026-11-03T{hour:02}:00:00", _id=f"{hour}") for hour in range(23, -1, -1)]

    def script(asked: Asked) -> Any:
        below = int(asked.query["find[date][$lt]"])
        return [record for record in everything if record["date"] < below][:5]

    with scripted(v1(script)) as (url, _), client_of(url) as client:
        client.connect()
        assert len(fetched(client)) == 24


def test_endless_page_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.sources.nightscout.client.V1_PAGE", 3)
    page = [reading(f"2026-11-03T12:00:0{second}", _id=f"{second}") for second in (2, 1, 0)]
    with scripted(v1(lambda asked: page)) as (url, asked), client_of(url) as client:
        client.connect()
        with pytest.raises(SourceError, match="repeats the same entries page"):
            fetched(client)
    assert len(asked) < 10


def test_endless_v3_page_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.sources.nightscout.client.V3_PAGE", 3)
    site = NightscoutSite("amber")
    for second in range(9):
        site.add("entries", reading(f"2026-11-03T12:00:0{second}"))
    site.fail(Fault("duplicate_page", count=None, path="entries"))
    with demo_client(site) as client, pytest.raises(SourceError, match="repeats the same entries page"):
        fetched(client)


def test_oldest_first_is_an_error_since_the_rest_would_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.sources.nightscout.client.V1_PAGE", 3)
    page = [reading(f"2026-11-03T12:00:0{second}", _id=f"{second}") for second in (0, 1, 2)]
    with scripted(v1(lambda asked: page)) as (url, _), client_of(url) as client:
        client.connect()
        with pytest.raises(SourceError, match="oldest first"):
            fetched(client)


def test_v3_site_with_a_lower_maximum_is_asked_for_less() -> None:
    def script(asked: Asked) -> Any:
        if asked.path == "/api/v3/version":
            return {"status": 200, "result": {"apiVersion": "3.0.2"}}
        if "authorization" in asked.path:
            return {"token": "jwt", "iat": 1, "exp": 1000}
        if int(asked.query.get("limit", 1)) > 100:
            return 400, b'{"status":400,"message":"Parameter limit out of tolerance"}'
        return {"status": 200, "result": []}

    with scripted(script) as (url, _), client_of(url, TOKEN) as client:
        client.connect()
        assert fetched(client) == []


@pytest.mark.parametrize("v3", [True, False])
def test_every_profile_is_read_whatever_its_age(v3: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.sources.nightscout.client.V3_PAGE", 5)
    site = NightscoutSite("amber", v3=v3)
    for year in range(1990, 2024):
        site.add("profile", {"startDate": f"{year}-01-01T00:00:00.000Z", "defaultProfile": "Day", "store": {}})
    with demo_client(site) as client:
        assert len(client.every_record(PROFILE)) == 34


def test_history_tells_edits_and_deletions_and_pages_over_equal_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.sources.nightscout.client.V3_PAGE", 4)
    site = NightscoutSite("amber")
    keys = [site.add("entries", reading(f"2026-11-01T10:{m:02}:00"), visible_at=START + 1) for m in range(10)]
    site.delete("entries", keys[0], visible_at=START + 5)
    early = site.add("entries", reading("2026-11-01T11:00:00"), visible_at=START - 1)
    late = site.add("entries", reading("2026-11-01T12:00:00"), visible_at=END)
    with demo_client(site) as client:
        pages = client.changes(ENTRIES, START, END)
        changes = {change.record_id: change.deleted for page in pages for change in page}
    assert changes == {key: key == keys[0] for key in keys}
    assert early not in changes
    assert late not in changes


# Answers that are wrong


@pytest.mark.parametrize("v3", [True, False])
@pytest.mark.parametrize("kind", ["500", "502", "503", "truncated", "cut", "reset"])
def test_passing_failure_is_tried_again(kind: str, v3: bool) -> None:
    site = NightscoutSite("amber", v3=v3)
    site.add("entries", reading("2026-11-03T12:00:00"))
    with demo_client(site) as client:
        site.fail(Fault(kind, count=2, path="entries", retry_after=0))
        assert len(fetched(client)) == 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("500", "it answered 500"),
        ("truncated", "breaks off or cannot be read"),
        ("cut", "connection failed"),
        ("reset", "connection failed"),
    ],
)
def test_lasting_failure_names_site_connection_and_reason(kind: str, said: str) -> None:
    site = NightscoutSite("amber")
    with demo_client(site) as client:
        site.fail(Fault(kind, count=None, path="entries"))
        site.add("entries", reading("2026-11-03T12:00:00"))
        with pytest.raises(SourceError, match=said) as caught:
            fetched(client)
    assert "Site amber (connection nightscout_amber)" in str(caught.value)
    assert "failed 3 times" in str(caught.value)


def test_slow_site_is_given_up_after_the_timeout() -> None:
    site = NightscoutSite("amber")
    with demo_client(site) as client:
        client._http.timeout = 0.1
        site.fail(Fault("slow", count=None, path="entries", delay=1))
        with pytest.raises(SourceError, match="no answer within"):
            fetched(client)


def test_retry_after_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    site = NightscoutSite("amber")
    site.add("entries", reading("2026-11-03T12:00:00"))
    with demo_client(site) as client:
        site.fail(Fault("429", count=2, path="entries", retry_after=4))
        assert len(fetched(client)) == 1
    assert waits == [4, 4]


def test_retry_after_that_is_too_long_is_an_error_that_says_so() -> None:
    site = NightscoutSite("amber")
    with demo_client(site) as client:
        site.fail(Fault("429", path="entries", retry_after=3600))
        with pytest.raises(SourceError, match="left alone for 3600 s"):
            fetched(client)


@pytest.mark.parametrize("v3", [True, False])
def test_refused_credentials_are_not_tried_again(v3: bool) -> None:
    site = NightscoutSite("amber", v3=v3)
    wrong = "reader-ffffffffffffffff"
    with serve([site]) as server, client_of(server.url(site), wrong) as client:
        with pytest.raises(AccessError, match=r"connection nightscout_amber.*answered 401") as caught:
            client.connect()
            fetched(client)
        assert wrong not in str(caught.value)
    assert [request.status for request in site.requests].count(401) == 1


def test_missing_right_names_what_may_not_be_read() -> None:
    site = NightscoutSite("amber", unreadable={"treatments"})
    with demo_client(site) as client, pytest.raises(AccessError, match=r"api:treatments:read.*may not read"):
        fetched(client, TREATMENTS)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, b"<!doctype html><title>Log in</title>", {"Content-Type": "text/html"}), "an HTML page instead of JSON"),
        ((200, b"<html>", {}), "an HTML page instead of JSON"),
        ({"status": 200, "message": "fine"}, "an object; expected a list"),
        ((200, b"null"), "null; expected a list"),
        ([1, 2], "something other than records"),
        ((404, b"{}"), "answered 404"),
        ((302, b"", {"Location": "https://login.example.org/?next=secret"}), "302 to https://login.example.org;"),
        ((200, b"[NaN]"), "cannot be read"),
    ],
)
def test_answer_that_is_not_a_list_of_records_is_an_error(answer: Any, said: str) -> None:
    with scripted(v1(lambda asked: answer)) as (url, _), client_of(url) as client:
        client.connect()
        with pytest.raises(SourceError, match=said):
            fetched(client)


def test_nobody_there_is_an_error_that_names_the_site() -> None:
    said = r"Site amber \(connection nightscout_amber\).*the connection failed"
    with client_of("http://127.0.0.1:9", TOKEN) as client, pytest.raises(SourceError, match=said):
        client.connect()


@pytest.mark.parametrize("v3", [True, False])
@pytest.mark.parametrize("kind", ["401", "500", "html", "truncated", "reset", None])
def test_no_secret_in_errors_logs_or_repr(
    kind: str | None, v3: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    site = NightscoutSite("amber", v3=v3)
    shown = ""
    with serve([site]) as server:
        for password, api in ((site.token, None), (site.token, "v1"), (site.secret, None)):
            with client_of(server.url(site), password, **({"api": api} if api else {})) as client:
                if kind:
                    site.fail(Fault(kind, count=None))
                try:
                    client.connect()
                    fetched(client)
                except SourceError as error:
                    shown += f"{error!r} {error} {error.__cause__!r}"
                shown += repr(client)
                site.heal()
    shown += caplog.text + str(capfd.readouterr())
    for secret in (site.token, site.secret, site.secret_sha1, site.token.rpartition("-")[2], "eyJ"):
        assert secret not in shown
