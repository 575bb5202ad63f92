"""Demo data: the same at every start, plausible, and with everything that real sites do wrong."""

import hashlib
import statistics
from collections import Counter
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import orjson
import pytest

from include.local.nightscout import NightscoutSite, demo_sites
from include.local.nightscout.demo import PEOPLE, Person, Upload, add_days, uploads

FIRST, END = date(2026, 10, 4), date(2026, 11, 1)
HOUR, DAY = 3_600_000, 86_400_000
FIRST_MS, END_MS = (int(datetime(d.year, d.month, d.day, tzinfo=UTC).timestamp() * 1000) for d in (FIRST, END))
COLLECTIONS = ("entries", "treatments", "devicestatus", "profile")


@pytest.fixture(scope="module")
def sites() -> dict[str, NightscoutSite]:
    return {site.site: site for site in demo_sites(FIRST, END)}


@pytest.fixture(scope="module")
def documents(sites: dict[str, NightscoutSite]) -> dict[str, dict[str, list[Any]]]:
    return {name: {kind: site.documents(kind) for kind in COLLECTIONS} for name, site in sites.items()}


def readings(documents: dict[str, list[Any]], device: str | None = None) -> list[Any]:
    """Sensor readings of one device, in order, without the impossible ones."""
    return [
        entry
        for entry in documents["entries"]
        if entry["type"] == "sgv"
        and 39 <= (entry["sgv"] or 0) <= 401
        and FIRST_MS <= entry["date"] < END_MS
        and (device is None or entry["device"] == device)
    ]


def digest(uploaded: list[Upload]) -> str:
    rows = [[u.collection, u.document, u.at, u.edit, u.edited_at, u.deleted_at] for u in uploaded]
    return hashlib.sha256(orjson.dumps(rows, option=orjson.OPT_SORT_KEYS)).hexdigest()


def test_four_people_in_four_zones_and_two_units(sites: dict[str, NightscoutSite]) -> None:
    assert {(site.site, site.time_zone, site.units, site.v3) for site in sites.values()} == {
        ("amber", "Europe/Berlin", "mg/dl", True),
        ("birch", "America/New_York", "mg/dl", False),
        ("cedar", "Australia/Adelaide", "mmol/l", True),
        ("dune", "UTC", "mg/dl", True),
    }


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.site)
def test_a_day_has_the_same_documents_in_every_range(person: Person) -> None:
    whole = list(uploads(person, date(2026, 10, 20), date(2026, 10, 30)))
    parts = [
        upload
        for first, end in ((20, 21), (21, 24), (24, 30))
        for upload in uploads(person, date(2026, 10, first), date(2026, 10, end))
    ]
    assert digest(parts) == digest(whole)
    backwards = [list(uploads(person, date(2026, 10, day), date(2026, 10, day + 1))) for day in range(29, 19, -1)]
    assert digest([upload for day in reversed(backwards) for upload in day]) == digest(whole)


def test_values_are_those_of_every_other_start() -> None:
    """A change here changes every demo number that somebody has written down."""
    assert {person.site: digest(list(uploads(person, date(2026, 10, 24), END)))[:16] for person in PEOPLE} == {
        "amber": "6f0c13f152db01d9",
        "birch": "c504ed677c522915",
        "cedar": "0b68af1088ca6a92",
        "dune": "3b0f69f7b51a1deb",
    }


def test_days_can_be_appended_to_a_running_site(sites: dict[str, NightscoutSite]) -> None:
    grown = demo_sites(FIRST, date(2026, 10, 25))
    for site in grown:
        site.view("entries")
        add_days(site, date(2026, 10, 25), END)
        for collection in COLLECTIONS:
            assert site.documents(collection) == sites[site.site].documents(collection)


def test_ids_are_unique_and_each_document_belongs_to_its_day(documents: dict[str, Any]) -> None:
    for person in PEOPLE:
        ids = [document["_id"] for kind in COLLECTIONS for document in documents[person.site][kind]]
        assert len(ids) == len(set(ids))
    for upload in uploads(PEOPLE[2], date(2026, 10, 24), date(2026, 10, 25)):
        moment = upload.document.get("date") or upload.document.get("created_at")
        text = moment if isinstance(moment, str) else datetime.fromtimestamp(moment / 1000, UTC).isoformat()
        assert text.startswith("2026-10-24")


