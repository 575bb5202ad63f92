"""The interval that a run belongs to: whole UTC days, half open."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from include.errors import LakehouseError

ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, order=True)
class Interval:
    """`[start, end)` in UTC, both at midnight.

    The lake replaces whole UTC days, which is what makes runs repeatable in any order; an interval that cuts a day
    in two would replace the day by half of it.

    Raises:
        LakehouseError: start or end is not a UTC midnight, or the interval is empty.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if value.tzinfo is None or value.utcoffset() != timedelta(0):
                raise LakehouseError(f"Interval {name} is {value.isoformat()}; expected a time in UTC.")
            if value.time() != time(0):
                raise LakehouseError(
                    f"Interval {name} is {value.isoformat()}; expected midnight UTC, as the lake replaces whole days."
                )
        if self.start >= self.end:
            raise LakehouseError(
                f"Interval {self.start.date()} to {self.end.date()} is empty; its end, which is exclusive, must be "
                "later than its start."
            )

    @classmethod
    def of_days(cls, first: date, end: date) -> "Interval":
        """The days from `first` up to but not including `end`."""
        return cls(_midnight(first), _midnight(end))

    @classmethod
    def last_complete_day(cls, now: datetime) -> "Interval":
        """The UTC day before the one that `now` lies in."""
        today = now.astimezone(UTC).date()
        return cls.of_days(today - ONE_DAY, today)

    @classmethod
    def for_run(
        cls,
        params: Mapping[str, Any],
        data_interval: tuple[datetime, datetime] | None,
        run_after: datetime,
        assets: Iterable[Mapping[str, Any]] = (),
    ) -> "Interval":
        """The interval of a run of any kind.

        Parameters that a person gave win; then the intervals of the assets that triggered the run, from first to
        last; then the data interval of a schedule or backfill; a run without any gets the last complete day.

        Args:
            params: may hold `interval_start` and `interval_end` (dates, the end exclusive), both or neither.
            data_interval: what the timetable assigned, if anything.
            run_after: the moment from which the run was due.
            assets: the extras of the triggering asset events; a release puts its interval there.
        """
        first, end = params.get("interval_start"), params.get("interval_end")
        if bool(first) != bool(end):
            raise LakehouseError(
                f"interval_start is {first!r} and interval_end is {end!r}; give both (the end is exclusive) or neither."
            )
        if first and end:
            return cls.of_days(day_of("interval_start", first), day_of("interval_end", end))
        released = [extra for extra in assets if extra.get("interval_start") and extra.get("interval_end")]
        if released:
            return cls.of_days(
                min(day_of("interval_start", extra["interval_start"]) for extra in released),
                max(day_of("interval_end", extra["interval_end"]) for extra in released),
            )
        if data_interval is not None and data_interval[0] < data_interval[1]:
            return cls(data_interval[0].astimezone(UTC), data_interval[1].astimezone(UTC))
        return cls.last_complete_day(run_after)

    def days(self) -> list[date]:
        """Every day of the interval, in order."""
        return [(self.start + i * ONE_DAY).date() for i in range((self.end - self.start).days)]

    def widened(self, *, days_before: int) -> "Interval":
        """The same interval, starting `days_before` days earlier."""
        return Interval(self.start - days_before * ONE_DAY, self.end)

    def __str__(self) -> str:
        return f"{self.start.date()}..{self.end.date()}"


def ranges(days: Iterable[date]) -> list[tuple[date, date]]:
    """Runs of consecutive days, each as its first and last day."""
    runs: list[tuple[date, date]] = []
    for day in sorted(days):
        if runs and day - runs[-1][1] == ONE_DAY:
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    return runs


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(0), tzinfo=UTC)


def day_of(name: str, value: Any) -> date:
    """The day that a parameter called `name` holds, as text or a date."""
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        raise LakehouseError(f"{name} is {value!r}; expected a date such as 2026-11-01.") from None
