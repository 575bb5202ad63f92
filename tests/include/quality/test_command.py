"""`python -m include.quality`, as somebody at a terminal uses it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from include import runtime
from include.quality import __main__ as command
from include.quality.suites import suite
from include.settings import settings
from tests.include.quality.conftest import INTERVAL, Built

DAYS = ["--from", str(INTERVAL.start.date()), "--to", str(INTERVAL.end.date())]


@pytest.fixture
def at_home(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAKE_HOME", str(tmp_path))
    monkeypatch.setattr(runtime, "lake", lambda: built.lake)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def test_a_gate_run_by_hand_says_what_it_saw_and_where_to_look(at_home: Path) -> None:
    done = CliRunner().invoke(command.app, ["run", "nightscout", "gold", *DAYS, "--run-id", "mine"])
    assert done.exit_code == 0, done.output
    assert (
        f"gate_gold of nightscout passed: {len(suite('nightscout', 'gold').checks)} checks on snapshot" in done.output
    )
    assert (at_home / "quality" / "runs" / "mine" / "gate_gold.json").is_file()


def test_a_red_gate_and_a_wrong_day_exit_with_one_and_a_sentence(at_home: Path) -> None:
    never = ["--from", "2031-01-01", "--to", "2031-01-02", "--no-judge"]
    done = CliRunner().invoke(command.app, ["run", "nightscout", "bronze", *never])
    assert done.exit_code == 1 and "entries_windows_complete" in done.stderr
    done = CliRunner().invoke(command.app, ["run", "nightscout", "bronze", "--from", "monday", "--to", "2026-03-02"])
    assert done.exit_code == 1 and "'monday' is not a day" in done.stderr


def test_the_list_names_every_check_and_rule() -> None:
    done = CliRunner().invoke(command.app, ["list"])
    assert done.exit_code == 0
    names = [check.name for layer in ("bronze", "silver", "gold") for check in suite("nightscout", layer).checks]
    names += [rule.name for rules in suite("nightscout", "bronze").row_rules.values() for rule in rules]
    missing = [name for name in names if name not in done.output]
    assert not missing
