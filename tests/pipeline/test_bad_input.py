"""What sites send that they should not, through the whole flow: each has a stated outcome."""

from datetime import UTC, date, datetime, timedelta

import pytest

from include.errors import GateError, SourceError
from include.interval import Interval
from include.layers import Layer
from include.local.nightscout import Fault, NightscoutSite
from tests.pipeline.conftest import MakeFlow
from tests.pipeline.flow import Flow

DAY = date(2026, 3, 29)  # the day on which Berlin's clocks go forward
NEXT = DAY + timedelta(days=1)
INTERVAL = Interval.of_days(DAY, NEXT)
START = int(datetime(2026, 3, 29, tzinfo=UTC).timestamp() * 1000)
SLOT = 300_000


def full_day(site: NightscoutSite, *, start: int = START) -> list:
    return [
        site.add("entries", {"type": "sgv", "date": start + slot * SLOT, "sgv": 100 + slot % 50, "device": "share2"})
        for slot in range(288)
    ]


@pytest.fixture
def site() -> NightscoutSite:
    made = NightscoutSite("amber", time_zone="Europe/Berlin")
    full_day(made)
    return made


@pytest.fixture
def flow(make_flow: MakeFlow, site: NightscoutSite) -> Flow:
    return make_flow([site])


def test_impossible_values_are_set_aside_with_the_reason_and_counted(flow: Flow, site: NightscoutSite) -> None:
    for number, value in enumerate((0, 5000, None)):
        site.add("entries", {"type": "sgv", "date": START + 1000 + number, "sgv": value, "device": "share2"})
    flow.run(DAY, NEXT)
    assert flow.query("select count(*) from silver.fct_cgm_reading") == [(288,)]
    set_aside = flow.query("select rules from quarantine.nightscout_entries")
    assert [len(rules) for (rules,) in set_aside] == [1, 1, 1]
    assert flow.query("select sum(quarantined_records) from gold.mrt_quality_coverage") == [(3,)]


@pytest.mark.torture
def test_timestamps_of_1970_and_of_the_future_reach_no_mart(flow: Flow, site: NightscoutSite) -> None:
    for moment in (1000, int(datetime(2100, 1, 1, tzinfo=UTC).timestamp() * 1000)):
        site.add("entries", {"type": "sgv", "date": moment, "sgv": 100, "device": "share2"})
    flow.run(DAY, NEXT)
    assert flow.query("select count(*), min(reading_date)::varchar from silver.fct_cgm_reading") == [
        (288, "2026-03-29")
    ]


@pytest.mark.torture
def test_text_where_a_number_was_fails_before_anything_is_loaded(flow: Flow, site: NightscoutSite) -> None:
    flow.run(DAY, NEXT)
    before = flow.lake_rows()
    site.add("entries", {"type": "sgv", "date": START + 2000, "sgv": "a lot", "device": "share2"})
    with pytest.raises(SourceError, match="sgv") as caught:
        flow.ingest(INTERVAL)
    assert "a lot" not in str(caught.value)
    assert flow.lake_rows() == before


def test_broken_answers_are_red_and_leave_the_lake_as_it_was(flow: Flow, site: NightscoutSite) -> None:
    flow.run(DAY, NEXT)
    before, published = flow.lake_rows(), flow.published_rows()
    for kind in ("401", "html", "truncated"):
        site.fail(Fault(kind, count=None))
        with pytest.raises(SourceError, match="amber"):
            flow.ingest(INTERVAL, streams=["entries"])
        site.heal()
    assert (flow.lake_rows(), flow.published_rows()) == (before, published)


@pytest.mark.torture
def test_busy_site_and_repeated_page_change_nothing(make_flow: MakeFlow, site: NightscoutSite) -> None:
    quiet, busy = make_flow([site]), make_flow([site])
    quiet.run(DAY, NEXT)
    site.fail(Fault("429", count=1, retry_after=0, path="entries"))
    site.fail(Fault("duplicate_page", count=1, path="entries"))
    busy.run(DAY, NEXT)
    assert busy.lake_rows() == quiet.lake_rows()


def test_day_without_any_reading_is_a_red_gate(make_flow: MakeFlow) -> None:
    flow = make_flow([NightscoutSite("amber", time_zone="Europe/Berlin")])
    flow.ingest(INTERVAL)
    with pytest.raises(GateError, match=r"amber|any site|no reading"):
        flow.gate(Layer.BRONZE, INTERVAL, "empty")


@pytest.mark.torture
def test_day_of_the_clock_change_has_the_hours_that_it_had(flow: Flow, site: NightscoutSite) -> None:
    full_day(site, start=START - 288 * SLOT)
    flow.run(DAY, NEXT)
    found = flow.query(
        "select expected_readings, readings, coverage_pct from gold.mrt_daily_glycaemia where local_date = '2026-03-29'"
    )
    assert found == [(276, 276, 100.0)]  # 23 hours


def test_one_site_down_is_red_but_the_others_land(make_flow: MakeFlow, site: NightscoutSite) -> None:
    down = NightscoutSite("birch")
    flow = make_flow([site, down])
    down.fail(Fault("reset", count=None))
    with pytest.raises(SourceError, match="birch"):
        flow.ingest(INTERVAL, streams=["entries"])
    assert flow.query("select site, count(record_id) from bronze.nightscout_entries group by site") == [("amber", 288)]
