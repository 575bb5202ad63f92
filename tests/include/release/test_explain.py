"""A published row leads back to exactly the bronze rows and requests that it was computed from."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from include import dbt_project
from include.connections import Postgres
from include.domains import domains
from include.errors import ReleaseError
from include.interval import Interval
from include.layers import Layer
from include.local.postgres import LocalPostgres
from include.release import cli, explain_page
from include.release.certify import release
from include.release.explain import Explanation, explain, parse_where, upstreams
from tests.conftest import fresh_database
from tests.dbt.conftest import NIGHTSCOUT, copy_of
from tests.include.quality.conftest import DAYS, ONE_DAY, Built, at, readings
from tests.include.release.building import gate

DAY = DAYS[1]
GATES = ("gate_bronze", "gate_silver", "gate_gold")


def certify(built: Built, marts: Postgres, snapshot: int, run: str) -> int:
    return release(
        built.lake,
        marts,
        dbt_project.marts("nightscout"),
        "nightscout",
        Interval.of_days(DAYS[0], DAYS[-1] + ONE_DAY),
        run,
        snapshot,
        [gate(name, snapshot, domain="nightscout", dag_run_id=run) for name in GATES],
        "abc",
    ).release_id


@pytest.fixture(scope="module")
def marts(built: Built, server, manifest: Path):
    """The lake of the gates' tests, released once."""
    with fresh_database(server, "marts_publisher") as database:
        certify(built, database, built.snapshot, "run-1")
        yield database
    with built.lake.open() as connection:  # as it was, for the other tests of this lake
        for model in dbt_project.marts("nightscout"):
            connection.execute(f"drop view marts.{model.name}")
        connection.execute("drop schema marts")


def ask(built: Built, marts: Postgres, mart: str, where: str, release_id: int | None = None) -> Explanation:
    return explain(built.lake, marts, mart, parse_where([where]), release_id)


def rows(found: Explanation) -> dict[str, int]:
    return {each.table: each.rows for each in found.upstream}


def test_a_daily_figure_leads_to_its_readings_their_records_and_the_request(built: Built, marts: Postgres) -> None:
    found = ask(built, marts, "mrt_daily_glycaemia", f"site=ada, local_date={DAY}")
    assert rows(found) == {"silver.fct_cgm_reading": 288, "bronze.nightscout_entries": 288}
    assert found.row["readings"] == 288
    (request,) = found.requests
    assert (request.request, request.rows) == ("GET /api/v3/entries", 288)
    assert request.columns["site"] == "ada" and request.columns["interval_date"] == DAY
    assert request.columns["fetched_at"] == at(DAYS[-1] + ONE_DAY, 60)
    assert (found.entry.dag_run_id, found.entry.code_version, found.entry.snapshot_id) == (
        "run-1",
        "abc",
        built.snapshot,
    )
    assert [each["gate"] for each in found.entry.gates] == list(GATES)
    assert found.quarantined == ()


def test_quarantined_rows_of_the_day_are_shown(built: Built, marts: Postgres) -> None:
    found = ask(built, marts, "mrt_daily_glycaemia", f"site=bob,local_date={DAYS[0]}")
    assert rows(found)["bronze.nightscout_entries"] == 287
    (aside,) = found.quarantined
    assert (aside["table"], aside["rules"]) == ("quarantine.nightscout_entries", ["sgv_in_range"])
    assert json.loads(aside["payload"])["sgv"] == 5000.0


OF_READINGS = (
    "mrt_agp_hourly",
    "mrt_daily_glycaemia",
    "mrt_glucose_hourly_patterns",
    "mrt_glucose_overview",
    "mrt_glucose_readings",
    "mrt_quality_coverage",
)


def test_each_row_of_each_mart_leads_to_as_many_readings_as_it_counts(built: Built, marts: Postgres) -> None:
    models = dbt_project.marts("nightscout")
    assert len(models) >= 6
    assert {model.name for model in models} >= {*OF_READINGS}
    for model in models:
        with built.lake.open(snapshot=built.snapshot) as connection:
            key = ", ".join(model.key)
            one = connection.execute(f"select {key} from gold.{model.name} order by all desc limit 1").fetchall()[0]
        where = {column: str(value) for column, value in zip(model.key, one, strict=True)}
        found = explain(built.lake, marts, model.name, where)
        counted = rows(found)
        if model.name == "mrt_quality_coverage":
            assert counted == {"bronze.nightscout_entries": found.row["landed_records"] + 1}  # and the window's own row
            continue
        if model.name not in OF_READINGS:
            assert any(count for table, count in counted.items() if table.startswith("bronze.")), model.name
            continue
        expected = found.row.get("readings", 1)
        assert counted["silver.fct_cgm_reading"] == counted["bronze.nightscout_entries"] == expected, model.name
        assert sum(each.rows for each in found.requests if each.table.endswith("entries")) == expected


