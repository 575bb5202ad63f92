import subprocess
from pathlib import Path

import pytest

from include.release.code_version import code_version
from include.settings import settings


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "a.py").write_text("1")
    return tmp_path


def test_commit_is_marked_when_files_differ_from_it(checkout: Path) -> None:
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "first")
    commit = git(checkout, "rev-parse", "HEAD")
    assert code_version(checkout) == commit
    (checkout / "include" / "a.py").write_text("2")
    assert code_version(checkout) == f"{commit}-dirty"


def test_archive_without_git_still_tells_versions_apart(checkout: Path) -> None:
    first = code_version(checkout)
    assert first.startswith("files-")
    (checkout / "include" / "__pycache__").mkdir()
    (checkout / "include" / "__pycache__" / "a.pyc").write_text("x")
    assert code_version(checkout) == first
    (checkout / "include" / "a.py").write_text("2")
    assert code_version(checkout) != first


def test_setting_wins(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_CODE_VERSION", "1.2.3")
    settings.cache_clear()
    assert code_version(checkout) == "1.2.3"
    monkeypatch.delenv("LAKE_CODE_VERSION")
    settings.cache_clear()
