"""The check itself: parse both trees, select, run both, compare; what it finds is an `Outcome`."""

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.errors import LakehouseError
from include.layers import Layer
from include.local.sample import Place, Sample, sample_of
from tools.pull_request import dags, lineage, models, rows
from tools.pull_request.changes import Change, Selection, changed_files, merge_base, select
from tools.pull_request.side import Side, SideError, throwaway, worktree

Progress = Callable[[str], None]


@dataclass
class Outcome:
    """What the check found; it passes if nothing is in `reasons`.

    Args:
        base: what the change is compared with, as given; `commit` is where the two part.
        reasons: why it fails, each a sentence or more.
        notices: what a reviewer should know that fails nothing.
        base_error: why there is nothing to compare with, if so.
        seconds: by step of the check.
    """

    base: str
    commit: str
    changes: list[Change]
    reasons: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    base_error: str | None = None
    selection: Selection | None = None
    dag_changes: list[dags.DagChange] = field(default_factory=list)
    parse_seconds: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    model_changes: list[models.ModelChange] = field(default_factory=list)
    reach: lineage.Reach | None = None
    days: dict[str, str] = field(default_factory=dict)
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    base_runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    repeated: dict[str, dict[str, rows.Difference]] = field(default_factory=dict)
    compared: dict[str, dict[str, rows.Difference]] = field(default_factory=dict)
    affected: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.reasons

    @property
    def pipeline_changes(self) -> list[Change]:
        return [change for change in self.changes if change.is_pipeline]


def check(root: Path, base: str, kept: Path, progress: Progress = lambda step: None) -> Outcome:
    """Check the files below `root`, as they are, against where they left `base`.

    Args:
        kept: folder for the gates' Data Docs, which outlive the throwaway lake that they are about.

    Raises:
        SetupError: there is no such base.
    """
    commit = merge_base(root, base)
    outcome = Outcome(base, commit, changed_files(root, commit))
    if not outcome.changes:
        outcome.reasons.append(
            f"Nothing differs from {base}, so there is nothing to check. Name another base: make pr BASE=<ref>."
        )
    if not outcome.pipeline_changes:
        return outcome
    with throwaway() as place, worktree(root, commit, place.folder / "tree") as tree:
        change, before = (Side(name, files, place.folder / name) for name, files in (("change", root), ("base", tree)))
        _Check(outcome, place, change, before, kept)(progress)
    return outcome


