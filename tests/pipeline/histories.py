"""Random histories of two small sites: what happens at the sites, runs in any order, and what is owed after each.

A history is a list of steps, and reads as one when a test prints it. Interpreting it never fails for the history's own
sake: a step that has nothing to change changes nothing, so that any part of a history is a history.

What a run promises is kept as debts: a changed record owes the days it is and was on, until a run has to have seen it
(docs/how-to/backfill.md). `closing` are the runs that settle what is left; after them the tables are those of one clean
run over the whole range.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import IntEnum
from functools import partial
from typing import Any

from hypothesis import strategies as st

from include.interval import Interval, ranges
from include.layers import Layer
from include.local.nightscout import NightscoutSite
from include.local.nightscout.query import iso
from include.sources.nightscout.streams import DAY_MS, EPOCH, STREAMS
from tests.faults import children
from tests.faults.children import Commits
from tests.pipeline.flow import Flow, require_same_rows

FIRST = date(2026, 3, 28)  # Berlin's clocks go forward on the day after
DAYS = 3
LOOKBACK_DAYS = 2
END = FIRST + timedelta(days=DAYS)
START_MS = (FIRST - EPOCH).days * DAY_MS
HOUR_MS, MINUTE_MS = 3_600_000, 60_000
WHOLE_RANGE = Interval.of_days(FIRST, END)

V3_SITE, V1_SITE = "amber", "birch"


class Until(IntEnum):
    """The last step of a run that was done: a run may be stopped anywhere, and the next one goes on."""

    INGEST = 1
    JUDGE = 2
    SILVER = 3
    GOLD = 4
    RELEASE = 5


@dataclass(frozen=True)
class Run:
    """A run over `days` days from the `first` of the range.

    Attributes:
        killed_at: after how many commits to the lake its process is killed, before it runs once more.
    """

    first: int
    days: int = 1
    until: Until = Until.RELEASE
    full_refresh: bool = False
    killed_at: int | None = None

    @property
    def interval(self) -> Interval:
        start = FIRST + timedelta(days=self.first)
        return Interval.of_days(start, min(start + timedelta(days=self.days), END))


@dataclass(frozen=True)
class Upload:
    """A new record of a `day` of the range (negative: before it).

    Attributes:
        by_v1: uploaded as most devices do it, so that a site with API v3 does not say when.
    """

    site: str
    stream: str
    day: int
    minute: int
    value: int = 0
    by_v1: bool = False
    hours_later: int = 0


@dataclass(frozen=True)
class Edit:
    """Another value for a record, and, if `to_day` is given and its stream allows it, another time."""

    site: str
    stream: str
    pick: int
    value: int = 0
    to_day: int | None = None
    hours_later: int = 0


@dataclass(frozen=True)
class Delete:
    site: str
    stream: str
    pick: int
    hours_later: int = 0


Change = Upload | Edit | Delete
History = list[Change | Run]


@dataclass
class Debt:
    """Days that a changed record is or was on and no run has seen since; `at` is when it changed, by v3's history."""

    days: set[date]
    at: int | None


