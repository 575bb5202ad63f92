"""A gate: every check of a suite on one snapshot of the lake, through Great Expectations, with the evidence kept."""

import json
import logging
import re
import shutil
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb

from include.errors import GateError, LakehouseError, first_line
from include.interval import Interval
from include.lake import fsck
from include.lake.attach import ALIAS, Lake
from include.lake.files import StorageError
from include.layers import QUARANTINE_SCHEMA, Layer
from include.naming import run_slug
from include.quality import pages, quarantine, results
from include.quality.checks import Check, Measure, Query, Rows, Scope, Severity, Suite
from include.quality.results import Finding, GateResult
from include.quality.suites import suite as suite_of
from include.release.certify import pinned_snapshot

CONTEXT = Path(__file__).parent / "gx" / "great_expectations.yml"
DATA_SOURCE = "lake"
BATCH = "all rows"
# What DuckDB says of storage that is away, and of files that are gone or no Parquet.
_UNREAD = re.compile(r"(?:IO|HTTP) Error: [^\n]*|[^\n]*(?:too small to be a Parquet file|No magic bytes found)[^\n]*")
PAGE_DEPTH = 5  # data_docs/validations/<suite>/<run>/<time>/ below the folder of the run

log = logging.getLogger(__name__)


def run_gate(
    lake: Lake,
    domain: str,
    layer: Layer | str,
    interval: Interval,
    dag_run_id: str,
    quality_dir: Path,
    *,
    now: datetime | None = None,
    suite: Suite | None = None,
    judge: bool = True,
) -> GateResult:
    """Check one layer of a domain at the lake's newest snapshot; on bronze, set broken rows aside first.

    Its checks are about the days of the interval, and about those that landed but no release has published yet.

    Results and Data Docs are written to `<quality_dir>/runs/<run>/` before the verdict is given, green or red.

    Args:
        now: what `{now}` means in a check; by default the present.
        suite: instead of the domain's own.
        judge: false leaves quarantine as it is and writes nothing to the lake, whatever the layer.

    Raises:
        StorageError: the lake's files could not be read; nothing was judged.
        GateError: the gate is red. The message names the checks, what they expected and saw, the run, the snapshot
            and the page that shows it.
    """
    started, layer = time.monotonic(), Layer(layer)
    checked_at = (now or datetime.now(UTC)).astimezone(UTC)
    suite = suite or suite_of(domain, layer)
    _refuse_foreign_run(quality_dir, dag_run_id, domain)
    judged, unjudged = {}, None
    judge = judge and layer is Layer.BRONZE
    if judge:
        fsck.settle(lake, [*(f"{QUARANTINE_SCHEMA}.{table}" for table in suite.row_rules), *fsck.BOOKKEEPING])
    # One DuckDB for all of it: loading its extensions takes longer than most checks.
    with lake.open(read_only=not judge) as connection:
        if judge:
            try:
                judged = quarantine.judge(connection, suite, dag_run_id, interval)
            except GateError as error:
                unjudged = error
        snapshot = _one(connection, "select max(snapshot_id) from dl.snapshots()")
        connection.execute(f"use memory; detach {ALIAS}")
        connection.execute(f"{lake.attach_sql(snapshot=snapshot)}; use {ALIAS}")
        released = pinned_snapshot(connection, domain)
        days = quarantine.answered_days(connection, suite.landed, interval, released)
        scope = Scope(interval, checked_at.isoformat(), days)
        run = _Run(suite, layer.gate, scope, dag_run_id, snapshot, checked_at, quality_dir)
        answers = _check(connection, run)
    if unjudged is not None:
        answers.error = unjudged
        answers.problems.append(
            Finding(
                check="row_rules_were_judged",
                table=f"{domain} {layer}",
                expected="an answer from each row rule for each row",
                observed=str(unjudged),
                why="A row that no rule has judged has neither passed nor been set aside.",
            )
        )
    result = _result(run, answers, judged, seconds=time.monotonic() - started)
    results.write_result(quality_dir, result)
    pages.write_run_page(quality_dir, dag_run_id)
    if not result.success:
        raise GateError(_verdict(result, quality_dir)) from answers.error
    for finding in result.warned:
        log.warning("%s warns: %s", result.gate, finding)
    return result


