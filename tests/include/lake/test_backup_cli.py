"""The backup commands as an operator runs them, and the tasks as Airflow does."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from include.connections import Storage
from include.lake import backup_cli
from include.settings import settings
from tests.include.lake.conftest import close_lake
from tests.include.release.building import Releasing, build, whole


@pytest.fixture
def command(releasing: Releasing, backups: Storage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("include.runtime.lake", lambda: releasing.lake)
    monkeypatch.setattr("include.runtime.marts", lambda: releasing.marts)
    monkeypatch.setattr("include.runtime.backups", lambda: backups)
    monkeypatch.setattr(backup_cli.console, "width", 220)

    def run(*arguments: str) -> Result:
        close_lake()
        return CliRunner().invoke(backup_cli.app, list(arguments))

    return run


def test_operator_backs_up_proves_loses_and_restores(releasing: Releasing, command, tmp_path: Path) -> None:
    assert "There is no backup" in command("backups").output
    nothing = command("restore")
    assert nothing.exit_code == 1
    assert "holds no backup" in nothing.stderr
    for version in (1, 2):
        releasing.release(build(releasing.lake, version))
    assert "Would copy 2 of 2 files" in command("backup", "--dry-run").output
    assert "There is no backup" in command("backups").output
    made = command("backup")
    assert "releases 1 to 2, 2 files" in made.output, made.output
    assert "none" in command("backups").output
    assert "2 marts, 29 rows, each as the ledger says" in command("restore-drill").output
    assert "2 marts, 29 rows" in command("backups").output

    close_lake()
    shutil.rmtree(releasing.lake.storage.url)
    dry = command("restore", "--at", "1", "--dry-run").output
    assert "bringing back 2 files" in dry
    assert "Would delete the catalog ducklake" in dry
    assert "roll readers back to release 1" in dry
    refused = command("restore", "--at", "1")
    assert refused.exit_code == 1
    assert "say --replace" in " ".join(refused.stderr.split())
    aside = command("restore", "--into", str(tmp_path / "aside"))
    assert "2 marts with 29 rows are what the ledger says" in aside.output, aside.output
    assert not Path(releasing.lake.storage.url).exists()
    done = command("restore", "--at", "1", "--replace")
    assert done.exit_code == 0, done.output
    assert "2 files brought back" in done.output
    assert "the ledger has it as 3" in done.output
    assert releasing.seen() == whole(1)


def test_tasks_back_up_and_drill_with_airflows_connections(
    releasing: Releasing, backups: Storage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from include.orchestration.backup import back_up, restore_newest

    releasing.release(build(releasing.lake, 1))
    for name, server in (("LAKE_CATALOG", releasing.lake.catalog), ("MARTS", releasing.marts)):
        given = {"login": server.user, "password": server.password, "schema": server.database, "port": server.port}
        text = json.dumps({"conn_type": "postgres", **given, "extra": {"host": server.host}})
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", text)
    for name, url in (("LAKE_STORAGE", releasing.lake.storage.url), ("LAKE_BACKUP", backups.url)):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "file", "extra": {"path": url}}))
    monkeypatch.setenv("LAKE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKE_EXTENSION_DIR", str(releasing.lake.extensions))
    settings.cache_clear()
    try:
        made = back_up.function()
        record = restore_newest.function()
    finally:
        settings.cache_clear()
    assert json.loads(json.dumps(made))["files"] == 1
    assert (record["success"], record["backup_id"], record["marts"]) == (True, made["backup_id"], 2)
