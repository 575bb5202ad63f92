"""Four made-up people, day by day: the same day always has the same documents, whatever range is asked for.

Every document belongs to the UTC day of its own time and is made from the person and that day alone, so days can be
appended and a shorter range is a part of a longer one. Nothing here is anybody's data.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache, partial
from hashlib import sha1
from itertools import pairwise
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from include.local.nightscout.query import iso
from include.local.nightscout.store import Clock, NightscoutSite

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
SLOT = 5 * MINUTE
SLOTS = DAY // SLOT
MMOL = 18.0182
"""mg/dL in one mmol/L of glucose."""
WARM_UP = 2 * HOUR
LATE = 2 * DAY
LOWEST, HIGHEST = 39, 401
"""What a sensor reports where glucose is below or above its range, mg/dL."""
FAINTING = (36.0, 470.0)
"""What nobody in these data goes beyond, mg/dL."""
NOTHING_BEFORE = 1_577_836_800_000
"""When the records with impossible dates were uploaded: 2020-01-01."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Person:
    """How one person's days look. Glucose in mg/dL, insulin in units, carbohydrates in grams."""

    site: str
    time_zone: str
    units: str
    v3: bool
    auth: str
    baseline: float
    dawn: float
    evening: float
    noise: float
    rise_per_gram: float
    meal_peak_minutes: int
    missed_bolus: float
    exercise: float
    hypos: float
    carb_ratio: float
    sensitivity: float
    basal: float
    device: str
    entered_by: str
    loop: str
    sensor_days: int
    profile_days: int
    phase: int

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def mmol(self) -> bool:
        return self.units == "mmol/l"

    def random(self, subject: str, day: int) -> Random:
        """Numbers that depend on the person, the subject and the day, and on nothing else."""
        return Random(f"{self.site}/{subject}/{day}")  # noqa: S311


