"""The suites of every domain on a lake of its own: green when it is sound, red on each way to break it."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import pytest

from include.errors import GateError
from include.layers import Layer
from include.local.postgres import LocalPostgres
from include.quality.checks import Check, Scope, Severity
from include.quality.gate import run_gate
from include.quality.results import read_result
from include.quality.suites import domains, suite
from tests.dbt.conftest import copy_of
from tests.include.quality.conftest import built_lake_of

NOW = "2026-03-05 00:00:00+00"

Round = tuple[str, Layer, tuple[Check, ...]]


def rounds() -> Iterable[Round]:
    """Every check of every domain once, those of different tables together: a gate run costs more than a check."""
    for domain in domains():
        for layer in Layer:
            checks, tables = suite(domain, layer).checks, suite(domain, layer).tables
            by_table = [[check for check in checks if check.table == table] for table in tables]
            for checks_of_round in zip_longest(*by_table):
                yield domain, layer, tuple(check for check in checks_of_round if check is not None)


def name_of(value: object) -> str:
    return str(value) if isinstance(value, str) else ""


@pytest.mark.parametrize("layer", Layer)
@pytest.mark.parametrize("domain", domains())
def test_a_sound_lake_passes_without_a_warning(
    request: pytest.FixtureRequest, domain: str, layer: Layer, tmp_path: Path
) -> None:
    built = built_lake_of(request, domain)
    result = run_gate(built.lake, domain, layer, built.interval, "run", tmp_path, judge=False)
    assert result.success
    assert result.warned == ()
    assert result.evaluated == result.declared == len(suite(domain, layer).checks)
    assert all(count > 0 for count in result.rows.values())


@pytest.mark.parametrize(("domain", "layer", "checks"), list(rounds()), ids=name_of)
def test_breaking_what_a_check_states_turns_it_red(
    request: pytest.FixtureRequest,
    server: LocalPostgres,
    domain: str,
    layer: Layer,
    checks: tuple[Check, ...],
    tmp_path: Path,
) -> None:
    built = built_lake_of(request, domain)
    scope = Scope(built.interval, NOW)
    one_each = replace(suite(domain, layer), checks=checks)
    with copy_of(built.lake, server, tmp_path / "lake") as lake:
        with lake.open() as connection:
            for statement in [scope.fill(sql) for check in checks for sql in check.breaks]:
                connection.execute(statement)
        try:
            result = run_gate(lake, domain, layer, built.interval, "run", tmp_path, suite=one_each, judge=False)
        except GateError:
            result = read_result(tmp_path, "run", layer.gate)
    for severity, found in ((Severity.FAIL, result.failed), (Severity.WARN, result.warned)):
        red, expected = {finding.check for finding in found}, {c.name for c in checks if c.severity is severity}
        assert not expected - red, f"`breaks` of {sorted(expected - red)} does not break it: nothing shows it can fail"
        assert not red - expected, f"{sorted(red - expected)} went red from what breaks other checks"
        assert not [finding for finding in found if "an error" in finding.observed]
    assert result.success == all(check.severity is Severity.WARN for check in checks)