def test_an_old_release_is_explained_as_it_was(
    built: Built, server: LocalPostgres, marts_server: Postgres, dbt: Any, tmp_path: Path
) -> None:
    from tests.dbt import bronze

    marts = marts_server
    with copy_of(built.lake, server, tmp_path / "lake") as lake:
        copied = replace(built, lake=lake)
        certify(copied, marts, built.snapshot, "run-1")
        half = readings("ada", DAY, [100.0] * 144)
        bronze.load(lake, "entries", [DAY], half, sites=["ada"], fetched_at=at(DAYS[-1] + ONE_DAY, 90))
        dbt(lake, "run", *NIGHTSCOUT)
        with lake.open() as connection:
            newest = connection.execute("select max(snapshot_id) from dl.snapshots()").fetchall()[0][0]
        assert certify(copied, marts, newest, "run-2") == 2
        where = f"site=ada,local_date={DAY}"
        now, then = (ask(copied, marts, "mrt_daily_glycaemia", where, number) for number in (None, 1))
    assert (now.entry.release_id, now.row["readings"], rows(now)["bronze.nightscout_entries"]) == (2, 144, 144)
    assert (then.entry.release_id, then.row["readings"], rows(then)["bronze.nightscout_entries"]) == (1, 288, 288)
    assert now.requests[0].columns["load_seq"] > then.requests[0].columns["load_seq"]


@pytest.mark.parametrize(
    ("mart", "where", "message"),
    [
        ("mrt_daily_glycaemia", "site=ada", r"3 rows of .* have site = ada; add local_date"),
        ("mrt_daily_glycaemia", f"site=nobody,local_date={DAY}", "has no row where site = nobody"),
        ("mrt_daily_glycaemia", "site=ada,local_date=someday", "does not fit its column"),
        ("mrt_daily_glycaemia", "moon=full", "has no column moon; say --where with its key: site, local_date"),
        ("mrt_daily_glycaemia", "ada", "'ada' is not column=value"),
        ("mrt_daily_glycaemia", "site=ada,site=bob", "names site twice"),
        ("mrt_daily_glycaemia", "site=x' or '1'='1", "has no row where"),
        ("mrt_moods", "site=ada", "No release holds a mart mrt_moods; released are mrt_agp_hourly"),
    ],
)
def test_a_question_that_names_no_single_row_is_one_sentence(
    built: Built, marts: Postgres, mart: str, where: str, message: str
) -> None:
    with pytest.raises(ReleaseError, match=message):
        ask(built, marts, mart, where)
    with pytest.raises(ReleaseError, match="There is no release 99"):
        ask(built, marts, mart, "site=ada", 99)


@pytest.mark.parametrize("domain", domains())
def test_every_model_of_gold_and_silver_facts_leads_to_a_source(manifest: Path, domain: str) -> None:
    nodes = dbt_project.lineage(domain)
    for node in nodes.values():
        if node.schema == Layer.GOLD or node.name.startswith("fct_"):
            assert upstreams(node, nodes), f"{node.name} leads nowhere: give it explained_by"
    for node in nodes.values():
        if node.is_source:
            assert node.meta["request"] and node.meta["request_columns"], node.name


def test_what_explains_a_model_is_upstream_of_it(manifest: Path) -> None:
    nodes = dbt_project.lineage("nightscout")
    stray = replace(nodes["fct_cgm_reading"], explained_by={"mrt_agp_hourly": "true"})
    with pytest.raises(ReleaseError, match="mrt_agp_hourly explains it, which dbt's lineage lacks"):
        upstreams(stray, nodes)


def test_the_printed_page_tells_all_of_it(
    built: Built, marts: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("include.runtime.lake", lambda: built.lake)
    monkeypatch.setattr("include.runtime.marts", lambda: marts)
    monkeypatch.setattr(cli.console, "width", 140)
    monkeypatch.setattr(explain_page, "MOST", 1)
    asked = ["explain", "mrt_daily_glycaemia", "--where", f"site=bob,local_date={DAYS[0]}", "--release", "1"]
    printed = CliRunner().invoke(cli.app, asked)
    assert printed.exit_code == 0, printed.output
    for shown in (
        "bob",
        "run-1",
        "✔ gate_gold",
        "late share",
        "index.html",
        "287 rows",
        "GET /api/v3/entries",
        "sgv=5000",
        "3 of its 287",
    ):
        assert shown in printed.output, printed.output
    answer = json.loads(CliRunner().invoke(cli.app, [*asked, "--json"]).stdout)
    assert answer["release"]["release_id"] == 1 and answer["row"]["site"] == "bob"
    assert [each["table"] for each in answer["upstream"]] == ["silver.fct_cgm_reading", "bronze.nightscout_entries"]
    assert len(answer["quarantined"]) == 1
    wide = CliRunner().invoke(cli.app, ["explain", "mrt_glucose_overview", "--where", "site=ada", "--release", "1"])
    assert "and 2 more; --json lists them all" in wide.output
    wrong = CliRunner().invoke(cli.app, ["explain", "mrt_daily_glycaemia", "--where", "site=ada"])
    assert wrong.exit_code == 1 and "add local_date" in wrong.stderr
