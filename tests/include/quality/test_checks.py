"""Suites are values that refuse to be made wrong."""

from typing import Any

import pytest

from include.domains import domains as domains_of_the_sources
from include.errors import SetupError
from include.interval import Interval
from include.layers import Layer
from include.quality.checks import Check, Measure, RowRule, Rows, Scope, Suite, between, has_rows
from include.quality.suites import domains, suite
from tests.include.quality.conftest import DAYS

CHECK: dict[str, Any] = {
    "name": "sound",
    "table": "gold.mart",
    "test": Rows("true"),
    "why": "because",
    "breaks": ("delete from gold.mart",),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Not a name"}, "is not snake_case"),
        ({"table": "mart"}, "expected schema.table"),
        ({"why": ""}, "does not say why"),
        ({"breaks": ()}, "names no mutation that breaks it"),
    ],
)
def test_a_check_that_lacks_something_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        Check(**CHECK | change)


def test_names_tell_checks_and_rules_apart() -> None:
    with pytest.raises(SetupError, match="sound appears twice in the suite x gold"):
        Suite("x", Layer.GOLD, (Check(**CHECK), Check(**CHECK)))
    rule = RowRule("good", "true", "because")
    with pytest.raises(SetupError, match="good appears twice in the row rules of t"):
        Suite("x", Layer.BRONZE, (), row_rules={"t": (rule, rule)})


def test_a_measure_without_bounds_a_rule_without_a_reason_and_a_share_of_all_are_refused() -> None:
    with pytest.raises(SetupError, match="could never fail"):
        Measure("count(*)")
    with pytest.raises(SetupError, match="needs a snake_case name, a predicate and a reason"):
        RowRule("good", "true", "")
    with pytest.raises(SetupError, match="expected 0 to below 1"):
        Suite("x", Layer.BRONZE, (), max_share=1.0)


def test_the_interval_is_filled_in_and_other_braces_stay() -> None:
    sql = "select '{\"a\": {}}' where day >= {first_day} and day < {end_day} and at < {end} and {now} > at"
    filled = Scope(Interval.of_days(DAYS[0], DAYS[1]), "2026-03-05 00:00:00+00:00").fill(sql)
    assert filled == (
        "select '{\"a\": {}}' where day >= date '2026-03-01' and day < date '2026-03-02' "
        "and at < timestamptz '2026-03-02T00:00:00+00:00' and timestamptz '2026-03-05 00:00:00+00:00' > at"
    )


def test_what_is_expected_reads_as_a_sentence() -> None:
    assert between("gold.mart", "share_pct", 0, 100, why="x").test.expected == "share_pct from 0 to 100 in each row"
    assert has_rows("gold.mart").test.expected == "the table holds at least one row"
    assert Rows("a  <\n b", where="c > 1").expected == "every row where c > 1 has a < b"
    assert Measure("sum(a)", 1, 2).expected == "sum(a) is at least 1 and at most 2"


def test_every_domain_has_a_suite_with_checks_for_each_layer() -> None:
    assert domains() == domains_of_the_sources()
    for domain in domains():
        for layer in Layer:
            assert suite(domain, layer).checks
        assert suite(domain, Layer.BRONZE).row_rules


def test_a_domain_or_layer_without_suites_is_named() -> None:
    for unknown in ("nowhere", "windows", "../nightscout"):
        with pytest.raises(SetupError, match="There are no suites for the domain"):
            suite(unknown, Layer.GOLD)
