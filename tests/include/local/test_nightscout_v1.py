"""Demo sites, API v1: what a client of an older Nightscout meets."""

import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import httpx
import pytest

from include.local.nightscout import NightscoutSite, SiteServer, demo_sites, serve
from include.local.nightscout.query import iso

HOUR = 3_600_000
NOON = 1_793_534_400_000  # 2026-11-01T12:00:00Z
READINGS = [("sgv", NOON - 3 * HOUR, 95), ("sgv", NOON - 2 * HOUR, 140), ("mbg", NOON - HOUR, None), ("sgv", NOON, 181)]


@pytest.fixture(scope="module")
def site() -> NightscoutSite:
    """Three sensor readings, a fingerstick, four treatments, two statuses and two profiles; it is 12:00."""
    site = NightscoutSite("older", v3=False, auth="secret", unreadable={"profile"}, clock=lambda: NOON)
    for kind, moment, sgv in READINGS:
        entry = {"type": kind, "date": moment, "dateString": iso(moment), "device": "share2"}
        site.add("entries", entry | ({"mbg": 150} if kind == "mbg" else {"sgv": sgv}), visible_at=moment)
    site.add("entries", {"type": "sgv", "date": NOON - 5 * 24 * HOUR, "sgv": 77}, visible_at=NOON - 5 * 24 * HOUR)
    for hours, kind, fields in (
        (3, "Meal Bolus", {"carbs": 40, "insulin": 4.5, "notes": "oats"}),
        (2, "Correction Bolus", {"insulin": 1.2}),
        (1, "Exercise", {"duration": 30}),
        (0, "Site Change", {}),
    ):
        moment = NOON - hours * HOUR
        site.add("treatments", {"eventType": kind, "created_at": iso(moment)} | fields, visible_at=moment)
    for hours in (2, 1):
        status = {"created_at": iso(NOON - hours * HOUR), "device": "phone", "uploader": {"battery": 50 + hours}}
        site.add("devicestatus", status, visible_at=NOON - hours * HOUR)
    for days in (40, 10):
        moment = NOON - days * 24 * HOUR
        profile = {"startDate": iso(moment), "defaultProfile": "Default", "store": {}}
        site.add("profile", profile, visible_at=moment)
    return site


@pytest.fixture(scope="module")
def server(site: NightscoutSite) -> Iterator[SiteServer]:
    with serve([site]) as server:
        yield server


@pytest.fixture(scope="module")
def admin(server: SiteServer, site: NightscoutSite) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url(site), headers={"api-secret": site.secret_sha1}) as client:
        yield client