@dataclass
class World:
    """The two sites, their clock, and what the runs so far owe."""

    sites: dict[str, NightscoutSite] = field(default_factory=lambda: {site.site: site for site in made_sites()})
    now: int = START_MS
    due: set[date] = field(default_factory=lambda: set(WHOLE_RANGE.days()))
    debts: dict[tuple[str, str, str], Debt] = field(default_factory=dict)
    made: int = 0

    def change(self, step: Change) -> None:
        """Let it happen at the site."""
        self.now += step.hours_later * HOUR_MS
        site = self.sites[step.site]
        if isinstance(step, Upload):
            self.made += 1
            document = _document(step.stream, _moment(step.day, step.minute, self.made), step.value, f"{self.made}")
            unstamped = {"srvModified": None, "srvCreated": None} if step.by_v1 and site.v3 else {}
            key = site.add(step.stream, document | unstamped, visible_at=self.now)
            self._owe(site, step.stream, key, set(), None if unstamped else self.now)
            return
        # The reading of noon stays: a day without any is a red gate.
        records = [key for key in _keys(site, step.stream) if "noon" not in (site.get(step.stream, key) or {})]
        if not records:
            return
        key = records[step.pick % len(records)]
        before = site.get(step.stream, key) or {}
        # A site's clock does not go back, and some of its records are of later days.
        at = max(self.now, before.get("srvModified") or 0, _time(step.stream, before))
        if isinstance(step, Delete):
            site.delete(step.stream, key, visible_at=at)
        else:
            site.edit(step.stream, key, self._edited(step, before), visible_at=at)
        self._owe(site, step.stream, key, {_day(step.stream, before)}, at)

    def run(self, interval: Interval) -> None:
        """What a run over the interval has to have seen is owed no more."""
        span = interval.widened(days_before=LOOKBACK_DAYS)
        seen, asked = set(span.days()), set(interval.days())
        start, end = ((moment - EPOCH).days * DAY_MS for moment in (span.start.date(), span.end.date()))
        self.due -= asked
        for (_, stream, _), debt in self.debts.items():
            if STREAMS[stream].whole:
                debt.days = {day for day in debt.days if day >= interval.end.date()}
            elif debt.at is not None and start <= debt.at < end:
                debt.days = set()
            else:
                debt.days -= seen
        self.debts = {key: debt for key, debt in self.debts.items() if debt.days}

    def closing(self) -> list[Run]:
        """Runs that ask for the days that nobody has, and settle every debt; at least one."""
        days = set(self.due)
        for (_, stream, _), debt in self.debts.items():
            changed = None if debt.at is None else EPOCH + timedelta(days=debt.at // DAY_MS)
            if STREAMS[stream].whole:
                days.add(END - timedelta(days=1))
            elif changed is not None and FIRST <= changed < END:
                days.add(changed)
            else:
                days |= {max(day, FIRST) for day in debt.days}
        days = days or {END - timedelta(days=1)}
        return [Run((first - FIRST).days, (last - first).days + 1) for first, last in ranges(days)]

    def _edited(self, step: Edit, before: dict[str, Any]) -> dict[str, Any]:
        moment = _time(step.stream, before)
        if step.to_day is not None and (STREAMS[step.stream].movable or STREAMS[step.stream].whole):
            moment += ((FIRST - EPOCH).days + step.to_day - moment // DAY_MS) * DAY_MS
        changed = _document(step.stream, moment, step.value, "")
        return {name: value for name, value in changed.items() if name != "device"}

    def _owe(self, site: NightscoutSite, stream: str, key: str, before: set[date], at: int | None) -> None:
        debt = self.debts.setdefault((site.site, stream, key), Debt(set(), None))
        debt.days |= before
        now = site.get(stream, key)
        if now is not None:
            debt.days.add(_day(stream, now))
        debt.at = at if site.v3 else None


def play(flow: Flow, world: World, history: History) -> None:
    """Let a history happen, and then the runs that settle what it owes; the last of them is released."""
    for step in history:
        if isinstance(step, Run):
            _run(flow, step)
            world.run(step.interval)
        else:
            world.change(step)
    *others, last = world.closing()
    for run in others:
        _run(flow, Run(run.first, run.days, Until.INGEST))
        world.run(run.interval)
    _run(flow, last)
    world.run(last.interval)
    assert (world.due, world.debts) == (set(), {}), "the closing runs settle everything"


def require_rows_of_a_clean_run(flow: Flow, clean: Flow) -> None:
    """Compare a flow with one that has seen nothing and now runs once over the whole range, row by row.

    Raises:
        AssertionError: silver, gold, the lake's views or the marts in PostgreSQL differ, or a table has no row at all.
    """
    _advance(clean, Run(0, DAYS, Until.GOLD))
    require_same_rows(flow, clean)


def _run(flow: Flow, run: Run) -> None:
    if run.killed_at is not None:
        children.killed(flow, partial(_once, run=run), Commits(run.killed_at))
    _once(flow, run)


def _once(flow: Flow, run: Run) -> None:
    if run.until is Until.RELEASE:
        flow.run(run.interval.start.date(), run.interval.end.date(), full_refresh=run.full_refresh)
    else:
        _advance(flow, run)


def _advance(flow: Flow, run: Run) -> None:
    """The steps of a run, without the checks that only look."""
    flow.ingest(run.interval)
    if run.until >= Until.JUDGE:
        flow.judge(run.interval, f"test__{next(flow.runs)}")
    layers = {Until.SILVER: (Layer.BRONZE, Layer.SILVER), Until.GOLD: tuple(Layer)}.get(run.until, ())
    if layers:
        flow.dbt(*layers, full_refresh=run.full_refresh, tests=False)


# What the sites hold ------------------------------------------------------------------------------------------


def made_sites() -> list[NightscoutSite]:
    """A site with API v3 and one without: a few records of each stream on each day, look-back included."""
    sites = [
        NightscoutSite(V3_SITE, time_zone="Europe/Berlin"),
        NightscoutSite(V1_SITE, time_zone="America/New_York", v3=False),
    ]
    for site in sites:
        for day in range(-LOOKBACK_DAYS, DAYS):
            for stream, name, minute in _ordinary(day):
                moment = _moment(day, minute)
                document = _document(stream, moment, day + minute, name)
                site.add(stream, document | ({"noon": True} if name == "noon" else {}), visible_at=moment)
    return sites


def _ordinary(day: int) -> Iterator[tuple[str, str, int]]:
    # Around midnight a day depends on its neighbours: slots, repeats and local days reach over it.
    for minute in (0, 4, 715, 1436, 1439):
        yield "entries", "noon" if minute == 715 else f"{minute}", minute
    yield "treatments", "lunch", 720
    yield "treatments", "late", 1438
    yield "devicestatus", "status", 600
    if day in (-1, 1):
        yield "profile", "profile", 390


def _document(stream: str, moment: int, value: int, name: str) -> dict[str, Any]:
    match stream:
        case "entries":
            # Below 40 a sensor says that it does not know: such a record is set aside.
            sgv = 5 if value % 17 == 16 else 60 + value % 200
            return {"type": "sgv", "date": moment, "dateString": iso(moment), "sgv": sgv, "device": f"share{value % 2}"}
        case "treatments":
            dose = {"insulin": (value % 40) / 4} if value % 3 else {"carbs": value % 60 + 1, "insulin": None}
            kind = "Meal Bolus" if value % 3 else "Carbs"
            return {"eventType": kind, "created_at": iso(moment), "enteredBy": "pen", "notes": name} | dose
        case "devicestatus":
            battery = {"uploader": {"battery": value % 100}, "uploaderBattery": value % 100}
            return {"created_at": iso(moment), "device": "phone"} | battery
        case "profile":
            steps = [{"time": "00:00", "value": 1 + value % 10, "timeAsSeconds": 0}]
            same = dict.fromkeys(("carbratio", "sens", "basal", "target_low", "target_high"), steps)
            store = {"Default": same | {"dia": 5, "timezone": "UTC", "units": "mg/dl"}}
            times = {"startDate": iso(moment), "created_at": iso(moment), "mills": moment}
            return times | {"defaultProfile": "Default", "units": "mg/dl", "store": store}
    raise ValueError(f"There is no stream {stream}.")


def _moment(day: int, minute: int, nth: int = 0) -> int:
    """No two records are of the same moment, so that none is another one's copy."""
    return START_MS + day * DAY_MS + minute * MINUTE_MS + nth * 7_000 % MINUTE_MS + nth


def _time(stream: str, document: dict[str, Any]) -> int:
    moment = STREAMS[stream].event_time(document)
    assert moment is not None
    return moment


def _day(stream: str, document: dict[str, Any]) -> date:
    day = STREAMS[stream].day(document)
    assert day is not None
    return day


def _keys(site: NightscoutSite, stream: str) -> list[str]:
    return sorted(document["identifier" if site.v3 else "_id"] for document in site.documents(stream))


# Histories to draw --------------------------------------------------------------------------------------------

_site = st.sampled_from((V3_SITE, V1_SITE))
_stream = st.sampled_from(tuple(STREAMS))
_day_of_record = st.integers(-LOOKBACK_DAYS, DAYS - 1)
_value, _pick, _hours = st.integers(0, 400), st.integers(0, 20), st.integers(0, 30)
_minute = st.one_of(st.sampled_from((0, 1, 2, 3, 1437, 1438, 1439)), st.integers(0, 1439))

uploads = st.builds(Upload, _site, _stream, _day_of_record, _minute, _value, st.booleans(), _hours)
edits = st.builds(Edit, _site, _stream, _pick, _value, st.none() | _day_of_record, _hours)
deletes = st.builds(Delete, _site, _stream, _pick, _hours)
changes = st.lists(uploads | edits | deletes, max_size=3)
runs = st.builds(
    Run,
    first=st.integers(0, DAYS - 1),
    days=st.integers(1, DAYS),
    until=st.sampled_from((Until.GOLD, Until.SILVER, Until.JUDGE, Until.INGEST, Until.RELEASE)),
    full_refresh=st.booleans(),
    killed_at=st.none() | st.integers(1, 25),
)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Two to four runs with changes at the sites before, between and after them."""
    steps: History = []
    for _ in range(draw(st.integers(2, 4))):
        steps += draw(changes)
        steps.append(draw(runs))
    return steps + draw(changes)