def test_glucose_tells_the_people_apart(documents: dict[str, Any]) -> None:
    def share(site: str, low: float, high: float) -> float:
        values = [entry["sgv"] for entry in readings(documents[site])]
        return 100 * sum(low <= value <= high for value in values) / len(values)

    def mean_at(site: str, offset: int, hours: range) -> float:
        found = readings(documents[site])
        return statistics.mean(e["sgv"] for e in found if (e["date"] // HOUR + offset) % 24 in hours)

    assert share("amber", 70, 180) > 85
    assert share("amber", 0, 69) < 4
    assert share("cedar", 0, 69) > 4
    assert share("dune", 70, 180) < 50
    assert share("dune", 251, 999) > 8
    # New York is at UTC-4 until November: high from 5 to 8 without a meal, calm at night.
    assert mean_at("birch", -4, range(5, 8)) - mean_at("birch", -4, range(3)) > 35


def test_glucose_moves_as_a_body_does(documents: dict[str, Any]) -> None:
    for person in PEOPLE:
        found = readings(documents[person.site], person.device)
        pairs = [(a, b) for a, b in pairwise(found) if b["date"] - a["date"] < 6 * 60_000]
        steps = [abs(b["sgv"] - a["sgv"]) for a, b in pairs]
        assert sum(step <= 15 for step in steps) / len(steps) > 0.98
        assert max(steps) < 60
        assert statistics.correlation([a["sgv"] for a, _ in pairs], [b["sgv"] for _, b in pairs]) > 0.97


def test_a_sensor_reports_every_five_minutes_but_for_gaps_and_warm_ups(documents: dict[str, Any]) -> None:
    for person in PEOPLE:
        found = readings(documents[person.site], person.device)
        between = [(b["date"] - a["date"]) / 60_000 for a, b in pairwise(found)]
        assert statistics.median(between) == pytest.approx(5, abs=0.05)
        assert len({entry["date"] % 60_000 for entry in found}) > 500
        assert sum(gap > 15 for gap in between) >= 5
        assert max(between) >= 360
        starts = [t for t in documents[person.site]["treatments"] if t["eventType"] == "Sensor Start"]
        assert len(starts) >= 2
        for start in starts:
            moment = datetime.fromisoformat(start["created_at"]).timestamp() * 1000
            assert not [entry for entry in found if moment <= entry["date"] < moment + 2 * HOUR]
            assert 18 <= datetime.fromisoformat(start["created_at"]).astimezone(person.zone).hour < 20


def test_a_second_uploader_repeats_readings_within_seconds(documents: dict[str, Any]) -> None:
    for person in PEOPLE:
        found = readings(documents[person.site])
        first = {entry["date"]: entry["sgv"] for entry in found if entry["device"] == person.device}
        copies = [entry for entry in found if entry["device"] != person.device]
        assert len(copies) > 100
        for copy in copies:
            near = [first[moment] for ms in range(1, 5) if (moment := copy["date"] - ms * 1000) in first]
            assert copy["sgv"] in near


def test_late_readings_come_two_days_after_the_fact(documents: dict[str, Any]) -> None:
    found = readings(documents["amber"])
    late = [entry for entry in found if entry["srvCreated"] - entry["date"] > HOUR]
    assert 60 < len(late) < 150
    assert {entry["srvCreated"] - entry["date"] for entry in late} == {2 * DAY}
    assert not any("srvCreated" in entry for entry in documents["birch"]["entries"])


def test_a_site_with_a_clock_shows_what_had_happened_by_then() -> None:
    now = FIRST_MS + 5 * DAY
    early = {site.site: site for site in demo_sites(FIRST, END, clock=lambda: now)}
    for name in ("amber", "birch"):
        before = {entry["_id"] for entry in early[name].documents("entries")}
        now = END_MS + 3 * DAY
        after = {entry["_id"]: entry for entry in early[name].documents("entries")}
        now = FIRST_MS + 5 * DAY
        hidden = [e for key, e in after.items() if key not in before and FIRST_MS <= e["date"] < now - HOUR]
        assert all(entry["date"] >= now - 2 * DAY for entry in hidden)
        assert not [key for key in before if now < after[key]["date"] < END_MS]
    assert any(site.documents("entries") for site in early.values())


def test_a_treatment_was_edited_and_one_deleted(sites: dict[str, NightscoutSite], documents: dict[str, Any]) -> None:
    for name in ("amber", "cedar", "dune"):
        stored = sites[name].view("treatments").documents
        edited = [t for t in stored if t["srvModified"] - t["srvCreated"] > 2 * HOUR and t["isValid"]]
        deleted = [t for t in stored if not t["isValid"]]
        assert edited
        assert deleted
        assert {t["notes"] for t in deleted} == {"entered twice"}
        assert not {t["_id"] for t in deleted} & {t["_id"] for t in documents[name]["treatments"]}
    assert not [t for t in sites["birch"].view("treatments").documents if t.get("notes") == "entered twice"]


def test_impossible_values_and_dates_are_there(documents: dict[str, Any]) -> None:
    for person in PEOPLE:
        values = Counter(entry["sgv"] for entry in documents[person.site]["entries"] if entry["type"] == "sgv")
        assert values[0] == values[5000] == values[None] >= 2
    dates = [entry["date"] for entry in documents["amber"]["entries"]]
    assert (dates[0], dates[-1]) == (12_345_678, 4_102_444_800_000)


def test_entries_hold_fingersticks_and_calibrations(documents: dict[str, Any]) -> None:
    kinds = {name: Counter(entry["type"] for entry in held["entries"]) for name, held in documents.items()}
    assert all(kinds[name]["mbg"] > 20 for name in kinds)
    assert kinds["amber"]["cal"] > 10
    assert kinds["cedar"]["cal"] == 0
    assert {entry["device"] for entry in documents["cedar"]["entries"]} >= {"xDrip-LimiTTer", "glucometer"}


def test_treatments_are_of_every_kind_and_glucose_names_its_unit(documents: dict[str, Any]) -> None:
    kinds = {t["eventType"] for held in documents.values() for t in held["treatments"]}
    assert kinds >= {
        "Meal Bolus",
        "Correction Bolus",
        "Carb Correction",
        "Temp Basal",
        "Site Change",
        "Sensor Start",
        "Exercise",
    }
    for name, unit, low, high in (("cedar", "mmol", 2, 22.5), ("amber", "mg/dl", 36, 405)):
        found = [t for t in documents[name]["treatments"] if "glucose" in t]
        assert {t["units"] for t in found} == {unit}
        assert all(low <= t["glucose"] <= high for t in found)
    assert max(entry["sgv"] or 0 for entry in readings(documents["cedar"])) > 100


def test_profiles_change_and_hold_schedules_by_time_of_day(documents: dict[str, Any]) -> None:
    for person in PEOPLE:
        profiles = documents[person.site]["profile"]
        assert profiles[0]["startDate"] < FIRST.isoformat() < profiles[-1]["startDate"]
        shown = [profile["store"]["Default"] for profile in profiles]
        assert len({orjson.dumps(store) for store in shown}) == len(shown)
        for store in shown:
            assert store["timezone"] == person.time_zone
            assert store["units"] == ("mmol" if person.mmol else "mg/dl")
            for schedule in ("basal", "carbratio", "sens", "target_low", "target_high"):
                assert store[schedule][0]["time"] == "00:00"
            assert len(store["basal"]) == 3
    assert isinstance(documents["birch"]["profile"][0]["store"]["Default"]["dia"], str)
    assert 4 < documents["cedar"]["profile"][0]["store"]["Default"]["target_low"][0]["value"] < 7


def test_statuses_are_those_of_a_loop_of_openaps_and_of_a_phone(documents: dict[str, Any]) -> None:
    status = {name: held["devicestatus"][0] for name, held in documents.items()}
    assert set(status["amber"]["loop"]) >= {"iob", "cob", "predicted"}
    assert status["amber"]["created_at"].endswith(":30Z")
    assert set(status["cedar"]["openaps"]) == {"iob", "suggested"}
    assert "pump" not in status["birch"]
    for name, held in documents.items():
        for row in held["devicestatus"]:
            battery = row["uploader"]["battery"] if name != "cedar" else row["uploaderBattery"]
            assert 0 < battery <= 100


def test_no_days_are_refused() -> None:
    with pytest.raises(ValueError, match="are none"):
        demo_sites(END, END)


def test_secrets_come_from_the_seed(sites: dict[str, NightscoutSite]) -> None:
    first, again, other = (demo_sites(FIRST, END, secret_seed=seed) for seed in ("a seed", "a seed", "another"))
    assert [site.token for site in first] == [site.token for site in again]
    assert len({site.token for site in [*first, *other, *sites.values()]}) == 12


def test_more_sites_are_people_like_the_four_with_days_of_their_own() -> None:
    four, many = demo_sites(FIRST, END), demo_sites(FIRST, END, count=6)
    assert [site.site for site in many] == [*(site.site for site in four), "amber-2", "birch-2"]