PEOPLE = (
    # In good control, with an automatic pump.
    Person(
        "amber", "Europe/Berlin", "mg/dl", True, "token", baseline=112, dawn=8, evening=6, noise=9,
        rise_per_gram=0.95, meal_peak_minutes=65, missed_bolus=0.02, exercise=0.5, hypos=0.15, carb_ratio=10,
        sensitivity=45, basal=0.85, device="share2", entered_by="Loop", loop="loop", sensor_days=10, profile_days=14,
        phase=1,
    ),
    # High in the morning; an older Nightscout, so API v1 only.
    Person(
        "birch", "America/New_York", "mg/dl", False, "secret", baseline=122, dawn=68, evening=4, noise=12,
        rise_per_gram=1.15, meal_peak_minutes=70, missed_bolus=0.06, exercise=0.3, hypos=0.1, carb_ratio=12,
        sensitivity=50, basal=0.7, device="share2", entered_by="careportal", loop="", sensor_days=10, profile_days=21,
        phase=4,
    ),
    # Often low; reads mmol/L, half an hour off the whole hour.
    Person(
        "cedar", "Australia/Adelaide", "mmol/l", True, "token", baseline=98, dawn=10, evening=-6, noise=12,
        rise_per_gram=0.9, meal_peak_minutes=60, missed_bolus=0.03, exercise=0.6, hypos=1.3, carb_ratio=8,
        sensitivity=36, basal=0.95, device="xDrip-LimiTTer", entered_by="openaps://phone", loop="openaps",
        sensor_days=14, profile_days=10, phase=2,
    ),
    # In poor control, with pens.
    Person(
        "dune", "UTC", "mg/dl", True, "token", baseline=168, dawn=26, evening=18, noise=17,
        rise_per_gram=1.5, meal_peak_minutes=85, missed_bolus=0.3, exercise=0.15, hypos=0.12, carb_ratio=7,
        sensitivity=30, basal=1.2, device="xDrip-LimiTTer", entered_by="xdrip", loop="", sensor_days=14,
        profile_days=28, phase=5,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Upload:
    """A document and what happened to it: uploaded, perhaps changed once or deleted, at epoch ms."""

    collection: str
    document: Document
    at: int
    edit: Document | None = None
    edited_at: int = 0
    deleted_at: int = 0


@dataclass(frozen=True)
class Event:
    """Something in a person's day that moves glucose: `effect` mg/dL at its peak, `peak` minutes later."""

    kind: str
    at: int
    effect: float
    peak: int
    carbs: int = 0
    insulin: float = 0.0
    minutes: int = 0


def demo_sites(
    first: date, end: date, *, count: int = len(PEOPLE), secret_seed: str | None = None, clock: Clock | None = None
) -> list[NightscoutSite]:
    """Demo sites with the days `[first, end)`, in UTC, and the profile that is in force before them.

    Args:
        first: the first day.
        end: the day after the last.
        count: how many; beyond four they are people like those, with days of their own.
        secret_seed: what the sites' secrets come from; without it they are the same known ones at each call.
        clock: the sites' time, epoch ms; with it, late uploads, edits and deletions come when their moment does.
    """
    if first >= end:
        raise ValueError(f"Demo days {first} to {end} are none; expected an end, exclusive, after the first day.")
    sites = []
    for person in _people(count):
        site = NightscoutSite(
            person.site,
            time_zone=person.time_zone,
            units=person.units,
            v3=person.v3,
            auth=person.auth,
            secret=secret_for(person.site, secret_seed),
            clock=clock,
            fill=partial(_fill, person, first, end),
        )
        sites.append(site)
    return sites


def _people(count: int) -> Iterator[Person]:
    for number in range(count):
        again, like = divmod(number, len(PEOPLE))
        person = PEOPLE[like]
        yield replace(person, site=f"{person.site}-{again + 1}") if again else person


def add_days(site: NightscoutSite, first: date, end: date) -> None:
    """Append the days `[first, end)`, in UTC, to a demo site."""
    like, _, number = site.site.partition("-")
    person = next(person for person in PEOPLE if person.site == like)
    person = replace(person, site=site.site) if number else person
    for upload in uploads(person, first, end):
        _put(site, upload)


def uploads(person: Person, first: date, end: date) -> Iterator[Upload]:
    """What happens on a person's site about the days `[first, end)`, in UTC."""
    for day in range(first.toordinal(), end.toordinal()):
        yield from _day(person, day)


def secret_for(site: str, seed: str | None) -> str | None:
    """A site's API secret from a seed; None without one."""
    return None if seed is None else sha1(f"{seed}/{site}".encode(), usedforsecurity=False).hexdigest()


def _fill(person: Person, first: date, end: date, site: NightscoutSite) -> None:
    for upload in (*_before(person, first), *uploads(person, first, end)):
        _put(site, upload)


def _put(site: NightscoutSite, upload: Upload) -> None:
    key = site.add(upload.collection, upload.document, visible_at=upload.at)
    if upload.edit:
        site.edit(upload.collection, key, upload.edit, visible_at=upload.edited_at)
    if upload.deleted_at:
        site.delete(upload.collection, key, visible_at=upload.deleted_at)


def _before(person: Person, first: date) -> Iterator[Upload]:
    """What a site holds whatever the range: the profile in force, and records whose dates cannot be."""
    day = first.toordinal() - 1
    while not _profile_changes(person, day):
        day -= 1
    yield _profile(person, day)
    if person.site == "amber":
        for moment, sgv in ((12_345_678, 118), (4_102_444_800_000, 127)):
            yield Upload("entries", _entry(person, "date", moment, sgv, "Flat"), NOTHING_BEFORE)


def _day(person: Person, day: int) -> Iterator[Upload]:
    start = _day_ms(day)
    curve = _curve(person, day)
    events = [event for event in _events_around(person, day) if start <= event.at < start + DAY]
    yield from _readings(person, day, curve)
    yield from _fingersticks(person, day, curve)
    yield from _treatments(person, day, curve, events)
    yield from _statuses(person, day, curve)
    if _profile_changes(person, day):
        yield _profile(person, day)


# Glucose


def _curve(person: Person, day: int) -> list[float]:
    """Glucose in mg/dL at each 5 minutes of a UTC day."""
    start = _day_ms(day)
    rhythm = _rhythm(person)
    slow, middle, fast = (_smooth(person, name, day, nodes) for name, nodes in (("s", 12), ("m", 36), ("f", 144)))
    level = _smooth(person, "level", day, 1)
    curve = []
    for hour in range(24):
        local = _local_minute(person, start + hour * HOUR)
        for slot in range(12 * hour, 12 * hour + 12):
            base, calm = rhythm[(local // 5 + slot % 12) % SLOTS]
            wander = 0.9 * slow[slot] + 0.5 * middle[slot] + 0.22 * fast[slot]
            curve.append(base + person.noise * (0.7 * level[slot] + calm * wander))
    for event in _events_around(person, day):
        shape = _shape(event.peak)
        first = -((start - event.at) // SLOT)
        for step, part in enumerate(shape):
            if 0 <= first + step < SLOTS:
                curve[first + step] += event.effect * part
    return [min(FAINTING[1], max(FAINTING[0], glucose)) for glucose in curve]


@lru_cache(maxsize=8)
def _rhythm(person: Person) -> list[tuple[float, float]]:
    """By 5 minutes of the local day: glucose without meals, and how much it wanders (nights are calm)."""
    table = []
    for slot in range(SLOTS):
        hour = slot / 12
        dawn = person.dawn * math.exp(-(((hour - 6.8) / 1.9) ** 2))
        evening = person.evening * math.exp(-(((hour - 20.5) / 3.0) ** 2))
        calm = 1 - 0.55 * math.exp(-((((hour + 12) % 24 - 15) / 3.2) ** 4))
        table.append((person.baseline + dawn + evening, calm))
    return table


@lru_cache(maxsize=64)
def _shape(peak: int) -> list[float]:
    """Rise to 1 at `peak` minutes and back, by 5 minutes, until nothing of it is left."""
    steps = range(0, 6 * peak, 5)
    return [(minute / peak) ** 2 * math.exp(2 - 2 * minute / peak) for minute in steps]


def _smooth(person: Person, name: str, day: int, nodes: int) -> list[float]:
    """Noise through `nodes` random points a day, continuous over midnight, at each slot."""
    points = [*_points(person, name, day, nodes), _points(person, name, day + 1, nodes)[0]]
    width = SLOTS // nodes
    weights = _cosine(width)
    return [a + (b - a) * weight for a, b in pairwise(points) for weight in weights]


@lru_cache(maxsize=64)
def _points(person: Person, name: str, day: int, nodes: int) -> list[float]:
    random = person.random(f"noise-{name}", day)
    return [random.gauss(0, 1) for _ in range(nodes)]


@lru_cache(maxsize=8)
def _cosine(width: int) -> list[float]:
    return [(1 - math.cos(math.pi * step / width)) / 2 for step in range(width)]


# Events of a day


def _events_around(person: Person, day: int) -> list[Event]:
    return [event for local_day in (day - 1, day, day + 1) for event in _events(person, local_day)]


@lru_cache(maxsize=32)
def _events(person: Person, local_day: int) -> list[Event]:
    """Meals, boluses, exercise and lows of a local day."""
    random = person.random("events", local_day)
    weekend = local_day % 7 in (6, 0)
    meals = [(7.3 + 1.4 * weekend, 0.3, 38), (12.7, 0.4, 58), (18.8, 0.5, 66)]
    if random.random() < 0.45:
        meals.append((15.6, 0.4, 22))
    events = []
    for hour, spread, typical in meals:
        carbs = max(8, round(random.gauss(typical, typical * 0.22)))
        at = _local_ms(person, local_day, hour + spread * max(-2.0, min(2.0, random.gauss(0, 1))))
        missed = random.random() < person.missed_bolus
        insulin = 0.0 if missed else _dose(carbs / person.carb_ratio)
        effect = carbs * person.rise_per_gram * (1.55 if missed else random.uniform(0.7, 1.2))
        events.append(Event("Meal Bolus" if typical > 30 else "Snack Bolus", at, effect, person.meal_peak_minutes,
                            carbs, insulin))  # fmt: skip
        if missed or random.random() < 0.12:
            units = _dose(random.uniform(0.9, 2.2))
            events.append(Event("Correction Bolus", at + 115 * MINUTE, -units * person.sensitivity * 0.7, 95, 0, units))
    if random.random() < person.exercise:
        at = _local_ms(person, local_day, random.choice((6.4, 17.3, 17.9)) + random.uniform(0, 0.5))
        events.append(Event("Exercise", at, -random.uniform(22, 42), 70, minutes=random.choice((30, 45, 60))))
    for share in (1.0, 0.3):
        if random.random() < person.hypos * share:
            at = _local_ms(person, local_day, random.choice((2.2, 3.4, 10.6, 16.2, 22.4)) + random.uniform(0, 0.8))
            depth = person.baseline + person.evening - random.uniform(48, 66)
            events.append(Event("low", at, -depth, 55))
            events.append(Event("Carb Correction", at + 55 * MINUTE, 14, 40, carbs=random.choice((10, 15, 15, 20))))
    return events


def _dose(units: float) -> float:
    return max(0.1, round(units * 20) / 20)


# Entries


def _readings(person: Person, day: int, curve: list[float]) -> Iterator[Upload]:
    start = _day_ms(day)
    random = person.random("readings", day)
    sensors = _sensors(person, day)
    silent = _silences(person, day)
    second_uploader = (14 * 12, 17 * 12) if _every(person, day, 4) else (0, 0)
    late = (9 * 12, 11 * 12) if _every(person, day, 7) else (0, 0)
    before = curve[0]
    for slot, glucose in enumerate(curve):
        while len(sensors) > 1 and sensors[1][0] <= start + slot * SLOT:
            del sensors[0]
        moment = start + slot * SLOT + sensors[0][1] + int(random.random() * 5 * SECOND)
        delta, before = glucose - before, glucose
        sgv = round(min(HIGHEST, max(LOWEST, glucose + random.gauss(0, 1.2))))
        upload_delay = 3 * SECOND + int(random.random() * 20 * SECOND)
        if any(a <= moment < b for a, b in silent):
            continue
        at = moment + (LATE if late[0] <= slot < late[1] else upload_delay)
        yield Upload("entries", _entry(person, "sgv", moment, sgv, _direction(delta), delta), at)
        if second_uploader[0] <= slot < second_uploader[1]:
            again = moment + (1 + slot % 4) * SECOND
            copy = _entry(person, "copy", again, sgv, _direction(delta)) | {"device": "xDrip-G5-Follower"}
            yield Upload("entries", copy, max(at, again) + 2 * SECOND)
    if _every(person, day, 10):
        for number, sgv in enumerate((0, 5000, None)):
            moment = start + (20 * 12 + number) * SLOT + 150 * SECOND
            yield Upload("entries", _entry(person, "bad", moment, sgv, "NOT COMPUTABLE"), moment + 4 * SECOND)


def _entry(
    person: Person, name: str, moment: int, sgv: int | None, direction: str, delta: float | None = None
) -> Document:
    text = iso(moment)
    entry = {
        "_id": _id(person, name, moment),
        "type": "sgv",
        "device": person.device,
        "date": moment,
        "dateString": text,
        "sgv": sgv,
        "direction": direction,
        "sysTime": text,
        "utcOffset": 0,
    }
    if person.device.startswith("xDrip") and sgv is not None:
        entry |= {"noise": 1, "filtered": sgv * 1000, "unfiltered": sgv * 1000, "rssi": 100}
        if delta is not None:
            entry["delta"] = round(delta, 3)
    return entry


def _direction(delta: float) -> str:
    """The arrow for a change in mg/dL over 5 minutes."""
    steep = abs(delta)
    if steep < 5:
        return "Flat"
    name = "FortyFive" if steep < 10 else "Single" if steep < 15 else "Double"
    return f"{name}{'Up' if delta > 0 else 'Down'}"


def _silences(person: Person, day: int) -> list[tuple[int, int]]:
    """When no reading came, epoch ms: a sensor's warm-up, and signal lost for a while."""
    start = _day_ms(day)
    silent = [(at, at + WARM_UP) for at in (_sensor_start(person, near) for near in range(day - 1, day + 2)) if at]
    random = person.random("silence", day)
    if random.random() < 0.35:
        at = start + int(random.uniform(0, 0.9) * DAY)
        silent.append((at, at + int(random.uniform(18, 95)) * MINUTE))
    if _every(person, day, 13):
        at = start + int(random.uniform(0.05, 0.6) * DAY)
        silent.append((at, at + 6 * HOUR))
    return silent


def _sensor_start(person: Person, local_day: int) -> int | None:
    """When a new sensor was set on a local day, epoch ms; None on most days."""
    if (local_day + person.phase) % person.sensor_days:
        return None
    return _local_ms(person, local_day, 18 + person.random("sensor", local_day).uniform(0, 1.5))


def _sensors(person: Person, day: int) -> list[tuple[int, int]]:
    """The sensors of a UTC day: when each was set, and how long after the full 5 minutes it reports; both in ms."""
    sensors = []
    for near in range(day - person.sensor_days - 1, day + 2):
        at = _sensor_start(person, near)
        if at is not None:
            sensors.append((at, 15 * SECOND + int(person.random("sensor-phase", near).random() * 265 * SECOND)))
    current = max(index for index, (at, _) in enumerate(sensors) if at <= _day_ms(day))
    return sensors[current:]


def _fingersticks(person: Person, day: int, curve: list[float]) -> Iterator[Upload]:
    start = _day_ms(day)
    random = person.random("fingerstick", day)
    for slot in (int(random.uniform(80, 110)), int(random.uniform(200, 260))):
        if random.random() < 0.6:
            moment = start + slot * SLOT + 37 * SECOND
            text = iso(moment)
            device = {"device": "glucometer", "date": moment, "dateString": text, "sysTime": text, "utcOffset": 0}
            mbg = round(curve[slot] * random.gauss(1, 0.05))
            document = {"_id": _id(person, "mbg", moment), "type": "mbg", "mbg": mbg} | device
            yield Upload("entries", document, moment + 30 * SECOND)
    if person.device == "share2" and _every(person, day, 2):
        moment = start + 100 * SLOT + 211 * SECOND
        calibration = {
            "_id": _id(person, "cal", moment),
            "type": "cal",
            "date": moment,
            "dateString": iso(moment),
            "device": person.device,
            "slope": round(random.uniform(780, 900), 3),
            "intercept": round(random.uniform(29_000, 33_000), 3),
            "scale": 1,
            "sysTime": iso(moment),
            "utcOffset": 0,
        }
        yield Upload("entries", calibration, moment + 30 * SECOND)


# Treatments


def _treatments(person: Person, day: int, curve: list[float], events: list[Event]) -> Iterator[Upload]:
    start = _day_ms(day)
    meals = sorted(event.at for event in events if event.kind == "Meal Bolus")
    for event in events:
        if event.kind == "low":
            continue
        fields: Document = {}
        if event.carbs:
            fields["carbs"] = event.carbs
        if event.insulin:
            fields["insulin"] = event.insulin
        if event.minutes:
            fields |= {"duration": event.minutes, "notes": "cycling"}
        else:
            fields |= _glucose(person, curve[(event.at - start) // SLOT])
        kind = "Carbs" if event.kind.endswith("Bolus") and not event.insulin else event.kind
        document = _treatment(person, kind, event.at, fields)
        if meals and event.at == meals[-1] and _every(person, day, 6):
            right = event.at + 3 * HOUR
            wrong = document | {"carbs": event.carbs + 25}
            yield Upload("treatments", wrong, event.at + 9 * SECOND, {"carbs": event.carbs}, right)
        else:
            yield Upload("treatments", document, event.at + 9 * SECOND)
    if meals and _every(person, day, 8):
        moment = meals[0] + 40 * SECOND
        twice = _treatment(person, "Meal Bolus", moment, {"carbs": 45, "insulin": 4.0, "notes": "entered twice"})
        yield Upload("treatments", twice, moment + 9 * SECOND, deleted_at=moment + 20 * MINUTE)
    sensor = next((at for near in (day - 1, day, day + 1) if (at := _sensor_start(person, near))), None)
    if sensor is not None and start <= sensor < start + DAY:
        yield Upload("treatments", _treatment(person, "Sensor Start", sensor, {}), sensor + MINUTE)
    if person.loop and _every(person, day, 3):
        moment = start + 15 * HOUR + int(person.random("site", day).random() * 4 * HOUR)
        yield Upload("treatments", _treatment(person, "Site Change", moment, {}), moment + MINUTE)
    if person.loop:
        yield from _temporary_basals(person, day, curve)


def _temporary_basals(person: Person, day: int, curve: list[float]) -> Iterator[Upload]:
    start = _day_ms(day)
    random = person.random("basal", day)
    for slot in range(int(random.uniform(1, 6)), SLOTS, 9):
        if random.random() < 0.3:
            continue
        moment = start + slot * SLOT + 71 * SECOND
        aim = 1 + (curve[slot] - 110) / 90
        rate = round(max(0.0, min(3.0, aim)) * person.basal * 20) / 20
        fields = {"duration": 30, "absolute": rate, "rate": rate, "temp": "absolute"}
        yield Upload("treatments", _treatment(person, "Temp Basal", moment, fields), moment + 6 * SECOND)


def _treatment(person: Person, kind: str, moment: int, fields: Document) -> Document:
    document = {
        "_id": _id(person, kind, moment),
        "eventType": kind,
        "created_at": iso(moment),
        "enteredBy": person.entered_by,
        "utcOffset": 0,
    }
    return document | fields


def _glucose(person: Person, value: float) -> Document:
    if person.mmol:
        return {"glucose": round(value / MMOL, 1), "glucoseType": "Sensor", "units": "mmol"}
    return {"glucose": round(value), "glucoseType": "Sensor", "units": "mg/dl"}


# Device status


def _statuses(person: Person, day: int, curve: list[float]) -> Iterator[Upload]:
    start = _day_ms(day)
    random = person.random("status", day)
    make = {"loop": _loop_status, "openaps": _openaps_status}.get(person.loop, _uploader_status)
    for slot in range(1, SLOTS, 3 if person.loop else 6):
        moment = start + slot * SLOT + 90 * SECOND
        awake = (_local_minute(person, moment) / 60 - 7) % 24
        battery = round(97 - 4.1 * awake) if awake < 16 else round(32 + 8 * (awake - 16))
        document = make(person, moment, curve[slot], max(4, min(100, battery)), random)
        yield Upload("devicestatus", document, moment + 5 * SECOND)


def _loop_status(person: Person, moment: int, glucose: float, battery: int, random: Random) -> Document:
    # This uploader writes whole seconds, which sort after the same second with milliseconds.
    text = iso(moment).replace(".000Z", "Z")
    values = [round(glucose + (112 - glucose) * step / 12) for step in range(12)]
    return {
        "_id": _id(person, "loop", moment),
        "device": "loop://iPhone",
        "created_at": text,
        "loop": {
            "name": "Loop",
            "version": "3.4.1",
            "timestamp": text,
            "iob": {"iob": round(random.uniform(0, 4), 2), "timestamp": text},
            "cob": {"cob": round(random.uniform(0, 40), 1), "timestamp": text},
            "predicted": {"startDate": text, "values": values},
        },
        "pump": {
            "clock": text,
            "reservoir": round(random.uniform(20, 180), 1),
            "suspended": False,
            "bolusing": False,
            "battery": {"percent": 40 + battery // 2},
        },
        "uploader": {"battery": battery, "name": "iPhone", "timestamp": text},
    }


def _openaps_status(person: Person, moment: int, glucose: float, battery: int, random: Random) -> Document:
    text = iso(moment)
    iob = round(random.uniform(-0.3, 4), 2)
    return {
        "_id": _id(person, "openaps", moment),
        "device": "openaps://phone",
        "created_at": text,
        "openaps": {
            "iob": {"iob": iob, "basaliob": round(iob / 3, 2), "time": text},
            "suggested": {
                "bg": round(glucose),
                "eventualBG": round(glucose - iob * person.sensitivity),
                "rate": round(person.basal * random.uniform(0, 2), 2),
                "duration": 30,
                "timestamp": text,
            },
        },
        "pump": {
            "clock": text,
            "reservoir": round(random.uniform(20, 280), 1),
            "status": {"status": "normal", "timestamp": text},
            "battery": {"percent": 40 + battery // 2},
            "extended": {"ActiveProfile": "Default"},
        },
        "uploaderBattery": battery,
        "isCharging": False,
    }


def _uploader_status(person: Person, moment: int, glucose: float, battery: int, random: Random) -> Document:
    return {
        "_id": _id(person, "uploader", moment),
        "device": "phone",
        "created_at": iso(moment),
        "uploader": {"battery": battery, "type": "PHONE"},
        "uploaderBattery": battery,
    }


# Profiles


def _profile_changes(person: Person, day: int) -> bool:
    return (day + person.phase) % person.profile_days == 0


def _profile(person: Person, day: int) -> Upload:
    """The profile that took effect on a day; numbers are text where the profile editor of the site wrote it."""
    moment = _day_ms(day) + 6 * HOUR + 30 * MINUTE
    random = person.random("profile", (day + person.phase) // person.profile_days)
    scale = MMOL if person.mmol else 1.0
    written: Callable[[float], Any] = (lambda value: f"{value:g}") if not person.loop else (lambda value: value)

    def schedule(*points: tuple[int, float], digits: int) -> list[Document]:
        return [
            {"time": f"{hour:02d}:00", "value": written(round(value, digits)), "timeAsSeconds": written(hour * 3600)}
            for hour, value in points
        ]

    basal = person.basal * random.uniform(0.88, 1.12)
    ratio = person.carb_ratio * random.uniform(0.9, 1.1)
    sensitivity = person.sensitivity * random.uniform(0.9, 1.1) / scale
    low = random.choice((90, 95, 100)) / scale
    high = random.choice((110, 115, 120)) / scale
    digits = 1 if person.mmol else 0
    morning = 1.35 if person.dawn > 20 else 1.15

    def store(strength: float) -> Document:
        return {
            "dia": written(6),
            "carbratio": schedule((0, ratio * 1.1), (6, ratio * 0.85), (11, ratio), digits=1),
            "sens": schedule((0, sensitivity * 1.1), (7, sensitivity), digits=digits),
            "basal": schedule(
                (0, basal * strength * 0.9), (4, basal * strength * morning), (9, basal * strength), digits=3
            ),
            "target_low": schedule((0, low), (22, low + 10 / scale), digits=digits),
            "target_high": schedule((0, high), (22, high + 10 / scale), digits=digits),
            "timezone": person.time_zone,
            "units": "mmol" if person.mmol else "mg/dl",
            "startDate": "1970-01-01T00:00:00.000Z",
        }

    stores = {"Default": store(1.0)} | ({"Sport": store(0.6)} if person.loop else {})
    document = {
        "_id": _id(person, "profile", moment),
        "defaultProfile": "Default",
        "startDate": iso(moment),
        "created_at": iso(moment),
        "mills": written(moment) if person.loop else str(moment),
        "units": "mmol" if person.mmol else "mg/dl",
        "enteredBy": person.entered_by,
        "store": stores,
    }
    return Upload("profile", document, moment + 20 * SECOND)


# Time and names


def _day_ms(day: int) -> int:
    return (day - 719_163) * DAY


def _every(person: Person, day: int, days: int) -> bool:
    return (day + person.phase) % days == 0


@lru_cache(maxsize=4096)
def _offset_ms(person: Person, hour: int) -> int:
    offset = datetime.fromtimestamp(hour * 3600, UTC).astimezone(person.zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds()) * SECOND


def _local_minute(person: Person, moment: int) -> int:
    return (moment + _offset_ms(person, moment // HOUR)) // MINUTE % 1440


def _local_ms(person: Person, local_day: int, hour: float) -> int:
    """A local time of day, in hours, as epoch ms; hours beyond the day run into the next one."""
    noon = datetime.combine(date.fromordinal(local_day), time(0), tzinfo=person.zone)
    # Wall-clock arithmetic, so that breakfast keeps its hour when the clocks change.
    return int((noon + timedelta(seconds=round(hour * 3600))).timestamp()) * SECOND


def _id(person: Person, name: str, moment: int) -> str:
    return sha1(f"{person.site}/{name}/{moment}".encode(), usedforsecurity=False).hexdigest()[:24]
