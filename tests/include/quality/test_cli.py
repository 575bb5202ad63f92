"""`lake quarantine` and `lake replay --dry-run`, as an operator reads them."""

import json

import pytest
from typer.testing import CliRunner, Result

from include.quality import cli
from include.quality.quarantine import set_aside
from tests.dbt import bronze
from tests.include.quality.conftest import DAYS
from tests.include.quality.test_quarantine import load


@pytest.fixture
def command(lake, monkeypatch: pytest.MonkeyPatch):
    bronze.create_bronze(lake, ["entries"])
    load(lake, 0, [100.0, 5.0, 7.0])
    set_aside(lake, "nightscout", "run 1")
    monkeypatch.setattr("include.runtime.lake", lambda: lake)
    monkeypatch.setattr(cli.console, "width", 120)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, list(arguments))

    return run


def test_operator_sees_what_was_set_aside_and_what_a_replay_would_change(command, lake) -> None:
    listed = command("quarantine")
    assert listed.exit_code == 0
    for shown in ("nightscout_entries", "sgv_in_range", "2 rows", str(DAYS[0]), "ada", "run 1", "sgv=5"):
        assert shown in listed.output
    (row,) = [json.loads(line) for line in command("quarantine", "--json").stdout.splitlines()]
    assert (row["rows"], row["example"]["payload"]["sgv"]) == (2, 5.0)
    assert "Nothing of nightscout is in quarantine for that choice" in command("quarantine", "--rule", "other").output

    with lake.open() as connection:
        connection.execute("update bronze.nightscout_entries set sgv = 105 where sgv = 5")
    dry = command("replay", "nightscout", "--dry-run")
    assert dry.exit_code == 0 and str(DAYS[0]) in dry.output
    counts = next(line.split() for line in dry.output.splitlines() if "nightscout_entries" in line)
    assert counts[1:5] == ["3", "2", "1", "0"]
    wrong = command("replay", "nightscout", "--table", "moods", "--dry-run")
    assert wrong.exit_code == 1 and "no row rules for moods" in wrong.stderr
