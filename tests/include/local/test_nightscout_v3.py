"""Demo sites, API v3: tokens, search, history, deletions, late uploads."""

from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest

from include.local.nightscout import NightscoutSite, SiteServer, serve
from include.local.nightscout.query import Condition, iso

MINUTE, HOUR = 60_000, 3_600_000
NOON = 1_793_534_400_000  # 2026-11-01T12:00:00Z


class Clock:
    """The site's time, set by the test."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def site(clock: Clock) -> NightscoutSite:
    """25 readings, 100 to 124, one each 5 minutes until 12:00, and a meal."""
    site = NightscoutSite("newer", clock=clock)
    for number in range(25):
        moment = NOON - (24 - number) * 5 * MINUTE
        entry = {"type": "sgv", "date": moment, "sgv": 100 + number, "device": "share2"}
        site.add("entries", entry, visible_at=moment + 1000)
    meal = {"eventType": "Meal Bolus", "created_at": iso(NOON - HOUR), "carbs": 40, "insulin": 4.0}
    site.add("treatments", meal, visible_at=NOON - HOUR)
    clock.now = NOON + MINUTE
    return site


@pytest.fixture
def server(site: NightscoutSite) -> Iterator[SiteServer]:
    with serve([site]) as server:
        yield server


@pytest.fixture
def client(server: SiteServer, site: NightscoutSite) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url(site)) as client:
        token = client.get(f"/api/v2/authorization/request/{site.token}").json()["token"]
        client.headers["authorization"] = f"Bearer {token}"
        yield client


def result(client: httpx.Client, path: str, **parameters: Any) -> Any:
    answer = client.get(f"/api/v3/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == 200
    return answer.json()["result"]


def sgvs(client: httpx.Client, **parameters: Any) -> list[int]:
    return [row["sgv"] for row in result(client, "entries", **parameters)]


def test_token_is_a_signed_jwt_that_ends_when_it_says(client: httpx.Client, site: NightscoutSite, clock: Clock) -> None:
    answer = client.get(f"/api/v2/authorization/request/{site.token}").json()
    assert jwt.get_unverified_header(answer["token"]) == {"alg": "HS256", "typ": "JWT"}
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert (claims["iat"], claims["exp"]) == (answer["iat"], answer["exp"]) == (clock.now // 1000, answer["exp"])
    assert answer["permissionGroups"] == [["*:*:read"]]
    clock.now = answer["exp"] * 1000 - 1
    assert client.get("/api/v3/entries").status_code == 200
    clock.now = answer["exp"] * 1000
    refused = client.get("/api/v3/entries")
    assert (refused.status_code, refused.json()["message"]) == (401, "Bad access token or JWT")


def test_forged_and_foreign_tokens_are_refused(client: httpx.Client, site: NightscoutSite) -> None:
    claims = {"accessToken": site.token, "iat": NOON // 1000, "exp": NOON // 1000 + 3600}
    other = NightscoutSite("other", clock=lambda: NOON).issue_jwt(NightscoutSite("other").token)
    for text in (
        jwt.encode(claims, "not the key of this site, but long enough", algorithm="HS256"),
        jwt.encode(claims, key=None, algorithm="none"),
        other["token"] if other else "",
        site.token,
        "x",
    ):
        refused = client.get("/api/v3/entries", headers={"authorization": f"Bearer {text}"})
        assert refused.status_code == 401, text


def test_api_secret_does_not_open_v3_and_a_wrong_token_gets_no_jwt(server: SiteServer, site: NightscoutSite) -> None:
    with httpx.Client(base_url=server.url(site)) as client:
        answer = client.get("/api/v3/entries", headers={"api-secret": site.secret_sha1})
        assert answer.status_code == 401
        assert answer.json() == {"status": 401, "message": "Missing or bad access token or JWT"}
        assert client.get("/api/v2/authorization/request/reader-0000000000000000").status_code == 401
        assert client.get("/api/v3/entries", params={"token": site.token}).status_code == 200


def test_version_is_public_and_status_tells_rights(server: SiteServer, client: httpx.Client, site: Any) -> None:
    version = httpx.get(f"{server.url(site)}/api/v3/version").json()["result"]
    assert version["apiVersion"].startswith("3.")
    assert version["srvDate"] == NOON + MINUTE
    rights = result(client, "status")["apiPermissions"]
    assert rights == dict.fromkeys(("entries", "treatments", "devicestatus", "profile", "food"), "r")


def test_role_without_a_collection_gets_403_there_only() -> None:
    site = NightscoutSite("narrow", unreadable={"treatments"})
    with serve([site]) as server, httpx.Client(base_url=server.url(site), params={"token": site.token}) as client:
        refused = client.get("/api/v3/treatments")
        assert refused.status_code == 403
        assert refused.json() == {"status": 403, "message": "Missing permission api:treatments:read"}
        assert client.get("/api/v3/treatments/history/1600000000000").status_code == 403
        assert client.get("/api/v3/entries").status_code == 200
        assert client.get("/api/v3/settings").status_code == 403
        assert "treatments" not in result(client, "status")["apiPermissions"]
        assert client.get("/api/v1/treatments.json").status_code == 401


def test_documents_carry_what_the_server_sets(client: httpx.Client, site: NightscoutSite) -> None:
    newest = result(client, "entries", **{"sort$desc": "date", "limit": 1})[0]
    assert newest == {
        "type": "sgv",
        "date": NOON,
        "sgv": 124,
        "device": "share2",
        "identifier": newest["identifier"],
        "created_at": iso(NOON),
        "utcOffset": 0,
        "isValid": True,
        "srvCreated": NOON + 1000,
        "srvModified": NOON + 1000,
    }
    assert result(client, f"entries/{newest['identifier']}") == newest
    stored = httpx.get(f"{client.base_url}api/v1/entries.json", params={"token": site.token, "count": 1}).json()[0]
    assert stored == newest | {"_id": stored["_id"]}


def test_what_v1_uploaded_has_no_server_times_in_history_but_shows_some(client: httpx.Client, site: Any) -> None:
    plain = NightscoutSite("plain")
    key = plain.add("entries", {"type": "sgv", "date": NOON, "sgv": 90, "srvModified": None})
    with serve([plain]) as server, httpx.Client(base_url=server.url(plain), params={"token": plain.token}) as other:
        assert result(other, f"entries/{key}")["srvModified"] == NOON
        assert result(other, "entries/history/1600000000000") == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"sgv$gte": 123}, [123, 124]),
        ({"sgv$gt": 123}, [124]),
        ({"sgv$lt": 102}, [100, 101]),
        ({"sgv$lte": 101}, [100, 101]),
        ({"sgv$eq": 110}, [110]),
        ({"sgv": 110}, [110]),
        ({"type$ne": "sgv"}, []),
        ({"device$in": "share2|xDrip", "sgv$gte": 124}, [124]),
        ({"device$nin": "share2|xDrip"}, []),
        ({"device$re": "^share", "sgv$gt": 123}, [124]),
        ({"sgv$in": "110|111"}, []),  # lists stay text, and text equals no number
        ({"date$gte": NOON - 5 * MINUTE}, [123, 124]),
        ({"date$gte": iso(NOON - 5 * MINUTE), "date$lt": iso(NOON)}, [123]),
        ({"date$gte": NOON // 1000 - 60}, [124]),  # so early in ms that it is taken for seconds
        ({"created_at$gte": "2026-11-01T11:55:00Z"}, [123, 124]),
        ({"isValid": "true", "sgv$gte": 124}, [124]),
    ],
)
def test_search_filters(client: httpx.Client, filters: dict[str, Any], expected: list[int]) -> None:
    assert sgvs(client, sort="date", **filters) == expected


def test_skip_pages_through_everything_once_in_both_directions(client: httpx.Client) -> None:
    for order, expected in (("sort", list(range(100, 125))), ("sort$desc", list(range(124, 99, -1)))):
        pages = [sgvs(client, **{order: "date", "limit": 10, "skip": skip}) for skip in (0, 10, 20, 30)]
        assert [len(page) for page in pages] == [10, 10, 5, 0]
        assert [sgv for page in pages for sgv in page] == expected


def test_pages_by_date_join_without_a_gap(client: httpx.Client) -> None:
    seen: list[int] = []
    until = NOON + 1
    while page := result(client, "entries", **{"sort$desc": "date", "limit": 7, "date$lt": until, "date$gte": 1}):
        seen += [row["sgv"] for row in page]
        until = page[-1]["date"]
    assert seen == list(range(124, 99, -1))


def test_fields_are_cut_to_those_asked_for(client: httpx.Client) -> None:
    assert result(client, "entries", fields="sgv,date,nothing", sgv=110) == [{"sgv": 110, "date": NOON - 70 * MINUTE}]
    assert "device" in result(client, "entries", fields="_all", sgv=110)[0]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=1001", "Parameter limit out of tolerance"),
        ("limit=0", "Parameter limit out of tolerance"),
        ("limit=all", "Parameter limit out of tolerance"),
        ("skip=-1", "Parameter skip out of tolerance"),
        ("sgv$about=100", "Unsupported filter operator about"),
        ("sort=date&sort$desc=date", "Parameters sort and sort_desc cannot be combined"),
    ],
)
def test_bad_parameters_are_400(client: httpx.Client, query: str, message: str) -> None:
    answer = client.get(f"/api/v3/entries?{query}")
    assert (answer.status_code, answer.json()) == (400, {"status": 400, "message": message})


def test_limit_is_a_thousand_unless_less_is_asked_for() -> None:
    site = NightscoutSite("many")
    for number in range(1100):
        site.add("entries", {"type": "sgv", "date": NOON + number, "sgv": 100})
    with serve([site]) as server, httpx.Client(base_url=server.url(site), params={"token": site.token}) as client:
        assert len(result(client, "entries")) == 1000
        assert len(result(client, "entries", skip=1000, sort="date")) == 100


def test_unknown_collection_and_document_are_404(client: httpx.Client) -> None:
    answer = client.get("/api/v3/nothing")
    assert (answer.status_code, answer.json()["message"]) == (404, "Bad operation or collection")
    assert client.get("/api/v3/entries/nobody").status_code == 404
    assert client.get("/api/v3/entries/a/b").status_code == 404


def test_history_shows_edit_and_deletion_with_server_times(
    client: httpx.Client, site: NightscoutSite, clock: Clock
) -> None:
    before = clock.now
    edited, deleted = (row["identifier"] for row in result(client, "entries", sort="date", limit=2))
    clock.now += MINUTE
    site.edit("entries", edited, {"sgv": 55})
    clock.now += MINUTE
    site.delete("entries", deleted)
    answer = client.get(f"/api/v3/entries/history/{before}")
    first, second = answer.json()["result"]
    assert (first["identifier"], first["sgv"], first["srvModified"]) == (edited, 55, before + MINUTE)
    assert first["srvCreated"] < before
    assert (second["identifier"], second["isValid"], second["srvModified"]) == (deleted, False, before + 2 * MINUTE)
    assert answer.headers["etag"] == f'W/"{second["srvModified"]}"'
    assert answer.headers["last-modified"] == "Sun, 01 Nov 2026 12:03:00 GMT"
    assert sgvs(client, sort="date", limit=2) == [55, 102]
    assert client.get(f"/api/v3/entries/{deleted}").status_code == 410
    assert client.get(f"/api/v3/entries/history/{second['srvModified']}").json()["result"] == []
    since = {"last-modified": "Sun, 01 Nov 2026 12:02:00 GMT"}
    assert len(client.get("/api/v3/entries/history", headers=since).json()["result"]) == 2
    assert client.get("/api/v3/entries/history").status_code == 400
    assert client.get("/api/v3/entries/history/yesterday").status_code == 400
    assert result(client, "lastModified") == {
        "srvDate": clock.now,
        "collections": {"entries": second["srvModified"], "treatments": NOON - HOUR},
    }


def test_v1_still_lists_what_v3_marked_as_deleted(client: httpx.Client, site: NightscoutSite) -> None:
    key = site.documents("entries")[-1]["identifier"]
    site.delete("entries", key)
    newest = client.get("/api/v1/entries.json", params={"count": 1}).json()[0]
    assert (newest["identifier"], newest["isValid"]) == (key, False)
    assert key not in [row["identifier"] for row in site.documents("entries")]


def test_read_answers_304_to_who_has_it(client: httpx.Client, site: NightscoutSite) -> None:
    key = site.documents("entries")[-1]["identifier"]
    answer = client.get(f"/api/v3/entries/{key}")
    known = {"if-modified-since": answer.headers["last-modified"]}
    assert client.get(f"/api/v3/entries/{key}", headers=known).status_code == 304


def test_late_reading_is_not_there_before_its_moment(client: httpx.Client, site: NightscoutSite, clock: Clock) -> None:
    late = clock.now + 48 * HOUR
    site.add("entries", {"type": "sgv", "date": NOON - 1, "sgv": 66}, visible_at=late)
    client.headers["authorization"] = ""
    token = {"token": site.token}
    for moment, expected in ((late - 1, []), (late, [66]), (late - 1, [])):
        clock.now = moment
        assert sgvs(client, sgv=66, **token) == expected
        found = client.get("/api/v1/entries.json", params=token | {"find[sgv]": 66}).json()
        assert [row["sgv"] for row in found] == expected
    clock.now = late
    history = result(client, f"entries/history/{late - 1}", **token)
    assert [(row["sgv"], row["srvCreated"], row["srvModified"]) for row in history] == [(66, late, late)]


def test_edit_is_seen_from_its_moment_on(client: httpx.Client, site: NightscoutSite, clock: Clock) -> None:
    key = site.documents("treatments")[0]["identifier"]
    site.edit("treatments", key, {"carbs": 60}, visible_at=clock.now + 10)
    assert result(client, f"treatments/{key}")["carbs"] == 40
    clock.now += 10
    assert result(client, f"treatments/{key}")["carbs"] == 60


def test_store_refuses_what_cannot_be(site: NightscoutSite) -> None:
    with pytest.raises(ValueError, match="Collection is 'readings'"):
        site.add("readings", {})
    with pytest.raises(KeyError, match="holds no nobody"):
        site.edit("entries", "nobody", {})
    with pytest.raises(ValueError, match="already holds"):
        site.add("entries", site.documents("entries")[0])
    with pytest.raises(ValueError, match="Site id"):
        NightscoutSite("Amber")
    with pytest.raises(ValueError, match="Units"):
        NightscoutSite("amber", units="mmol")


def test_a_page_costs_what_it_holds_and_not_what_the_site_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    large = NightscoutSite("large")
    for number in range(5_000):
        large.add("entries", {"type": "sgv", "date": NOON + number * 300_000, "sgv": 100}, visible_at=NOON + number)
    tried = 0
    holds = Condition.holds

    def counted(condition: Condition, document: Any) -> bool:
        nonlocal tried
        tried += 1
        return holds(condition, document)

    monkeypatch.setattr(Condition, "holds", counted)
    with serve([large]) as server, httpx.Client(base_url=server.url(large)) as client:
        client.headers["Authorization"] = f"Bearer {large.issue_jwt(large.token)['token']}"
        history = result(client, f"entries/history/{NOON + 2_000}", limit=100)
        bounded = {"date$gte": NOON + 600_000_000, "date$lt": NOON + 900_000_000}
        search = result(client, "entries", **bounded, **{"sort$desc": "date", "limit": 100, "skip": 50})
    assert [row["srvModified"] - NOON for row in history] == list(range(2_001, 2_101))
    assert [(row["date"] - NOON) // 300_000 for row in search] == list(range(2_949, 2_849, -1))
    assert tried <= 150
