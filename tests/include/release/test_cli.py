import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from include.release import cli
from tests.include.release.building import Releasing, build, lake_connection, whole


@pytest.fixture
def lake_command(releasing: Releasing, monkeypatch: pytest.MonkeyPatch):
    lake_connection(releasing.lake)  # which makes the lake
    monkeypatch.setattr("include.runtime.lake", lambda: releasing.lake)
    monkeypatch.setattr("include.runtime.marts", lambda: releasing.marts)
    monkeypatch.setattr(cli.console, "width", 200)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, list(arguments))

    return run


def test_operator_sees_verifies_reproduces_and_goes_back(releasing: Releasing, lake_command, tmp_path: Path) -> None:
    assert "Nothing was released yet" in lake_command("releases").output
    for version in (1, 2):
        releasing.release(build(releasing.lake, version))
    table = lake_command("releases")
    assert table.exit_code == 0
    assert "▶ 2" in table.output
    entries = [json.loads(line) for line in lake_command("releases", "--json", "--domain", "demo").stdout.splitlines()]
    assert [entry["release_id"] for entry in entries] == [2, 1]

    dry = lake_command("rollback", "1", "--dry-run")
    assert "would go from release 2 to what 1 published" in dry.output
    assert releasing.seen() == whole(2)
    done = lake_command("rollback", "1")
    assert done.exit_code == 0, done.output
    assert "the ledger has it as 3" in done.output
    assert releasing.seen() == whole(1)

    out = tmp_path / "daily.csv"
    reproduced = lake_command("reproduce", "mrt_daily", "--release", "1", "--out", str(out))
    assert "5 rows at snapshot" in reproduced.output
    assert out.is_file()

    assert "3 entries" in lake_command("verify", "--rows").output
    copy = tmp_path / "ledger.jsonl"
    assert lake_command("export-ledger", str(copy)).exit_code == 0
    assert "3 entries" in lake_command("verify", "--file", str(copy)).output
    copy.write_text(copy.read_text().replace('"code_version":"abc"', '"code_version":"xyz"', 1))
    broken = lake_command("verify", "--file", str(copy))
    assert broken.exit_code == 1
    assert "Entry 1 was changed after it was written" in broken.stderr

    releasing.query("delete from marts.mrt_hourly where hour = 3")
    changed = lake_command("verify", "--rows")
    assert changed.exit_code == 1
    assert "Mart mrt_hourly in PostgreSQL is not what release 3 published" in changed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rollback", "7"], "There is no release 7; nothing was released yet."),
        (["reproduce", "mrt_daily", "--release", "7"], "There is no release 7"),
        (["verify"], "there is nothing to verify"),
        (["verify", "--file", "/nowhere"], "There is no file /nowhere"),
    ],
)
def test_errors_are_one_sentence_and_status_1(lake_command, arguments: list[str], message: str) -> None:
    result = lake_command(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_unreachable_server_is_one_sentence(
    lake_command, monkeypatch: pytest.MonkeyPatch, releasing: Releasing
) -> None:
    from dataclasses import replace

    monkeypatch.setattr("include.runtime.marts", lambda: replace(releasing.marts, port=1))
    result = lake_command("releases")
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1


def test_commands_cost_nothing_until_they_run() -> None:
    heavy = "{'duckdb', 'pyarrow', 'psycopg', 'dlt', 'pydantic_settings'}"
    code = f"import include.release.cli, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
