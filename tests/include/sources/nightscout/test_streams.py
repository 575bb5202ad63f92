from dataclasses import replace
from datetime import date

import pytest

from include.naming import snake_case
from include.sources.nightscout.streams import ENTRIES, PROFILE, STREAMS, TREATMENTS, Column, Kind


@pytest.mark.parametrize(
    "field",
    [
        "dateString", "created_at", "eventType", "_id", "NSCLIENT_ID", "isSMB", "utcOffset", "sgv", "Cob", "5min",
        "a.b", "carbs (g)", "trailing_", "a__b", "x-y", "+1", "BGResult", "mmol/L", "Ünits",
    ],
)  # fmt: skip
def test_column_names_are_those_that_dlt_would_give(field: str) -> None:
    from dlt.common.normalizers.naming.snake_case import NamingConvention

    assert snake_case(field) == NamingConvention().normalize_identifier(field)


def test_record_belongs_to_the_utc_day_of_its_event() -> None:
    assert TREATMENTS.day({"created_at": "2026-10-25T00:30:00+02:00"}) == date(2026, 10, 24)
    assert TREATMENTS.day({"created_at": "2026-10-25T00:30:00"}) == date(2026, 10, 25)
    assert TREATMENTS.day({"created_at": "nonsense", "date": 0}) == date(1970, 1, 1)
    assert ENTRIES.day({"date": 1_790_000_000_000.7}) == date(2026, 9, 21)
    assert PROFILE.day({"startDate": "2024-02-29"}) == date(2024, 2, 29)


@pytest.mark.parametrize("when", [None, True, "1790000000000", "", -1, 10**15, [], 2**63])
def test_time_that_cannot_be_belongs_to_no_day(when: object) -> None:
    assert ENTRIES.day({"date": when}) is None


def test_streams_have_the_columns_that_models_read() -> None:
    assert {name: len(stream.columns) for name, stream in STREAMS.items()} == {
        "entries": 23,
        "treatments": 26,
        "devicestatus": 14,
        "profile": 13,
    }
    assert ENTRIES.table == "nightscout_entries"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "En tries"}, "lower case"),
        ({"columns": (Column("a", Kind.TEXT), Column("A", Kind.TEXT))}, "more than once"),
        ({"columns": (Column("loadSeq", Kind.TEXT),)}, "lineage"),
        ({"variants": frozenset({"sgvv"})}, "does not declare"),
    ],
)
def test_wrong_spec_fails_with_a_sentence(change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(ENTRIES, **change)