@dataclass(frozen=True)
class _Run:
    suite: Suite
    gate: str
    scope: Scope
    dag_run_id: str
    snapshot: int
    checked_at: datetime
    quality_dir: Path

    @property
    def interval(self) -> tuple[str, str]:
        return self.scope.interval.start.isoformat(), self.scope.interval.end.isoformat()

    @property
    def folder(self) -> Path:
        return results.run_folder(self.quality_dir, self.dag_run_id)

    def rows_of(self, table: str) -> str:
        """What stands in a `from` for the rows of the table that its checks on rows are about."""
        within = self.suite.within.get(table)
        return f"(from {table} where {self.scope.fill(within)}) as {table.partition('.')[2]}" if within else table

    def about(self, table: str) -> dict[str, Any]:
        """What every check's record says about where it was asked."""
        return {
            "gate": self.gate,
            "domain": self.suite.domain,
            "table": table,
            "dag_run_id": self.dag_run_id,
            "interval": list(self.interval),
            "days": [[str(first), str(last)] for first, last in self.scope.days],
            "snapshot_id": self.snapshot,
            "checked_at": self.scope.now,
        }


@dataclass
class _Answers:
    """What was found, check by check, and what kept checks from being asked."""

    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    error: Exception | None = None


def _check(connection: duckdb.DuckDBPyConnection, run: _Run) -> _Answers:
    answers, suite = _Answers(), run.suite
    where = f"{suite.domain} {suite.layer}"
    if not suite.checks:
        answers.problems.append(
            Finding(
                check="suite_has_checks",
                table=where,
                expected="a suite with at least one check",
                observed="a suite without any",
                why="A gate that checks nothing proves nothing.",
            )
        )
        return answers
    there = _tables(connection)
    askable = _report_missing(suite.checks, there, run.snapshot, answers)
    try:
        for table in suite.tables:
            if table in there:
                answers.rows[table] = _one(connection, f"select count(*) from {table}")
        if askable:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                _ask(connection, askable, run, answers)
    except Exception as error:  # noqa: BLE001 - whatever is raised, the gate is red, says so, and raises from it
        answers.error = error
        answers.problems.append(
            Finding(
                check="checks_were_evaluated",
                table=where,
                expected=f"answers to {len(askable)} checks",
                observed=f"{type(error).__name__}: {first_line(error)}",
                why="What was not evaluated is not known to hold.",
            )
        )
    if answers.error or any(answer["raised"] for answer in answers.checks.values()):
        # A catalog or a storage that went away says nothing of the data: that is the task's error, not a verdict.
        connection.execute("from dl.snapshots()")
        raised = [str(answers.error), *(str(answer["raised"]) for answer in answers.checks.values())]
        unread = next((found[0] for text in raised if (found := _UNREAD.search(text))), None)
        if unread:
            raise StorageError(
                f"The lake's storage could not be read: {unread} If the file is damaged or gone, `lake fsck` says "
                "which tables are, and `lake fsck --repair` mends them; if the storage was away, clear the task.",
                retryable=True,
            ) from answers.error
    return answers


def _report_missing(checks: Iterable[Check], there: set[str], snapshot: int, answers: _Answers) -> list[Check]:
    """The checks whose tables are all there; one problem for each table that is not."""
    blind: dict[str, list[str]] = {}
    askable = []
    for check in checks:
        missing = [table for table in check.reads if table not in there]
        for table in missing:
            blind.setdefault(table, []).append(check.name)
        if not missing:
            askable.append(check)
    for table, names in blind.items():
        answers.problems.append(
            Finding(
                check=f"{table.partition('.')[2]}_exists",
                table=table,
                expected=f"the table to be in the lake at snapshot {snapshot}",
                observed=f"no such table, so these checks saw nothing: {', '.join(names)}",
                why="A check that cannot see its table must not pass.",
            )
        )
    return askable


def _ask(connection: duckdb.DuckDBPyConnection, checks: list[Check], run: _Run, answers: _Answers) -> None:
    """Put the checks of each table into a suite of its own, run them all as one checkpoint, and render its pages."""
    from include.quality.dialect import engine_url
    from include.quality.gx_import import great_expectations

    gx = great_expectations()
    with engine_url(connection, run.snapshot) as url:
        _run_checkpoint(gx, url, connection, checks, run, answers)


def _run_checkpoint(
    gx: Any, url: str, connection: duckdb.DuckDBPyConnection, checks: list[Check], run: _Run, answers: _Answers
) -> None:
    tables = list(dict.fromkeys(check.table for check in checks))
    context = _context(gx, url, tables, run)
    source = context.data_sources.get(DATA_SOURCE)
    definitions = []
    for table in tables:
        mine = [check for check in checks if check.table == table]
        suite = context.suites.add(
            gx.ExpectationSuite(
                name=f"{run.gate}__{table.partition('.')[2]}",
                expectations=_expectations(gx, connection, table, mine, run),
                meta={"about": run.about(table)},
            )
        )
        batch = source.get_asset(table).get_batch_definition(BATCH)
        definitions.append(
            context.validation_definitions.add(gx.ValidationDefinition(name=suite.name, data=batch, suite=suite))
        )
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(name=run.gate, validation_definitions=definitions, result_format="BASIC", actions=[])
    )
    outcome = checkpoint.run(run_id=gx.RunIdentifier(run_name=run_slug(run.dag_run_id), run_time=run.checked_at))
    for key, found in outcome.run_results.items():
        for result in found.results:
            _record(result, answers)
        table = found.results[0].expectation_config.meta["about"]["table"]
        context.build_data_docs(resource_identifiers=[key], build_index=False)
        site = context.get_docs_sites_urls(resource_identifier=key)[0]["site_url"]
        page = Path(unquote(site.removeprefix("file://"))).resolve()
        answers.pages[table] = page.relative_to(run.quality_dir.resolve()).as_posix()


