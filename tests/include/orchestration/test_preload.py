"""What the scheduler imports ahead of its tasks."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from include import dbt_project
from include.orchestration import preload


@pytest.mark.parametrize("module", preload.MODULES)
def test_every_module_exists(module: str) -> None:
    """One that an upgrade renamed would keep the scheduler from starting."""
    assert find_spec(module) is not None


def test_the_manifest_is_the_one_that_tasks_read() -> None:
    assert preload.PARSED == dbt_project.PARSED


def test_a_manifest_that_cannot_be_read_does_not_keep_the_scheduler_from_starting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(preload, "PARSED", tmp_path / "partial_parse.msgpack")
    preload.PARSED.write_bytes(b"no msgpack")
    preload._read_manifest()
    assert "could not be read and compiled ahead" in caplog.text
