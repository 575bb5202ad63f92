"""A gate on small tables: what turns it red, what does not, and what it leaves behind."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include import runtime
from include.connections import Storage
from include.errors import GateError, LakehouseError
from include.interval import Interval
from include.lake.attach import Lake
from include.layers import Layer
from include.local.postgres import LocalPostgres
from include.naming import run_slug
from include.quality import gate
from include.quality.checks import Check, Core, Measure, Query, Rows, Severity, Suite, between, has_rows, no_nulls
from include.quality.results import GateResult, evidence_path, read_result, results, run_folder, summaries
from tests.conftest import fresh_database

INTERVAL = Interval.of_days(datetime(2026, 3, 1, tzinfo=UTC).date(), datetime(2026, 3, 2, tzinfo=UTC).date())
RUN = "scheduled__2026-03-02T00:00:00+00:00"
TABLE = "silver.readings"
Gate = Callable[..., GateResult]


@pytest.fixture(scope="module")
def small(server: LocalPostgres, extensions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A thousand rows, 1 to 1000, every tenth without a note; and a table without rows."""
    folder = tmp_path_factory.mktemp("small")
    with fresh_database(server, "lake") as catalog:
        lake = Lake(catalog, Storage(str(folder / "lake")), extensions, folder / "duckdb", memory_limit="1GB")
        with lake.open() as connection:
            connection.execute("create schema silver")
            connection.execute(
                f"create table {TABLE} as select i as id, 'n' || (i % 3) as site, i::double as value, "
                "case when i % 10 > 0 then 'note: ' || i end as note from range(1, 1001) as numbers (i)"
            )
            connection.execute("create table silver.nothing (id bigint)")
        yield lake


@pytest.fixture
def run(small: Lake, tmp_path: Path) -> Gate:
    """Run a gate of these checks; results go to the test's folder."""

    def run(*checks: Check, run_id: str = RUN, domain: str = "small", **options: Any) -> GateResult:
        suite = Suite(domain, Layer.SILVER, checks)
        return gate.run_gate(small, domain, Layer.SILVER, INTERVAL, run_id, tmp_path, suite=suite, **options)

    return run


def rows(predicate: str, name: str = "it_holds", severity: Severity = Severity.FAIL, **options: Any) -> Check:
    return Check(name, TABLE, Rows(predicate, **options), "because", ("-- none",), severity)


def query(sql: str, name: str = "nothing_found", severity: Severity = Severity.FAIL, **options: Any) -> Check:
    return Check(name, TABLE, Query(sql, "nothing", **options), "because", ("-- none",), severity)


def measure(expression: str, **bounds: float) -> Check:
    return Check("measured", TABLE, Measure(expression, **bounds), "because", ("-- none",))


def red(run: Gate, *checks: Check, **options: Any) -> str:
    with pytest.raises(GateError) as caught:
        run(*checks, **options)
    return str(caught.value)


SOUND = (
    has_rows(TABLE),
    has_rows("silver.nothing", due=f"select count(*) from {TABLE} where id < 0"),
    no_nulls(TABLE, "id", "site", why="because"),
    between(TABLE, "value", 1, 1000, why="because"),
    rows("note like 'note: %' and note <> '{id}'", "notes_where_there_are_any", where="note is not null"),
    measure("avg(value)", minimum=500, maximum=501),
    query(
        f"select site, '12:30' as moment from {TABLE} group by site having count(*) < 300 and count(*)::text <> ':x'"
    ),
    Check(
        "ids_are_unique",
        TABLE,
        Core("ExpectColumnValuesToBeUnique", {"column": "id"}, "each id once"),
        "because",
        ("-- none",),
    ),
)


def test_sound_data_pass_and_every_check_was_evaluated(run: Gate) -> None:
    result = run(*SOUND)
    assert result.success and result.failed == () and result.warned == ()
    assert result.evaluated == result.declared == len(SOUND)
    assert result.rows == {TABLE: 1000, "silver.nothing": 0}


def test_a_missing_table_is_red_and_names_the_checks_that_saw_nothing(run: Gate) -> None:
    absent = Check("far_away", "gold.absent", Rows("true"), "because", ("-- none",))
    blind = query(f"select 1 from {TABLE} join gold.other using (id)", reads=("gold.other",))
    message = red(run, has_rows(TABLE), absent, blind)
    assert "absent_exists (gold.absent): expected the table to be in the lake at snapshot" in message
    assert "these checks saw nothing: far_away" in message
    assert "other_exists (gold.other)" in message and "saw nothing: nothing_found" in message
    assert "1 of 3 checks evaluated" in message


