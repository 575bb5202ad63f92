"""Records as Arrow: what fits lands, what does not is named."""

from datetime import date
from typing import Any

import pytest

from include.sources.nightscout.streams import ENTRIES
from include.sources.nightscout.tables import page_of


def column(field: str, values: list[Any]) -> Any:
    page = page_of([{field: value} for value in values], [date(2026, 11, 3)] * len(values), "amber", ENTRIES, {})
    assert page.conflicts == ()
    return page.table[field].to_pylist()


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("date", [1, None, 2.7, -1.5, -(2**63)], [1, None, 2, -2, -(2**63)]),
        ("sgv", [100, 0.5, None, 2**53 + 1, 2**64 - 1], [100.0, 0.5, None, float(2**53), float(2**64)]),
        ("type", ["sgv", None, "", "a\x00b"], ["sgv", None, "", "a\N{REPLACEMENT CHARACTER}b"]),
    ],
)
def test_values_of_the_declared_type_land(field: str, values: list[Any], expected: list[Any]) -> None:
    assert column(field, values) == expected


@pytest.mark.parametrize("value", [2**63, 1e300, -1e19])
def test_number_that_no_bigint_holds_is_named(value: float) -> None:
    page = page_of([{"date": 1}, {"date": value}], [date(2026, 11, 3)] * 2, "amber", ENTRIES, {})
    assert [(each.field, each.found, each.values) for each in page.conflicts] == [
        ("date", "a number beyond 64 bits", 1)
    ]
