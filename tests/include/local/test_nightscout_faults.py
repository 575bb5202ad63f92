"""Demo sites: what goes wrong on demand, and how the server starts and stops."""

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from include.connections import Connection
from include.errors import SetupError
from include.local.nightscout import Fault, NightscoutSite, SiteServer, serve

NOON = 1_793_534_400_000
KEY = "a key for this test"


@pytest.fixture
def site() -> NightscoutSite:
    site = NightscoutSite("amber", clock=lambda: NOON + 3_600_000)
    for number in range(6):
        site.add("entries", {"type": "sgv", "date": NOON + number * 300_000, "sgv": 100 + number})
    return site


@pytest.fixture
def server(site: NightscoutSite) -> Iterator[SiteServer]:
    with serve([site], admin_key=KEY) as server:
        yield server


@pytest.fixture
def client(server: SiteServer, site: NightscoutSite) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url(site), params={"token": site.token}) as client:
        yield client


def entries(client: httpx.Client, **parameters: int) -> list[int]:
    return [row["sgv"] for row in client.get("/api/v1/entries.json", params=parameters).json()]


@pytest.mark.parametrize(
    ("kind", "status", "content_type"),
    [
        ("401", 401, "application/json"),
        ("429", 429, "text/html"),
        ("500", 500, "application/json"),
        ("502", 502, "text/html"),
        ("503", 503, "text/html"),
        ("html", 200, "text/html"),
    ],
)
def test_fault_befalls_as_many_requests_as_asked_for(
    client: httpx.Client, site: NightscoutSite, kind: str, status: int, content_type: str
) -> None:
    site.fail(Fault(kind, count=2, retry_after=7))
    for _ in range(2):
        answer = client.get("/api/v1/entries.json")
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (status, content_type)
        assert answer.headers.get("retry-after") == ("7" if kind in ("429", "503") else None)
    assert len(entries(client)) == 6


def test_truncated_json_keeps_its_length_header_and_a_cut_does_not(client: httpx.Client, site: NightscoutSite) -> None:
    site.fail(Fault("truncated"), Fault("cut"))
    answer = client.get("/api/v1/entries.json")
    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r"JSON|char|Unterminated|Expecting"):
        answer.json()
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/api/v1/entries.json")
    assert len(entries(client)) == 6


def test_reset_comes_before_any_answer(client: httpx.Client, site: NightscoutSite) -> None:
    site.fail(Fault("reset"))
    with pytest.raises(httpx.ReadError, match="reset"):
        client.get("/api/v1/entries.json")
    assert [request.status for request in site.requests] == [0]
    assert len(entries(client)) == 6


def test_slow_answer_is_right_but_late(client: httpx.Client, site: NightscoutSite) -> None:
    site.fail(Fault("slow", count=2, delay=0.3))
    with pytest.raises(httpx.ReadTimeout):
        client.get("/api/v1/entries.json", timeout=0.1)
    begun = time.perf_counter()
    assert len(entries(client)) == 6
    assert time.perf_counter() - begun >= 0.3


def test_duplicate_page_answers_the_page_before_again(client: httpx.Client, site: NightscoutSite) -> None:
    first = client.get("/api/v3/entries", params={"sort": "date", "limit": 3})
    site.fail(Fault("duplicate_page"))
    again = client.get("/api/v3/entries", params={"sort": "date", "limit": 3, "skip": 3})
    second = client.get("/api/v3/entries", params={"sort": "date", "limit": 3, "skip": 3})
    assert again.json() == first.json() != second.json()


def test_ignored_bounds_bring_records_from_outside(client: httpx.Client, site: NightscoutSite) -> None:
    bounds = {"find[date][$gte]": NOON + 300_000, "find[date][$lt]": NOON + 600_000}
    assert entries(client, **bounds) == [101]
    site.fail(Fault("ignore_bounds", count=2))
    assert entries(client, **bounds) == [105, 104, 103, 102, 101, 100]
    assert len(client.get("/api/v3/entries", params={"date$gte": NOON + 600_000}).json()["result"]) == 6