def test_an_empty_table_is_red(run: Gate) -> None:
    assert "nothing_has_rows (silver.nothing): expected the table holds at least one row; observed 0" in red(
        run, has_rows("silver.nothing")
    )
    due = has_rows("silver.nothing", due=f"select count(*) from {TABLE}")
    assert "observed 1 found, first rows_due=1000, rows_found=0" in red(run, due)


def test_a_suite_without_checks_is_red(run: Gate) -> None:
    assert "suite_has_checks (small silver): expected a suite with at least one check" in red(run)


def test_a_null_key_is_red_and_the_row_is_shown(run: Gate) -> None:
    message = red(run, no_nulls(TABLE, "id", "note", why="because"), *SOUND[:1])
    assert "observed 100 of 1,000 rows break it, first id=10, note=None" in message
    assert "1 failed, 0 warned, 2 of 2 checks evaluated" in message


def test_a_value_out_of_range_is_red(run: Gate) -> None:
    assert "value from 1 to 999 in each row; observed 1 of 1,000 rows break it, first value=1000.0" in red(
        run, between(TABLE, "value", 1, 999, why="because")
    )


def test_a_measure_out_of_bounds_or_null_is_red(run: Gate) -> None:
    assert "expected sum(value) is at most 500; observed 500500.0" in red(run, measure("sum(value)", maximum=500))
    assert "observed null" in red(run, measure("max(value) filter (where id < 0)", minimum=0))


def test_an_expectation_that_raises_is_red_even_if_it_only_warns(run: Gate) -> None:
    broken = [
        rows("no_such_column > 1", "no_column", Severity.WARN),
        query("select no_such_function()", "no_function", Severity.WARN),
        Check("no_aggregate", TABLE, Measure("maximum(value)", 0), "because", ("-- none",), Severity.WARN),
        Check(
            "no_core",
            TABLE,
            Core("ExpectColumnMaxToBeBetween", {"column": "nope", "min_value": 1}, "x"),
            "because",
            ("-- none",),
            Severity.WARN,
        ),
    ]
    message = red(run, *broken, *SOUND)
    for check in broken:
        assert f"- {check.name} ({TABLE})" in message
    assert message.count("observed an error:") == 4
    # Those that share the table, and its one statement, were still evaluated.
    assert f"4 failed, 0 warned, {len(SOUND)} of {len(SOUND) + 4} checks evaluated" in message


def test_an_expectation_that_raises_while_rows_are_read_is_red(run: Gate) -> None:
    assert "observed an error:" in red(run, rows("note::integer > 1"), has_rows(TABLE))


