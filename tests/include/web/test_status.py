from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from include.connections import Postgres
from include.errors import LakehouseError, SetupError
from include.interval import Interval
from include.lake.attach import Lake
from include.web import lake_probe, status
from include.web.lake_probe import LakeAnswer
from include.web.status import Level
from tests.include.web import sample
from tests.include.web.conftest import HTML, PREFIX, Pages
from tests.include.web.test_releases import tamper

SOON = datetime(2026, 11, 3, 6, tzinfo=UTC)  # six hours after the end of the last released day


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process for each look is tested with the probe; here it would only take time."""

    def look(lake: Lake) -> LakeAnswer:
        try:
            return lake_probe.look(lake)
        except duckdb.Error as error:
            raise LakehouseError(str(error)) from error

    monkeypatch.setattr(lake_probe, "ask", look)


def states(site: Pages, now: datetime = SOON) -> dict[str, status.State]:
    sources = status.Sources(site.quality_dir, lambda: site.domains, lambda: site.marts, lambda: site.lake)
    return {state.name: state for group in status.collect(sources, now).groups for state in group.states}


def levels(site: Pages, now: datetime = SOON) -> dict[str, Level]:
    return {name: state.level for name, state in states(site, now).items()}


def test_a_whole_and_recent_release_is_ok_throughout(released: Pages) -> None:
    found = states(released)
    assert {state.level for state in found.values()} == {Level.OK}, found
    assert "marks of releases agree" in found["Ledger chain"].reason
    assert "mrt_daily_glycaemia 5" in found["Marts"].reason
    assert set(found) >= {"gate_bronze", "gate_silver", "gate_gold", "Lake", "Lake views", "Marts database"}


def test_a_release_that_is_too_old_is_late_and_says_how_old(released: Pages) -> None:
    found = states(released, SOON + timedelta(days=2))["Certified release"]
    assert found.level is Level.LATE and "2 d ago" in found.reason


def test_a_backfill_of_an_old_day_does_not_make_the_data_late(released: Pages) -> None:
    sample.release(released.lake, released.marts, released.quality_dir, "backfill", date(2026, 3, 1), rows=6)
    assert levels(released)["Certified release"] is Level.OK


def test_a_rollback_keeps_marts_and_views_ok_and_the_data_older(released: Pages) -> None:
    sample.roll_back(released.lake, released.marts, 1)
    found = states(released)
    assert found["Marts"].level is found["Lake views"].level is Level.OK
    assert found["Certified release"].level is Level.OK and "Rollback to release 1" in found["Certified release"].reason
    assert "up to 2026-11-02 00:00" in found["Certified release"].reason


def test_rows_that_are_not_the_certified_ones_fail(released: Pages) -> None:
    in_marts(released, "delete from marts.mrt_daily_glycaemia where day_no = 1")
    found = states(released)["Marts"]
    assert found.level is Level.FAILED and "has 4 rows, certified 5" in found.reason


def test_a_mart_that_is_gone_fails(released: Pages) -> None:
    in_marts(released, "drop table marts.mrt_daily_glycaemia")
    assert states(released)["Marts"] == status.State(
        "Marts", Level.FAILED, "mrt_daily_glycaemia is missing.", "releases/2"
    )


def test_a_view_on_another_snapshot_than_the_ledger_says_fails(released: Pages) -> None:
    with released.lake.open() as connection:
        row = connection.execute("select max(snapshot_id) from ducklake_snapshots('dl')").fetchone()
        connection.execute(
            "create or replace view dl.marts.mrt_daily_glycaemia as "
            f"select * from dl.gold.mrt_daily_glycaemia at (version => {row[0]})"
        )
    found = states(released)["Lake views"]
    assert found.level is Level.FAILED and f"mrt_daily_glycaemia shows {row[0]}" in found.reason


def test_a_red_gate_fails_and_names_its_check(released: Pages) -> None:
    day = Interval.of_days(date(2026, 11, 3), date(2026, 11, 4))
    sample.gate(released.quality_dir, "gate_bronze", "scheduled__2026-11-03", day, 9, success=False)
    found = states(released)
    assert found["gate_bronze"].level is Level.FAILED and "mean_in_range" in found["gate_bronze"].reason
    assert found["gate_gold"].level is Level.OK


def test_a_tampered_ledger_fails(released: Pages) -> None:
    tamper(released, "update ledger.releases set snapshot_id = 1 where release_id = 1")
    assert levels(released)["Ledger chain"] is Level.FAILED


def test_a_ledger_that_was_cut_off_is_found_by_the_lake(released: Pages) -> None:
    tamper(released, "delete from ledger.releases where release_id = 2")
    found = states(released)["Ledger chain"]
    assert found.level is Level.FAILED and "Entry 2" in found.reason


def wrong_database(site: Pages) -> None:
    site.marts = replace(site.marts, host="/nowhere")


def wrong_catalog(site: Pages) -> None:
    site.lake = replace(site.lake, catalog=replace(site.lake.catalog, host="/nowhere"))


def no_connection(site: Pages) -> None:
    def missing() -> Postgres:
        raise SetupError("Airflow has no connection marts; add it.")

    site.__class__ = type("Unconnected", (Pages,), {"marts": property(lambda _: missing())})


def no_results(site: Pages) -> None:
    site.quality_dir = Path("/nowhere")


def no_domain(site: Pages) -> None:
    site.domains = []
    tamper(site, "truncate ledger.releases")


@pytest.mark.parametrize(
    ("change", "hurt"),
    [
        (wrong_database, ("Marts database", "Ledger chain", "Certified release", "Marts", "Lake views")),
        (wrong_catalog, ("Lake", "Ledger chain", "Lake views")),
        (no_connection, ("Marts database", "Ledger chain", "Certified release", "Marts", "Lake views")),
        (no_results, ("gate_bronze", "gate_silver", "gate_gold")),
        (no_domain, ("Domains", "Ledger chain")),
    ],
)
def test_nothing_is_ok_that_could_not_be_checked(
    released: Pages, change: Callable[[Pages], None], hurt: tuple[str, ...]
) -> None:
    change(released)
    found = levels(released)
    assert all(found[name] in (Level.UNKNOWN, Level.FAILED) for name in hurt), found
    assert not released.html("/status").count('<h1>Status <span class="mark ok"')


def test_a_domain_that_ran_and_was_never_released_is_not_ok(released: Pages) -> None:
    released.domains = ["nightscout", "saas"]
    day = Interval.of_days(date(2026, 11, 3), date(2026, 11, 4))
    sample.gate(released.quality_dir, "gate_bronze", "scheduled__2026-11-03", day, 9, domain="saas")
    answer = released.json("/status")
    saas = next(group for group in answer["groups"] if group["name"] == "saas")
    assert {state["level"] for state in saas["states"]} == {"ok", "unknown", "failed"}
    assert answer["level"] == "failed"


def test_a_domain_that_has_not_run_is_said_to_be_unused(released: Pages) -> None:
    released.domains = ["nightscout", "saas"]
    saas = next(group for group in released.json("/status")["groups"] if group["name"] == "saas")
    assert [(state["level"], state["name"]) for state in saas["states"]] == [("ok", "Use")]
    assert "has not run yet" in saas["states"][0]["reason"]


def test_the_page_shows_each_state_with_its_reason(released: Pages) -> None:
    page = released.html("/status")
    for state in states(released).values():
        assert state.name in page
    assert "late" in page or "ok" in page


def test_two_who_look_at_once_cause_one_look(released: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    ask = lake_probe.ask
    monkeypatch.setattr(lake_probe, "ask", lambda lake: asked.append(lake) or ask(lake))
    client = released.client()
    for _ in range(2):
        assert client.get(f"{PREFIX}/status", headers=HTML).status_code == 200
    assert len(asked) == 1


def test_the_worst_of_nothing_is_unknown() -> None:
    assert Level.worst([]) is Level.UNKNOWN
    assert Level.worst([Level.OK, Level.LATE, Level.UNKNOWN]) is Level.UNKNOWN


def in_marts(site: Pages, statement: str) -> None:
    with psycopg.connect(site.marts.conninfo(), password=site.marts.password) as connection:
        connection.execute(statement)
