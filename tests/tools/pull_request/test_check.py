"""The check on real changes, each in a repository of its own whose first commit is this checkout as it is."""

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from include.settings import ROOT
from tools.pull_request import __main__ as command
from tools.pull_request.check import Outcome, check
from tools.pull_request.report import markdown

MART = "dbt/models/gold/nightscout/mrt_glucose_readings.sql"
OVERVIEW = "dbt/models/gold/nightscout/mrt_glucose_overview.sql"
OTHERS = {
    "mrt_agp_hourly",
    "mrt_daily_glycaemia",
    "mrt_glucose_hourly_patterns",
    "mrt_glucose_overview",
    "mrt_quality_coverage",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout, to know which files are the project's")
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    root = tmp_path / "checkout"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "base")
    return root


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def checked(repository: Path) -> Outcome:
    outcome = check(repository, "main", repository / ".lakehouse" / "quality")
    assert len(git(repository, "worktree", "list").splitlines()) == 1, "the base's worktree was left behind"
    return outcome


@pytest.mark.torture
def test_a_threshold_of_one_mart_shows_as_that_marts_rows_and_no_others(repository: Path) -> None:
    replace(repository / MART, "glucose_mg_dl < 54 then", "glucose_mg_dl < 60 then")
    outcome = checked(repository)
    assert outcome.reasons == []
    assert outcome.notices == []
    compared = outcome.compared["nightscout"]
    assert {found.name for found in compared.values() if found} == {"mrt_glucose_readings"}
    mart = compared["gold.mrt_glucose_readings"]
    assert mart.before == mart.after > 1000
    assert (mart.added, mart.gone) == (0, 0)
    assert mart.columns == {"glucose_range": mart.changed}
    assert {pair for example in mart.examples for pair in example.values.values()} == {("low", "very low")}
    assert outcome.affected == {"gold.mrt_glucose_readings"}
    assert outcome.reach is not None
    assert outcome.reach.columns == {"gold.mrt_glucose_readings": ("glucose_range",)}
    assert len(outcome.repeated["nightscout"]) == 12
    text = markdown(outcome, 60)
    assert f"1 of 6 marts differs from the base: `mrt_glucose_readings` ({mart.changed} changed of" in text
    untouched = next(line for line in text.splitlines() if line.startswith("**Untouched**"))
    assert {name.strip("`.,") for name in untouched.split("): ")[1].split()} == OTHERS
    assert "All 6 gates are green" in text
    assert "No DAG and no task is added, changed or gone." in text


@pytest.mark.torture
def test_a_model_that_does_not_run_and_a_red_gate_fail_with_their_reasons(repository: Path) -> None:
    replace(repository / MART, "glucose_mg_dl < 54 then", "no_such_column < 54 then")
    outcome = checked(repository)
    (reason,) = outcome.reasons
    assert reason.startswith("nightscout, run 1: gold failed.\nmrt_glucose_readings: ")
    assert "no_such_column" in reason
    text = markdown(outcome, 60)
    assert "❌ fails" in text
    assert "no_such_column" in text
    assert "| nightscout | gate_gold | not reached |  |" in text


@pytest.mark.torture
def test_a_mart_that_is_another_at_each_run_fails(repository: Path) -> None:
    replace(
        repository / OVERVIEW,
        "insulin.insulin_units / 14 as bolus_units_per_day",
        "insulin.insulin_units / 14 + random() as bolus_units_per_day",
    )
    (reason,) = checked(repository).reasons
    assert "running the same days again changed rows" in reason
    assert "gold.mrt_glucose_overview (0 added, 0 gone," in reason


@pytest.mark.torture
def test_a_model_of_no_domain_fails_as_nothing_runs_it(repository: Path) -> None:
    folder = repository / "dbt/models/gold/ghost"
    folder.mkdir()
    (folder / "mrt_ghost.sql").write_text("select 1 as ghost\n")
    outcome = checked(repository)
    assert outcome.runs == {}
    assert any("dbt/models/gold/ghost/mrt_ghost.sql is part of the pipeline and selects nothing" in each
               for each in outcome.reasons)  # fmt: skip


@pytest.mark.torture
def test_a_project_that_does_not_parse_fails_with_what_dbt_said(repository: Path) -> None:
    replace(repository / MART, "ref('fct_cgm_reading')", "ref('no_such_model')")
    (reason,) = checked(repository).reasons
    assert reason.startswith("It does not parse:")
    assert "no_such_model" in reason


def test_documents_alone_pass_at_once_and_say_why(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "README.md").write_text("Other words.\n")
    monkeypatch.setattr(command, "ROOT", repository)
    page = tmp_path / "summary.md"
    options = ["--base", "main", "--folder", str(tmp_path / "report")]
    done = CliRunner().invoke(command.app, options, env={"GITHUB_STEP_SUMMARY": str(page)})
    assert done.exit_code == 0, done.output
    assert "No file of the pipeline changed" in done.output
    assert page.read_text() == (tmp_path / "report" / "report.md").read_text()
    assert "nothing was run, and nothing needed to be" in page.read_text()


def test_nothing_to_check_is_no_pass(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ROOT", repository)
    done = CliRunner().invoke(command.app, ["--base", "main", "--folder", str(tmp_path / "report")])
    assert done.exit_code == 1
    assert "Nothing differs from main" in done.output


@pytest.mark.torture
def test_a_dag_of_no_domain_is_compared_and_the_report_says_that_it_did_not_run(repository: Path) -> None:
    replace(repository / "dags/lake_backup.py", "back_up()", "back_up.override(retries=7)()")
    outcome = checked(repository)
    assert outcome.reasons == []
    assert outcome.runs == {}
    text = markdown(outcome, 20)
    assert "retries: 2 → 7" in text
    assert "not run, as they are no domain's: lake_backup" in text
