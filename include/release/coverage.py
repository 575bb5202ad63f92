"""Which days the releases of a domain cover, and which are still to be run."""

from collections.abc import Iterable
from datetime import date

from include.errors import LakehouseError
from include.interval import ONE_DAY, Interval, ranges
from include.release import ledger
from include.release.ledger import Entry


def covered_days(entries: Iterable[Entry]) -> set[date]:
    """UTC days that some release was made for, since the domain was last withdrawn.

    A rollback takes none away: its days are run again on purpose.
    """
    days: set[date] = set()
    for entry in entries:
        if entry.kind == ledger.RELEASE:
            days.update(entry.interval.days())
        elif entry.kind == ledger.WITHDRAWAL:
            days.clear()
    return days


def chunks(wanted: Interval, covered: set[date], longest: int) -> list[Interval]:
    """The days of `wanted` that are not covered, as intervals of at most `longest` days, oldest first.

    Raises:
        LakehouseError: `longest` is below one day.
    """
    if longest < 1:
        raise LakehouseError(f"A chunk of {longest} days is too short; expected at least 1 day.")
    return [
        Interval.of_days(start, min(start + longest * ONE_DAY, last + ONE_DAY))
        for first, last in ranges(set(wanted.days()) - covered)
        for start in Interval.of_days(first, last + ONE_DAY).days()[::longest]
    ]
