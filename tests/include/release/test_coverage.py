"""Which days are still to be run."""

from datetime import UTC, date, datetime, timedelta

import pytest

from include.errors import LakehouseError
from include.interval import Interval
from include.release import ledger
from include.release.coverage import chunks, covered_days
from include.release.ledger import Entry

FIRST, DAY = date(2026, 1, 1), timedelta(days=1)
YEAR = Interval.of_days(FIRST, date(2027, 1, 1))


def test_days_are_split_into_chunks_and_none_is_left_out_or_doubled() -> None:
    planned = chunks(YEAR, set(), 30)
    assert [len(chunk.days()) for chunk in planned] == [30] * 12 + [5]
    assert [day for chunk in planned for day in chunk.days()] == YEAR.days()


def test_what_is_covered_is_not_planned_again() -> None:
    covered = {FIRST + i * DAY for i in (0, 1, 2, 40, 41, 364)}
    planned = chunks(YEAR, covered, 366)
    assert [str(chunk) for chunk in planned] == ["2026-01-04..2026-02-10", "2026-02-12..2026-12-31"]
    assert chunks(YEAR, set(YEAR.days()), 30) == []


def test_a_withdrawal_uncovers_what_was_released_before() -> None:
    def entry(kind: str, day: int) -> Entry:
        start = datetime(2026, 1, day, tzinfo=UTC)
        values = dict.fromkeys(ledger.COLUMNS) | {"kind": kind, "interval_start": start, "interval_end": start + DAY}
        return Entry(**values)  # type: ignore[arg-type]

    released = [entry("release", 1), entry("release", 2), entry("rollback", 1)]
    assert covered_days(released) == {FIRST, FIRST + DAY}
    assert covered_days([*released, entry("withdrawal", 2), entry("release", 3)]) == {FIRST + 2 * DAY}


def test_a_chunk_has_a_day_at_least() -> None:
    with pytest.raises(LakehouseError, match="at least 1 day"):
        chunks(YEAR, set(), 0)
