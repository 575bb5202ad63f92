from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from include.errors import LakehouseError
from include.interval import Interval

NOW = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
DAY = (datetime(2026, 11, 19, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC))


def test_scheduled_run_gets_its_data_interval() -> None:
    assert Interval.for_run({}, DAY, NOW) == Interval(*DAY)


def test_run_without_anything_gets_the_last_complete_day() -> None:
    assert Interval.for_run({}, None, NOW) == Interval.of_days(date(2026, 11, 20), date(2026, 11, 21))


def test_empty_data_interval_of_a_trigger_timetable_counts_as_none() -> None:
    moment = (NOW, NOW)
    assert Interval.for_run({}, moment, NOW) == Interval.last_complete_day(NOW)


def test_dates_that_a_person_gave_win_over_the_schedule() -> None:
    params = {"interval_start": "2026-01-01", "interval_end": "2026-02-01"}
    assert len(Interval.for_run(params, DAY, NOW).days()) == 31


def test_asset_triggered_run_covers_what_all_its_releases_cover() -> None:
    assets = [
        {"interval_start": "2026-11-03", "interval_end": "2026-11-04"},
        {"interval_start": "2026-11-01", "interval_end": "2026-11-02"},
    ]
    assert Interval.for_run({}, None, NOW, assets) == Interval.of_days(date(2026, 11, 1), date(2026, 11, 4))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"interval_start": "2026-01-01"}, "give both"),
        ({"interval_end": "2026-01-01"}, "give both"),
        ({"interval_start": "2026-01-02", "interval_end": "2026-01-02"}, "is empty"),
        ({"interval_start": "2026-01-03", "interval_end": "2026-01-02"}, "is empty"),
        ({"interval_start": "yesterday", "interval_end": "2026-01-02"}, "expected a date"),
    ],
)
def test_bad_dates_are_named(params: dict[str, str], message: str) -> None:
    with pytest.raises(LakehouseError, match=message):
        Interval.for_run(params, DAY, NOW)


def test_interval_that_cuts_a_day_is_refused() -> None:
    with pytest.raises(LakehouseError, match="midnight"):
        Interval(datetime(2026, 1, 1, 3, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))


@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=2))])
def test_interval_outside_utc_is_refused(zone: timezone | None) -> None:
    with pytest.raises(LakehouseError, match="UTC"):
        Interval(datetime(2026, 1, 1, tzinfo=zone), datetime(2026, 1, 2, tzinfo=zone))


def test_widening_moves_only_the_start() -> None:
    interval = Interval.of_days(date(2026, 3, 1), date(2026, 3, 3))
    assert interval.widened(days_before=2) == Interval.of_days(date(2026, 2, 27), date(2026, 3, 3))
    assert interval.days() == [date(2026, 3, 1), date(2026, 3, 2)]
