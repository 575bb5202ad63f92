"""Every table of every suite, damaged in every way that tables go bad: a gate turns red, or the suite says why not."""

from dataclasses import replace

import pytest

from include.layers import Layer
from include.quality.suites import domains, suite
from tests.include.quality.conftest import Built, built_lake_of
from tests.include.quality.mutations import in_memory, keys, mutations, red, seen_by


@pytest.fixture(scope="module")
def manifest_keys(manifest) -> dict[str, tuple[str, ...]]:
    return keys(manifest)


@pytest.fixture
def domain_built(request: pytest.FixtureRequest, domain: str) -> Built:
    return built_lake_of(request, domain)


@pytest.mark.parametrize("layer", Layer)
@pytest.mark.parametrize("domain", domains())
def test_each_way_to_damage_a_table_turns_a_gate_red(
    domain: str, layer: Layer, domain_built: Built, manifest_keys: dict[str, tuple[str, ...]]
) -> None:
    checks, interval = suite(domain, layer), domain_built.interval
    unseen, tolerated, count = [], set(), 0
    with in_memory(domain_built.lake) as connection:
        for table in checks.tables:
            assert not list(red(connection, checks, interval, table)), f"{table} is not sound to begin with"
            assert table in manifest_keys, f"{table} states no key; give it `config.meta.key` in the dbt project."
            for mutation in mutations(connection, checks, table, manifest_keys[table], interval):
                count += 1
                allowed = mutation.kind in checks.lets_pass.get(table, {})
                if seen_by(connection, checks, mutation, interval):
                    if allowed:
                        tolerated.add((table, mutation.kind))
                elif not allowed:
                    unseen.append(f"{table}: {mutation.kind}")
    assert not unseen, (
        f"{layer.gate} of {domain} stays green after: {'; '.join(unseen)}. Add a check that sees it, or say in the "
        "suite's `lets_pass` why it need not."
    )
    assert not tolerated, (
        f"`lets_pass` of {domain} {layer} names what {layer.gate} sees: {sorted(tolerated)}; take it out."
    )
    assert count > 3 * len(checks.tables)


def test_damage_that_no_check_sees_is_found(built_nightscout: Built) -> None:
    whole, table = suite("nightscout", Layer.GOLD), "gold.mrt_daily_glycaemia"
    blind = replace(whole, checks=tuple(check for check in whole.checks if check.name.endswith("_has_rows")))
    key, interval = ("site", "local_date"), built_nightscout.interval
    with in_memory(built_nightscout.lake) as connection:
        seen = {
            mutation.kind: bool(seen_by(connection, blind, mutation, interval))
            for mutation in mutations(connection, blind, table, key, interval)
        }
    assert {kind for kind, found in seen.items() if not found} == {"double a day", "drop a day"}
    assert {"empty", "drop table"} < {kind for kind, found in seen.items() if found}
