"""Which days the releases of a domain cover, and which are still to be run."""

from collections.abc import Iterable
from datetime import date

from include.errors import LakehouseError
from include.interval import ONE_DAY, Interval
from include.release import ledger
from include.release.ledger import Entry


def covered_days(entries: Iterable[Entry]) -> set[date]:
    """UTC days that some release was made for. A rollback takes none away: its days are run again on purpose."""
    releases = (entry for entry in entries if entry.kind == ledger.RELEASE)
    return {day for entry in releases for day in Interval(entry.interval_start, entry.interval_end).days()}


def chunks(wanted: Interval, covered: set[date], longest: int) -> list[Interval]:
    """The days of `wanted` that are not covered, as intervals of at most `longest` days, oldest first.

    Raises:
        LakehouseError: `longest` is below one day.
    """
    if longest < 1:
        raise LakehouseError(f"A chunk of {longest} days is too short; expected at least 1 day.")
    found: list[Interval] = []
    for day in wanted.days():
        if day in covered:
            continue
        last = found[-1] if found else None
        if last and last.end.date() == day and len(last.days()) < longest:
            found[-1] = Interval.of_days(last.start.date(), day + ONE_DAY)
        else:
            found.append(Interval.of_days(day, day + ONE_DAY))
    return found
