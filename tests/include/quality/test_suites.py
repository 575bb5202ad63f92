"""The suites of Nightscout on a lake that dbt built: green when it is sound, red on each way to break it."""

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import duckdb
import pytest

from include.errors import GateError
from include.layers import Layer
from include.quality.checks import Check, Scope, Severity
from include.quality.gate import run_gate
from include.quality.results import read_result
from include.quality.suites import suite
from tests.include.quality.conftest import INTERVAL, Built

TABLE = re.compile(r"(?:insert into|update|delete from) ([a-z]+\.[a-z_]+)")


def rounds() -> Iterable[tuple[Layer, tuple[Check, ...]]]:
    """Every check once, those of different tables together: a gate run costs more than a check."""
    for layer in Layer:
        checks = suite("nightscout", layer).checks
        by_table = [[check for check in checks if check.table == table] for table in suite("nightscout", layer).tables]
        for checks_of_round in zip_longest(*by_table):
            yield layer, tuple(check for check in checks_of_round if check is not None)


@pytest.mark.parametrize("layer", Layer)
def test_a_sound_lake_passes_without_a_warning(built: Built, layer: Layer, tmp_path: Path) -> None:
    result = run_gate(built.lake, "nightscout", layer, INTERVAL, "run", tmp_path, judge=False)
    assert result.success
    assert result.warned == ()
    assert result.evaluated == result.declared == len(suite("nightscout", layer).checks)
    assert all(count > 0 for count in result.rows.values())


@pytest.mark.parametrize(("layer", "checks"), list(rounds()), ids=lambda value: getattr(value, "value", ""))
def test_breaking_what_a_check_states_turns_it_red(
    built: Built, writer: duckdb.DuckDBPyConnection, layer: Layer, checks: tuple[Check, ...], tmp_path: Path
) -> None:
    scope = Scope(INTERVAL, "2026-03-05 00:00:00+00")
    statements = [scope.fill(sql) for check in checks for sql in check.breaks]
    try:
        for statement in statements:
            writer.execute(statement)
        one_each = replace(suite("nightscout", layer), checks=checks)
        try:
            result = run_gate(built.lake, "nightscout", layer, INTERVAL, "run", tmp_path, suite=one_each, judge=False)
        except GateError:
            result = read_result(tmp_path, "run", layer.gate)
        for severity, found in ((Severity.FAIL, result.failed), (Severity.WARN, result.warned)):
            assert {finding.check for finding in found} == {c.name for c in checks if c.severity is severity}
            assert not [finding for finding in found if "an error" in finding.observed]
        assert result.success == all(check.severity is Severity.WARN for check in checks)
    finally:
        for table in {name for statement in statements for name in TABLE.findall(statement)}:
            writer.execute(f"create or replace table {table} as from {table} at (version => {built.snapshot})")


@pytest.fixture(scope="module")
def writer(built: Built) -> Iterable[duckdb.DuckDBPyConnection]:
    with built.lake.open() as connection:
        yield connection