def test_great_expectations_itself_raising_is_red_and_its_results_are_written(
    run: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def raising(*_: Any) -> None:
        raise RuntimeError("the store is gone")

    monkeypatch.setattr(gate, "_run_checkpoint", raising)
    message = red(run, has_rows(TABLE))
    assert "checks_were_evaluated (small silver): expected answers to 1 checks; observed RuntimeError" in message
    assert read_result(tmp_path, RUN, "gate_silver").evaluated == 0


def test_an_answer_that_is_missing_is_red(run: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_run_checkpoint", lambda *_: None)
    assert "observed no answer from Great Expectations" in red(run, has_rows(TABLE))


def test_a_catalog_that_goes_away_is_no_verdict(run: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import duckdb

    def lose_catalog(gx: Any, url: str, connection: duckdb.DuckDBPyConnection, *_: Any) -> None:
        connection.execute("use memory; detach dl")
        connection.execute("from dl.silver.readings")

    monkeypatch.setattr(gate, "_run_checkpoint", lose_catalog)
    with pytest.raises(duckdb.Error):
        run(has_rows(TABLE))
    assert results(tmp_path, RUN) == []


def test_a_warning_does_not_fail_the_gate_and_is_listed(run: Gate, tmp_path: Path) -> None:
    result = run(has_rows(TABLE), rows("value < 900", "few_high_values", Severity.WARN))
    assert result.success
    assert [finding.check for finding in result.warned] == ["few_high_values"]
    assert summaries(tmp_path, RUN)[0]["warned"] == ["few_high_values"]


def test_rows_added_after_the_snapshot_are_not_seen(run: Gate, small: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    check = gate._check

    def write_first(*arguments: Any) -> Any:
        with small.open() as other:
            other.execute("insert into silver.nothing values (1)")
        return check(*arguments)

    monkeypatch.setattr(gate, "_check", write_first)
    try:
        nothing_there = Check("still_empty", "silver.nothing", Measure("count(*)", maximum=0), "because", ("-- none",))
        assert run(nothing_there).rows == {"silver.nothing": 0}
    finally:
        with small.open() as connection:
            connection.execute("delete from silver.nothing")


def test_checks_run_inside_duckdb_and_those_of_a_table_in_one_scan(run: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    from duckdb_engine import CursorWrapper
    from great_expectations.execution_engine import PandasExecutionEngine

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a gate must not load rows into pandas")

    statements: list[str] = []
    execute = CursorWrapper.execute

    def spy(self: Any, statement: str, *arguments: Any) -> None:
        statements.append(statement)
        execute(self, statement, *arguments)

    monkeypatch.setattr(PandasExecutionEngine, "__init__", refuse)
    monkeypatch.setattr(CursorWrapper, "execute", spy)
    assert run(has_rows(TABLE), *(rows(f"value > {-i}", f"above_{i}") for i in range(25))).success
    scans = [statement for statement in statements if "readings" in statement]
    assert len(scans) == 1, scans


def test_results_are_found_by_run_id_and_the_evidence_has_its_hash(run: Gate, tmp_path: Path) -> None:
    message = red(run, rows("value < 1000"), run_id="manual__ä/../x")
    result = read_result(tmp_path, "manual__ä/../x", "gate_silver")
    evidence = evidence_path(tmp_path, result.dag_run_id, result.results_sha256).read_bytes()
    assert hashlib.sha256(evidence).hexdigest() == result.results_sha256
    found = json.loads(evidence)
    assert found["snapshot_id"] == result.snapshot_id and found["dag_run_id"] == "manual__ä/../x"
    assert found["checks"][0]["answer"]["observed"] == "1 of 1,000 rows break it"
    assert summaries(tmp_path, "manual__ä/../x") == [result.summary()]
    assert GateResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    assert str(tmp_path / result.docs) in message
    assert summaries(tmp_path, "another run") == []
    with pytest.raises(GateError, match="gate_silver has no result for the run another run"):
        read_result(tmp_path, "another run", "gate_silver")


def test_the_same_snapshot_gives_the_same_evidence(run: Gate) -> None:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    first, second = run(*SOUND, now=now), run(*SOUND, now=now)
    assert first.results_sha256 == second.results_sha256


def test_data_docs_show_run_snapshot_and_rows_and_load_nothing_from_elsewhere(run: Gate, tmp_path: Path) -> None:
    red(run, rows("value < 1000 and note <> '<i>'", show=("id", "value")), has_rows("silver.nothing"))
    result = read_result(tmp_path, RUN, "gate_silver")
    page = (tmp_path / result.pages[TABLE]).read_text()
    for shown in (RUN, f"<dd>{result.snapshot_id}</dd>", "<td>10.0</td>", "it_holds", "because", "&lt;i&gt;"):
        assert shown in page
    assert "<i>" not in page
    files = set(tmp_path.rglob("*.html"))
    assert {tmp_path / "index.html", tmp_path / result.docs, tmp_path / result.pages[TABLE]} <= files
    for path in files:
        text = path.read_text()
        assert "<script" not in text and "//" not in text.replace("<!DOCTYPE html>", "")
        for target in re.findall(r'href="([^"#]+)', text):
            assert (path.parent / target).resolve().is_file(), f"{path.name} links to {target}"
    assert run_slug(RUN) in (tmp_path / "index.html").read_text()
    assert not list(tmp_path.rglob("*.gif"))


def test_a_gate_that_runs_again_keeps_the_evidence_of_before(run: Gate, tmp_path: Path) -> None:
    red(run, rows("value < 1000"))
    before = read_result(tmp_path, RUN, "gate_silver")
    after = run(rows("value < 1001"))
    assert read_result(tmp_path, RUN, "gate_silver") == after
    assert evidence_path(tmp_path, RUN, before.results_sha256).is_file()
    assert (tmp_path / before.pages[TABLE]).is_file()


def test_a_run_id_of_another_domain_is_refused(run: Gate) -> None:
    run(has_rows(TABLE))
    with pytest.raises(LakehouseError, match="already holds gates of small"):
        run(has_rows(TABLE), domain="other")


def test_no_file_of_a_gate_holds_a_password(run: Gate, small: Lake, tmp_path: Path) -> None:
    red(run, rows("no_such_column"), *SOUND, rows("value < 1000", "and_red"))
    assert small.catalog.password
    texts = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert texts and not any(small.catalog.password in text for text in texts)


def test_the_kept_context_can_be_opened_and_run_again_at_its_snapshot(
    run: Gate, small: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import great_expectations as gx

    run(has_rows(TABLE), rows("value <= 1000"))
    monkeypatch.setattr(runtime, "lake", lambda: small)
    context = gx.get_context(mode="file", context_root_dir=run_folder(tmp_path, RUN) / "gx" / "gate_silver")
    assert context.checkpoints.get("gate_silver").run().success


def test_importing_a_gate_imports_no_great_expectations() -> None:
    import subprocess
    import sys

    modules = "include.quality.gate, include.quality.suites.nightscout"
    code = f"import sys, {modules}; print('great_expectations' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
