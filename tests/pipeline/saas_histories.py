"""Random histories of an operational database: rows changed, added and deleted between runs in any order.

As in `histories`, a step that has nothing to change changes nothing, and what no run has had to see yet is owed: days
whose events were deleted for good (docs/how-to/backfill.md). All other changes are seen by the next run that ends after
them, however late they were committed within the overlap.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import partial

import psycopg
from hypothesis import strategies as st

from include.connections import Postgres
from include.interval import Interval
from include.layers import Layer
from include.sources.saas.streams import STREAMS
from tests.faults import children
from tests.faults.children import Commits
from tests.pipeline.histories import Until
from tests.pipeline.test_saas import SaasFlow

START, END = date(2025, 3, 1), date(2026, 3, 4)
DAYS = 4
FIRST = END - timedelta(days=DAYS)
OVERLAP = timedelta(days=1)
SECOND = timedelta(seconds=1)


class Kind(StrEnum):
    RENAME_USER = "update app.users set full_name = full_name || '.', updated_at = %(at)s where user_id = %(key)s"
    RENAME_ACCOUNT = "update app.accounts set name = name || '.', updated_at = %(at)s where account_id = %(key)s"
    REPRICE = (
        "update app.subscription_changes set amount = amount + 1, updated_at = %(at)s where change_id = %(key)s "
        "and amount > 0"
    )
    CORRECT_RATE = (
        "update app.exchange_rates set rate_to_usd = rate_to_usd * 1.01, updated_at = %(at)s where rate_id = %(key)s "
        "and currency <> 'USD'"
    )
    TOUCH_INVOICE = "update app.invoices set updated_at = %(at)s where invoice_id = %(key)s"
    ADD_EVENT = (
        "insert into app.product_events select %(new)s, account_id, user_id, event_name, occurred_at, properties, "
        "created_at, %(at)s, null from app.product_events where event_id = %(key)s"
    )
    TAKE_EVENT_BACK = "update app.product_events set deleted_at = %(at)s, updated_at = %(at)s where event_id = %(key)s"
    DELETE_EVENT = "delete from app.product_events where event_id = %(key)s"
    DELETE_CHANGE = (
        "delete from app.subscription_changes where change_id = %(key)s and change_type in ('upgrade', 'downgrade')"
    )

    @property
    def stream(self) -> str:
        return next(name for name in sorted(STREAMS, key=len, reverse=True) if f"app.{name}" in self.value)


@dataclass(frozen=True)
class Change:
    """A change of one row, made `minutes` after the first day began, committed when the history comes to it.

    Attributes:
        pick: which row: of events, counted from the newest, so that most are of the days that runs ask for.
    """

    kind: Kind
    pick: int
    minutes: int


@dataclass(frozen=True)
class Run:
    """A run over `days` days from the `first` of the range; see `histories.Run`."""

    first: int
    days: int = 1
    until: Until = Until.RELEASE
    full_refresh: bool = False
    killed_at: int | None = None

    @property
    def interval(self) -> Interval:
        start = FIRST + timedelta(days=self.first)
        return Interval.of_days(start, min(start + timedelta(days=self.days), END))


History = list[Change | Run]


@dataclass
class World:
    """The database, up to when runs have asked, and the days of events that one still has to ask for."""

    source: Postgres
    asked_to: datetime | None = None
    owed: set[date] = field(default_factory=set)
    made: int = 0

    def change(self, step: Change) -> None:
        """Let it happen, no earlier than a late commit may, and after the row's last change."""
        stream = STREAMS[step.kind.stream]
        (key,) = stream.key
        at = datetime.combine(FIRST, datetime.min.time(), UTC) + timedelta(minutes=step.minutes)
        if self.asked_to is not None:
            at = max(at, self.asked_to - OVERLAP)
        with psycopg.connect(self.source.conninfo(), autocommit=True) as connection:
            rows = connection.execute(
                f"select {key}, {stream.day}, updated_at from app.{stream.name} "  # type: ignore[arg-type]
                f"order by {stream.day} desc, {key} offset %s limit 1",
                [step.pick],
            ).fetchall()
            for found, day, changed in rows:
                self.made += 1
                values = {"key": found, "at": max(at, changed + SECOND), "new": 10**9 + self.made}
                done = connection.execute(step.kind.value, values)  # type: ignore[arg-type]
                if step.kind is Kind.DELETE_EVENT and done.rowcount:
                    self.owed.add(day.date())

    def run(self, interval: Interval) -> None:
        asked_to = self.asked_to or interval.end
        since = min(interval.start, asked_to) - OVERLAP
        self.owed = {day for day in self.owed if not since.date() <= day < interval.end.date()}
        self.asked_to = max(asked_to, interval.end)

    def closing(self) -> Run:
        """The newest day, and with it every day that is owed."""
        first = min((*self.owed, END - timedelta(days=1)))
        return Run((first - FIRST).days, (END - first).days)


def play(flow: SaasFlow, world: World, history: History) -> None:
    """Let a history happen, and then the run that settles what it owes; it is released."""
    for step in history:
        if isinstance(step, Run):
            if step.killed_at is not None:
                children.killed(flow, partial(once, run=step), Commits(step.killed_at))
            # Not in this process, which would count as a writer while it lives.
            children.run(flow, partial(once, run=step)).value()
            world.run(step.interval)
        else:
            world.change(step)
    last = world.closing()
    children.run(flow, partial(once, run=last)).value()
    world.run(last.interval)
    assert world.owed == set(), "the closing run settles everything"


def once(flow: SaasFlow, run: Run) -> None:
    """A run, or a part of it without the checks that only look."""
    if run.until is Until.RELEASE:
        flow.run(run.interval.start.date(), run.interval.end.date(), full_refresh=run.full_refresh)
        return
    flow.ingest(run.interval)
    if run.until >= Until.JUDGE:
        flow.judge(run.interval, f"test__{next(flow.runs)}")
    layers = {Until.SILVER: (Layer.BRONZE, Layer.SILVER), Until.GOLD: tuple(Layer)}.get(run.until, ())
    if layers:
        flow.dbt(*layers, full_refresh=run.full_refresh, tests=False)


changes = st.builds(Change, st.sampled_from(Kind), st.integers(0, 300), st.integers(0, DAYS * 1440 - 1))
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
    """Two to four runs with changes of the database before, between and after them."""
    steps: History = []
    for _ in range(draw(st.integers(2, 4))):
        steps += draw(st.lists(changes, max_size=4))
        steps.append(draw(runs))
    return steps + draw(st.lists(changes, max_size=4))