def values(client: httpx.Client, path: str, field: str = "sgv", **parameters: Any) -> list[Any]:
    answer = client.get(f"/api/v1/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    return [row.get(field) for row in answer.json()]


def test_entries_come_newest_first_from_the_last_four_days(admin: httpx.Client) -> None:
    assert values(admin, "entries.json") == [181, None, 140, 95]


def test_a_bound_on_the_date_reaches_further_back(admin: httpx.Client) -> None:
    assert values(admin, "entries.json", **{"find[date][$gte]": 0}) == [181, None, 140, 95, 77]


def test_sgv_path_and_type_filter_leave_fingersticks_out(admin: httpx.Client) -> None:
    assert values(admin, "entries/sgv.json") == [181, 140, 95]
    assert values(admin, "entries/mbg.json", "mbg") == [150]
    assert values(admin, "entries.json", **{"find[type]": "sgv"}) == [181, 140, 95]


@pytest.mark.parametrize(
    ("find", "expected"),
    [
        ({"[sgv][$gte]": 140}, [181, 140]),
        ({"[sgv][$gt]": 140}, [181]),
        ({"[sgv][$lte]": 140}, [140, 95]),
        ({"[sgv][$lt]": 140}, [95]),
        ({"[sgv][$eq]": 140}, [140]),
        ({"[sgv]": 140}, [140]),
        ({"[sgv][$ne]": 140}, [181, None, 95]),
        ({"[sgv][$in][]": [95, 181]}, [181, 95]),
        ({"[sgv][$exists]": "true"}, [181, 140, 95]),
        ({"[device][$regex]": "^share"}, [181, None, 140, 95]),
        ({"[device]": "Share2"}, []),
        ({"[date][$gte]": NOON - 2 * HOUR, "[date][$lt]": NOON}, [None, 140]),
        ({"[dateString][$gte]": iso(NOON - HOUR)}, [181, None]),
        ({"[date][$gte]": "2026-11-01"}, [181, None, 140, 95, 77]),  # parseInt makes 2026 of it, as upstream
    ],
)
def test_find_operators(admin: httpx.Client, find: dict[str, Any], expected: list[Any]) -> None:
    assert values(admin, "entries.json", **{f"find{name}": value for name, value in find.items()}) == expected


def test_text_filter_on_a_number_that_upstream_does_not_convert_finds_nothing(admin: httpx.Client) -> None:
    assert values(admin, "treatments.json", "duration", **{"find[duration][$gte]": 10}) == []
    assert values(admin, "treatments.json", "insulin", **{"find[insulin][$gte]": 4}) == [4.5]


def test_count_limits_and_defaults_to_ten(admin: httpx.Client, server: SiteServer) -> None:
    assert values(admin, "entries.json", count=2) == [181, None]
    site = server.sites["older"]
    extra = [site.add("entries", {"type": "cal", "date": NOON - n, "slope": n}, visible_at=0) for n in range(12)]
    assert len(values(admin, "entries/cal.json")) == 10
    assert len(values(admin, "entries/cal.json", count=0)) == 12
    for key in extra:
        site.delete("entries", key)
    assert values(admin, "entries/cal.json") == []


def test_one_entry_by_id_and_the_current_one(admin: httpx.Client, site: NightscoutSite) -> None:
    first = site.documents("entries")[0]
    assert admin.get(f"/api/v1/entries/{first['_id']}.json").json() == [first]
    assert values(admin, "entries/current.json") == [181]


def test_treatments_are_bounded_by_created_at_and_show_null_for_missing_doses(admin: httpx.Client) -> None:
    kinds = ["Site Change", "Exercise", "Correction Bolus", "Meal Bolus"]
    assert values(admin, "treatments.json", "eventType") == kinds
    window = {"find[created_at][$gte]": "2026-11-01T10:00:00+00:00", "find[created_at][$lt]": iso(NOON)}
    assert values(admin, "treatments.json", "eventType", **window) == ["Exercise", "Correction Bolus"]
    assert values(admin, "treatments.json", "carbs") == [None, None, None, 40]
    assert "carbs" in admin.get("/api/v1/treatments.json").json()[0]
    assert values(admin, "treatments.json", "notes", **{"find[eventType]": "/meal/i"}) == ["oats"]


def test_devicestatus_filters_below_its_first_level(admin: httpx.Client) -> None:
    assert values(admin, "devicestatus.json", "device", **{"find[device]": "phone"}) == ["phone", "phone"]
    newest = admin.get("/api/v1/devicestatus.json?count=1").json()
    assert [status["uploader"]["battery"] for status in newest] == [51]


def test_profile_json_ignores_find_and_profiles_obeys_it(admin: httpx.Client) -> None:
    newest, oldest = iso(NOON - 240 * HOUR), iso(NOON - 960 * HOUR)
    assert values(admin, "profile.json", "startDate", **{"find[startDate][$gte]": iso(NOON)}) == [newest, oldest]
    assert values(admin, "profile.json", "startDate", count=1) == [newest]
    assert values(admin, "profiles.json", "startDate") == []  # upstream's four days hold here too
    assert values(admin, "profiles", "startDate", **{"find[startDate][$gte]": "2026-01-01"}) == [newest, oldest]
    assert admin.get("/api/v1/profile/current").json()["startDate"] == newest


def test_status_tells_clock_and_unit_of_display(admin: httpx.Client) -> None:
    status = admin.get("/api/v1/status.json").json()
    assert (status["status"], status["serverTimeEpoch"], status["settings"]["units"]) == ("ok", NOON, "mg/dl")


def test_entries_without_json_in_path_or_header_are_tabbed_text(admin: httpx.Client) -> None:
    answer = admin.get("/api/v1/entries?count=1")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == f"{iso(NOON)}\t{NOON}\t181\t"
    assert admin.get("/api/v1/entries?count=1", headers={"accept": "application/json"}).json()[0]["sgv"] == 181


@pytest.mark.parametrize("path", ["entries.json", "entries/sgv.json", "treatments.json", "profile.json", "status.json"])
@pytest.mark.parametrize("wrong", [{}, {"api-secret": "0" * 40}, {"authorization": "Bearer x.y.z"}])
def test_without_the_secret_nothing_is_told(
    server: SiteServer, site: NightscoutSite, path: str, wrong: dict[str, str]
) -> None:
    answer = httpx.get(f"{server.url(site)}/api/v1/{path}", headers=wrong)
    assert answer.status_code == 401
    assert answer.json() == {"status": 401, "message": "Unauthorized", "description": "Invalid/Missing"}


def test_the_secret_itself_in_clear_is_refused(server: SiteServer, site: NightscoutSite) -> None:
    answer = httpx.get(f"{server.url(site)}/api/v1/entries.json", headers={"api-secret": site.secret})
    assert answer.status_code == 401


def test_token_in_the_query_reads_what_its_role_may(server: SiteServer, site: NightscoutSite) -> None:
    with httpx.Client(base_url=server.url(site)) as client:
        assert client.get("/api/v1/entries.json", params={"token": site.token}).status_code == 200
        assert client.get("/api/v1/entries.json", params={"token": "reader-0000000000000000"}).status_code == 401
        assert client.get("/api/v1/profile.json", params={"token": site.token}).status_code == 401
        assert client.get("/api/v1/profile.json", params={"secret": site.secret_sha1}).status_code == 200


def test_operator_or_date_that_cannot_be_read_is_an_error(admin: httpx.Client) -> None:
    for path in ("entries.json?find[sgv][$near]=1", "treatments.json?find[created_at][$gte]=yesterday"):
        answer = admin.get(f"/api/v1/{path}")
        assert (answer.status_code, answer.json()["message"]) == (500, "Mongo Error")


def test_an_older_site_has_no_v3_and_forgets_what_is_deleted(admin: httpx.Client, site: NightscoutSite) -> None:
    assert admin.get("/api/v3/version").status_code == 404
    assert "html" in admin.get("/api/v3/version").headers["content-type"]
    key = site.add("entries", {"type": "sgv", "date": NOON - 1, "sgv": 60}, visible_at=NOON)
    assert values(admin, "entries.json", **{"find[sgv]": 60}) == [60]
    site.delete("entries", key)
    assert values(admin, "entries.json", **{"find[sgv]": 60}) == []


def test_unknown_sites_and_paths_are_404_and_writing_is_405(server: SiteServer, admin: httpx.Client) -> None:
    assert httpx.get(f"{server.base_url}/nobody/api/v1/status.json").status_code == 404
    assert admin.get("/api/v1/nothing.json").status_code == 404
    assert admin.get("/").status_code == 404
    assert admin.post("/api/v1/entries.json", json=[{"sgv": 1}]).status_code == 405
    assert admin.request("PUT", "/api/v1/treatments.json", json={}).status_code == 405


def test_four_weeks_of_readings_in_pages_take_well_under_a_second() -> None:
    site = next(site for site in demo_sites(date(2026, 10, 4), date(2026, 11, 1)) if site.site == "birch")
    site.view("entries")
    with serve([site]) as server, httpx.Client(base_url=server.url(site)) as client:
        begun, until, seen = time.perf_counter(), 1_793_491_200_000, 0
        while True:
            find = {"find[date][$gte]": 1_791_072_000_000, "find[date][$lt]": until, "count": 2000}
            page = client.get("/api/v1/entries.json", params=find, headers={"api-secret": site.secret_sha1}).json()
            seen += len(page)
            if len(page) < 2000:
                break
            until = page[-1]["date"]
        taken = time.perf_counter() - begun
    assert seen == len(site.documents("entries")) > 7500
    assert taken < 1