def _context(gx: Any, url: str, tables: list[str], run: _Run) -> Any:
    root = run.folder / "gx" / run.gate
    for stale in ("expectations", "validation_definitions", "checkpoints"):
        shutil.rmtree(root / stale, ignore_errors=True)
    assets = {}
    for table in tables:
        schema, _, name = table.partition(".")
        source = {"type": "table", "table_name": name, "schema_name": schema}
        if table in run.suite.within:
            source = {"type": "query", "query": f"select * from {run.rows_of(table)}"}
        assets[table] = {
            **source,
            "batch_metadata": {},
            "batch_definitions": {BATCH: {"partitioner": None}},
        }
    sources = {DATA_SOURCE: {"type": "sql", "connection_string": url, "create_temp_table": False, "assets": assets}}
    # YAML takes JSON, so the data source need not go through one rewrite of the file per table.
    text = f"{CONTEXT.read_text()}\nfluent_datasources: {json.dumps(sources, indent=2)}\n"
    results.write_text(root / CONTEXT.name, text)
    return gx.get_context(mode="file", context_root_dir=root.resolve())


def _expectations(
    gx: Any, connection: duckdb.DuckDBPyConnection, table: str, checks: list[Check], run: _Run
) -> list[Any]:
    from include.quality import expectations

    isolated = _isolated(connection, table, checks, run)
    made = []
    for check in checks:
        test = check.test
        common = {
            "severity": "critical" if check.severity is Severity.FAIL else "warning",
            "meta": {
                "check": check.name,
                "severity": check.severity.value,
                "expected": run.scope.words(test.expected),
                "why": check.why,
                "about": {**run.about(table), "up": PAGE_DEPTH * "../"},
            },
        }
        if check.name in isolated or isinstance(test, Query):
            sql = _aggregate(check, run) if check.name in isolated else run.scope.fill(test.sql)
            if check.name in isolated:
                sql = f"select {sql} from {run.rows_of(table)}"
            made.append(expectations.ExpectNoRowsFrom(sql=sql, **common))
        elif isinstance(test, Rows):
            sample = _broken_rows(check, run)
            made.append(expectations.ExpectRowsToSatisfy(sql=_aggregate(check, run), sample_sql=sample, **common))
        elif isinstance(test, Measure):
            made.append(
                expectations.ExpectMeasureToBeBetween(
                    sql=_aggregate(check, run), min_value=test.minimum, max_value=test.maximum, **common
                )
            )
        else:
            made.append(getattr(gx.expectations, test.expectation)(**test.arguments, **common))
    return made


def _isolated(connection: duckdb.DuckDBPyConnection, table: str, checks: list[Check], run: _Run) -> set[str]:
    """Checks that cannot even be planned (a column is missing), by name.

    The aggregates of a table are one statement, so one that cannot be planned would take all others with it; these are
    asked alone, to fail alone.
    """
    bundled = {check.name: _aggregate(check, run) for check in checks if isinstance(check.test, Rows | Measure)}

    def plans(aggregates: Iterable[str]) -> bool:
        try:
            connection.execute(f"explain select {', '.join(aggregates)} from {run.rows_of(table)}")
        except duckdb.Error:
            return False
        return True

    if not bundled or plans(bundled.values()):
        return set()
    return {name for name, aggregate in bundled.items() if not plans([aggregate])}


def _aggregate(check: Check, run: _Run) -> str:
    test = check.test
    if isinstance(test, Measure):
        # Great Expectations walks the whole call stack for each Decimal that it meets, so it gets doubles.
        sql = f"({test.expression})::double"
    else:
        assert isinstance(test, Rows)
        due = f" filter (where {test.where})" if test.where else ""
        sql = f"struct_pack(due := count(*){due}, broken := count(*) filter (where {_broken(test)}))"
    return run.scope.fill(sql)


def _broken_rows(check: Check, run: _Run) -> str:
    test = check.test
    assert isinstance(test, Rows)
    columns = ", ".join(test.show) or "*"
    return run.scope.fill(f"select {columns} from {run.rows_of(check.table)} where {_broken(test)}")


def _broken(test: Rows) -> str:
    broken = f"not coalesce(({test.predicate}), false)"
    return f"({test.where}) and {broken}" if test.where else broken