def test_fault_with_a_path_spares_other_requests_until_healed(client: httpx.Client, site: NightscoutSite) -> None:
    site.fail(Fault("500", count=None, path="treatments"))
    assert client.get("/api/v1/entries.json").status_code == 200
    assert [client.get("/api/v1/treatments.json").status_code for _ in range(3)] == [500, 500, 500]
    site.heal()
    assert client.get("/api/v1/treatments.json").status_code == 200


def test_requests_are_kept_without_secrets(client: httpx.Client, site: NightscoutSite) -> None:
    client.get(f"/api/v2/authorization/request/{site.token}")
    client.get("/api/v1/entries.json", params={"find[date][$gte]": 5, "secret": site.secret_sha1})
    assert [(request.path, request.query, request.status) for request in site.requests] == [
        ("/api/v2/authorization/request/…", "", 200),
        ("/api/v1/entries.json", "find[date][$gte]=5", 200),
    ]
    assert site.token not in repr(site.requests)


def test_admin_path_takes_faults_from_who_has_the_key(server: SiteServer, client: httpx.Client) -> None:
    path, key = f"{server.base_url}/_admin/amber/faults", {"x-admin-key": KEY}
    assert httpx.post(path, json={"kind": "500"}).status_code == 401
    assert httpx.post(path, json={"kind": "500"}, headers={"x-admin-key": "another"}).status_code == 401
    assert httpx.post(path, json={"kind": "flood"}, headers=key).status_code == 400
    assert httpx.post(path, json={"kind": "500", "often": 3}, headers=key).status_code == 400
    assert httpx.post(f"{server.base_url}/_admin/nobody/faults", json={}, headers=key).status_code == 404
    assert client.get("/api/v1/entries.json").status_code == 200
    assert httpx.post(path, json={"kind": "500", "count": 5}, headers=key).status_code == 200
    assert client.get("/api/v1/entries.json").status_code == 500
    assert httpx.delete(path, headers=key).status_code == 200
    assert client.get("/api/v1/entries.json").status_code == 200


def test_without_a_key_there_is_no_admin_path(site: NightscoutSite) -> None:
    with serve([site]) as server:
        answer = httpx.post(f"{server.base_url}/_admin/amber/faults", json={"kind": "500"}, headers={"x-admin-key": ""})
    assert answer.status_code == 405


def test_fault_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="Fault kind is 'flood'"):
        Fault("flood")
    with pytest.raises(ValueError, match="at least 1"):
        Fault("500", count=0)


def test_port_in_use_is_said_in_a_sentence(server: SiteServer, site: NightscoutSite) -> None:
    with (
        pytest.raises(SetupError, match=rf"Port {server.port} .* is in use; .* another port"),
        serve([site], server.port),
    ):
        pass


def test_stopped_server_answers_nobody_and_frees_its_port(site: NightscoutSite) -> None:
    with serve([site]) as server, httpx.Client(params={"token": site.token}) as client:
        url, port = f"{server.url(site)}/api/v1/status.json", server.port
        assert client.get(url).status_code == 200
        server.stop()
        with pytest.raises(httpx.TransportError):
            client.get(url)
        with pytest.raises(httpx.ConnectError):
            client.get(url)
    with serve([site], port), socket.create_connection(("127.0.0.1", port)):
        pass


def test_connection_variables_lead_to_the_site(server: SiteServer, site: NightscoutSite) -> None:
    other = NightscoutSite("cedar-2", auth="secret", units="mmol/l", time_zone="Australia/Adelaide")
    with serve([site, other]) as both:
        variables = both.connections()
        assert set(variables) == {"AIRFLOW_CONN_NIGHTSCOUT_AMBER", "AIRFLOW_CONN_NIGHTSCOUT_CEDAR_2"}
        token = Connection.parse("nightscout_amber", variables["AIRFLOW_CONN_NIGHTSCOUT_AMBER"])
        secret = Connection.parse("nightscout_cedar_2", variables["AIRFLOW_CONN_NIGHTSCOUT_CEDAR_2"])
        assert (token.host, token.port, token.password) == ("127.0.0.1", both.port, site.token)
        assert (secret.extra["url"], secret.extra["auth"], secret.password) == (both.url(other), "secret", other.secret)
        status = httpx.get(f"{token.extra['url']}/api/v1/status.json", params={"token": token.password})
        assert status.status_code == 200