@dataclass
class _Check:
    outcome: Outcome
    place: Place
    head: Side
    base: Side
    kept: Path
    began: float = field(default_factory=time.monotonic)

    def __call__(self, progress: Progress) -> None:
        progress("DAGs and models of both sides")
        parsed = self._parse()
        self._lap("parse")
        if parsed is None:
            return
        streams, base_streams = parsed
        chosen = self._selected(streams)
        if not chosen:
            return
        progress(f"{', '.join(chosen)}: the change twice, the base once")
        results = self._run(chosen, streams, base_streams)
        self._lap("run")
        if results is None:
            return
        progress("rows and columns")
        self._compare(chosen, *results)
        self._lap("compare")

    # --- parse and select ---------------------------------------------------------------------------------------

    def _parse(self) -> tuple[dict[str, list[str]], dict[str, list[str]]] | None:
        """Streams by domain of each side, and what differs; None if the change does not parse."""
        outcome = self.outcome
        with ThreadPoolExecutor(2) as pool:
            of_head, of_base = pool.submit(_tried, self.head.parse), pool.submit(_tried, self._parse_base)
        after, error = of_head.result()
        before, outcome.base_error = of_base.result()
        if after is None:
            outcome.reasons.append(f"It does not parse:\n{error}")
            return None
        (parse, manifest), (base_parse, base_manifest) = after, before or ({}, None)
        outcome.reasons += [f"{file} does not import: {text}" for file, text in parse["errors"].items()]
        if not parse["dags"]:
            outcome.reasons.append("There is no DAG.")
        base_dags = base_parse.get("dags", {})
        outcome.dag_changes = dags.compare(base_dags, parse["dags"]) if before else []
        outcome.parse_seconds = {
            file: (base_parse.get("seconds", {}).get(file), parse["seconds"].get(file))
            for file in sorted({*parse["seconds"], *base_parse.get("seconds", {})})
        }
        self.project = models.Project(manifest)
        self.base_project = models.Project(base_manifest) if base_manifest else None
        outcome.model_changes = models.compare(self.base_project, self.project) if before else []
        self.loaded = set(parse["modules"])
        streams, base_streams = _streams(parse["dags"]), _streams(base_dags)
        dags_of: dict[str, set[tuple[str, str | None]]] = {}
        for dag_id, dag in [*base_dags.items(), *parse["dags"].items()]:
            dags_of.setdefault(dag["file"], set()).add((dag_id, dag["domain"]))
        outcome.selection = select(
            outcome.changes,
            {*streams, *base_streams},
            dags_of,
            {change.domain for change in outcome.model_changes},
        )
        broken = set(parse["errors"])
        for path in outcome.selection.lost:
            if path not in broken:
                outcome.reasons.append(
                    f"{path} is part of the pipeline and selects nothing: it belongs to no domain with a daily "
                    "DAG, and to no DAG. Nothing here ran it."
                )
        return streams, base_streams

    def _parse_base(self) -> Any:
        if not (self.base.tree / "tools" / "pull_request" / "run.py").is_file():
            raise SideError("it is older than this check (it has no tools/pull_request)")
        return self.base.parse()

    def _selected(self, streams: Mapping[str, list[str]]) -> list[str]:
        selection = self.outcome.selection
        assert selection is not None
        if selection.is_empty and not self.outcome.reasons:
            self.outcome.reasons.append("The changed pipeline files select nothing.")
        if selection.dags:
            self.outcome.notices.append(
                f"Parsed and compared, but not run, as they are no domain's: {', '.join(sorted(selection.dags))}."
            )
        return [domain for domain in sorted(selection.domains) if domain in streams]

    # --- run ----------------------------------------------------------------------------------------------------

    def _run(
        self, chosen: list[str], streams: Mapping[str, list[str]], base_streams: Mapping[str, list[str]]
    ) -> tuple[Any, Any] | None:
        """Results of both sides (see `run`), the base's None if there is none; None if the change's process failed."""
        outcome = self.outcome
        with ExitStack() as sources:
            samples: dict[str, Sample] = {}
            for domain in chosen:
                folder = self.place.folder / f"source_{domain}"
                folder.mkdir()
                place = Place(folder, self.place.postgres, self.place.extensions)
                try:
                    samples[domain] = sources.enter_context(sample_of(domain, place))
                except LakehouseError as error:
                    outcome.reasons.append(str(error))
            outcome.days = {domain: str(sample.interval) for domain, sample in samples.items()}
            if not samples:
                return None
            old = {domain: sample for domain, sample in samples.items() if domain in base_streams}
            with ThreadPoolExecutor(2) as pool:
                of_head = pool.submit(_tried, lambda: self.head.run(self.place, samples, streams, 2))
                of_base = (
                    pool.submit(_tried, lambda: self.base.run(self.place, old, base_streams, 1))
                    if old and not outcome.base_error
                    else None
                )
        result, error = of_head.result()
        base_result, base_error = of_base.result() if of_base else (None, None)
        outcome.base_error = outcome.base_error or base_error
        if result is None:
            outcome.reasons.append(f"The pipeline's process failed:\n{error}")
            return None
        shutil.rmtree(self.kept, ignore_errors=True)
        shutil.copytree(self.head.home / "quality", self.kept)
        outcome.runs = {domain: found["runs"] for domain, found in result["domains"].items()}
        outcome.base_runs = {
            domain: found["runs"] for domain, found in (base_result or {"domains": {}})["domains"].items()
        }
        for domain, runs in outcome.runs.items():
            self._judge(domain, runs)
        self.loaded |= set(result["modules"])
        return result, base_result

    def _judge(self, domain: str, runs: list[dict[str, Any]]) -> None:
        reasons = self.outcome.reasons
        for number, run in enumerate(runs, 1):
            if run["failed"]:
                error = run["failed"]["error"].replace(str(self.head.home / "quality"), str(self.kept))
                reasons.append(f"{domain}, run {number}: {run['failed']['step']} failed.\n{error}")
            empty = [gate["gate"] for gate in run["gates"] if not gate["evaluated"]]
            reasons += [f"{domain}, run {number}: {gate} evaluated no check." for gate in empty]

    # --- compare ------------------------------------------------------------------------------------------------

    def _compare(self, chosen: list[str], result: Any, base_result: Any) -> None:
        outcome, selection = self.outcome, self.outcome.selection
        assert selection is not None
        keys = {table: self.project.key(table) for table in self.project.models()}
        for domain in result["domains"]:
            first, second = self.head.tables(domain, 1), self.head.tables(domain, 2)
            if second and not outcome.runs[domain][1]["failed"]:
                outcome.repeated[domain] = rows.differences(first, second, keys)
            elif not outcome.runs[domain][-1]["failed"]:
                outcome.reasons.append(f"{domain} built no table of silver or gold.")
            before = self.base.tables(domain, 1)
            if first and before:
                if outcome.runs[domain][0]["failed"]:  # what was not built is not gone
                    before = {table: path for table, path in before.items() if table in first}
                outcome.compared[domain] = rows.differences(before, first, keys)
            self._require_rows(domain)
        for domain, runs in outcome.base_runs.items():
            if failed := runs[-1]["failed"]:
                outcome.notices.append(
                    f"The base's own {domain} run failed in {failed['step']}, so its rows are not compared: "
                    f"{failed['error'].splitlines()[0]}"
                )
        compiled = _compiled(result)
        if base_result is not None:
            outcome.reach = lineage.reach(self.project, outcome.model_changes, _compiled(base_result), compiled)
        self._find_affected(chosen, selection)
        self._note_what_was_not_imported()

    def _require_rows(self, domain: str) -> None:
        outcome = self.outcome
        changed = [
            f"{table} ({difference.added} added, {difference.gone} gone, {difference.changed} changed)"
            for table, difference in outcome.repeated.get(domain, {}).items()
            if difference
        ]
        if changed:
            outcome.reasons.append(
                f"{domain}: running the same days again changed rows; a run must be repeatable: {', '.join(changed)}."
            )
        found = outcome.repeated.get(domain, {})
        marts = {table: each.after for table, each in found.items() if table.startswith(f"{Layer.GOLD}.")}
        if found and not any(marts.values()):
            outcome.reasons.append(f"{domain}: no mart has a row on the demo's days, so nothing was compared.")

    def _find_affected(self, chosen: list[str], selection: Selection) -> None:
        """Marts that the change may touch, by lineage or because more than models changed; and surprises."""
        outcome, project = self.outcome, self.project
        touching = {change.table for change in outcome.model_changes if change.rows_may_differ}
        by_lineage = project.downstream(touching & set(project.nodes))
        for domain in chosen:
            tables = {table for table in project.models() if project.domain(table) == domain}
            outcome.affected |= tables if domain in selection.whole or outcome.base_error else tables & by_lineage
            unforeseen = [
                table
                for table, difference in outcome.compared.get(domain, {}).items()
                if difference and table not in outcome.affected and table in project.nodes
            ]
            if unforeseen:
                outcome.affected |= set(unforeseen)
                outcome.notices.append(
                    f"No changed file explains why these differ from the base: {', '.join(sorted(unforeseen))}."
                )

    def _note_what_was_not_imported(self) -> None:
        modules = [
            change.path
            for change in self.outcome.pipeline_changes
            if change.folder == "include" and change.path.endswith(".py") and change.kind != "gone"
        ]
        idle = [path for path in modules if path not in self.loaded]
        if idle:
            self.outcome.notices.append(
                f"Changed, and not imported by any DAG or run of this check; only the tests speak for it: "
                f"{', '.join(f'`{path}`' for path in idle)}."
            )

    def _lap(self, name: str) -> None:
        self.outcome.seconds[name] = round(time.monotonic() - self.began - sum(self.outcome.seconds.values()), 1)


def _tried(action: Callable[[], Any]) -> tuple[Any, str | None]:
    try:
        return action(), None
    except SideError as error:
        return None, str(error)


def _streams(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """Domains that a DAG ingests, with their streams."""
    return {dag["domain"]: dag["streams"] for dag in found.values() if dag["streams"]}


def _compiled(result: Any) -> lineage.Compiled:
    sql = {name: text for found in result["domains"].values() for name, text in found["compiled"].items()}
    return lineage.Compiled(sql, result["columns"])