def _record(result: Any, answers: _Answers) -> None:
    from include.quality import docs

    config = result.expectation_config
    found = result.result or {}
    answers.checks[config.meta["check"]] = {
        "expectation": config.type,
        "arguments": {key: value for key, value in config.kwargs.items() if key != "batch_id"},
        "success": bool(result.success),
        "raised": docs.raised(result),
        "observed": docs.observed(result),
        "sample": found.get("partial_unexpected_list", []),
    }


def _result(run: _Run, answers: _Answers, judged: dict[str, quarantine.SetAside], seconds: float) -> GateResult:
    suite, failed, warned = run.suite, list(answers.problems), []
    checks = []
    for check in suite.checks:
        answer = answers.checks.get(check.name)
        checks.append(_evidence(check, answer, run))
        if answer is None:
            if not answers.problems:
                failed.append(_finding(check, {"observed": "no answer from Great Expectations"}, run, answers))
            continue
        if answer["success"] and not answer["raised"]:
            continue
        # An expectation that raised was not evaluated, and so fails whatever its severity.
        fails = check.severity is Severity.FAIL or bool(answer["raised"])
        (failed if fails else warned).append(_finding(check, answer, run, answers))
    evaluated = sum(1 for answer in answers.checks.values() if not answer["raised"])
    evidence = {
        **run.about(""),
        "suite": {"max_share": suite.max_share, "spare_rows": suite.spare_rows},
        "rows": answers.rows,
        "set_aside": {table: vars(found) for table, found in judged.items()},
        "problems": [vars(problem) for problem in answers.problems],
        "checks": checks,
    }
    return GateResult(
        gate=run.gate,
        domain=suite.domain,
        dag_run_id=run.dag_run_id,
        interval=run.interval,
        snapshot_id=run.snapshot,
        success=not failed,
        declared=len(suite.checks),
        evaluated=evaluated,
        failed=tuple(failed),
        warned=tuple(warned),
        rows=answers.rows,
        set_aside={
            f"{Layer.BRONZE}.{table}": {"windows": found.windows, "landed": found.landed, "broken": found.broken}
            for table, found in judged.items()
        },
        checked_at=run.scope.now,
        seconds=round(seconds, 3),
        docs=f"runs/{run.folder.name}/index.html",
        pages=answers.pages,
        results_sha256=results.write_evidence(run.quality_dir, run.dag_run_id, evidence),
    )


def _evidence(check: Check, answer: dict[str, Any] | None, run: _Run) -> dict[str, Any]:
    return {
        "check": check.name,
        "table": check.table,
        "severity": check.severity.value,
        "expected": run.scope.words(check.test.expected),
        "answer": answer,
    }


def _finding(check: Check, answer: dict[str, Any], run: _Run, answers: _Answers) -> Finding:
    sample = answer.get("sample") or []
    first = f", first {_short(sample[0])}" if sample else ""
    return Finding(
        check=check.name,
        table=check.table,
        expected=run.scope.words(check.test.expected),
        observed=f"{answer['observed']}{first}",
        why=check.why,
        page=answers.pages.get(check.table, ""),
    )


def _verdict(result: GateResult, quality_dir: Path) -> str:
    lines = [
        f"{result.gate} of {result.domain} is red for {result.interval[0][:10]}..{result.interval[1][:10]}, run "
        f"{result.dag_run_id}, lake snapshot {result.snapshot_id}: {len(result.failed)} failed, "
        f"{len(result.warned)} warned, {result.evaluated} of {result.declared} checks evaluated.",
        *(f"- {finding}" for finding in result.failed),
        f"Readers keep the previous release. Mend the data or the check and run the task again. Data Docs: "
        f"{quality_dir / result.docs}",
    ]
    return "\n".join(lines)


def _refuse_foreign_run(quality_dir: Path, dag_run_id: str, domain: str) -> None:
    owners = {result.domain for result in results.results(quality_dir, dag_run_id)} - {domain}
    if owners:
        raise LakehouseError(
            f"The run id {dag_run_id} already holds gates of {', '.join(sorted(owners))} in {quality_dir}; pass a "
            "run id that names its DAG, so that the results of two domains cannot overwrite each other."
        )


def _tables(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Tables and views of the lake at the snapshot that the connection reads."""
    found = connection.execute(
        "select schema_name || '.' || table_name from duckdb_tables() where database_name = 'dl' "
        "union all select schema_name || '.' || view_name from duckdb_views() where database_name = 'dl'"
    )
    return {name for (name,) in found.fetchall()}


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return int(row[0])


def _short(row: dict[str, Any]) -> str:
    text = ", ".join(f"{column}={value}" for column, value in row.items())
    return text if len(text) <= 200 else f"{text[:197]}..."
