"""What `lake status` says of backups: an old one, or none where one was due, is not well."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include import runtime
from include.connections import Postgres, Storage
from include.errors import SetupError
from include.lake.attach import Lake
from include.local import status
from include.web.status import Level
from tests.include.release.building import Releasing, build, close_lake

SOON, LATER = timedelta(hours=1), timedelta(hours=40)


@pytest.fixture
def place(lake: Lake, marts_server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    backups = tmp_path / "backup"
    monkeypatch.setattr(runtime, "backups", lambda: Storage(str(backups)))
    monkeypatch.setattr(runtime, "marts_reader", lambda: marts_server)
    monkeypatch.setattr(runtime, "lake_reader", lambda: lake)
    return backups


def test_no_backup_is_late_a_day_after_the_first_release(place: Path, lake: Lake, marts_server: Postgres) -> None:
    Releasing(lake, marts_server).release(build(lake, 1))
    close_lake()
    now = datetime.now(UTC)
    assert status._backup(now + SOON).level is Level.OK
    late = status._backup(now + LATER)
    assert late.level is Level.LATE and "`lake backup`" in late.reason


def test_backup_that_is_too_old_is_late(place: Path) -> None:
    folder = place / "backups" / "20261101T020000Z"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    made = datetime(2026, 11, 1, 2, tzinfo=UTC)
    assert status._backup(made + SOON).level is Level.OK
    late = status._backup(made + LATER)
    assert late.level is Level.LATE and "40 h old" in late.reason


def test_place_that_is_not_named_is_unknown(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Storage:
        raise SetupError("There is no connection lake_backup.")

    monkeypatch.setattr(runtime, "backups", missing)
    assert status._backup(datetime.now(UTC)).level is Level.UNKNOWN
