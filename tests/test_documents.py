"""Documents say what is so: settings, links, commands, targets."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from include.settings import ROOT, Settings

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "include").rglob("README.md")])


def test_readme_lists_every_setting_and_no_other() -> None:
    listed = set(re.findall(r"^\| `(LAKE_[A-Z_]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert listed == {f"LAKE_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_lake_command_and_make_target_exists(document: Path) -> None:
    from include.cli import app

    text = document.read_text()
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"(?:bin/|`|rm )lake ([a-z][a-z-]+)", text))
    assert named <= commands
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^ {4}|`|&& )make ([a-z-]+)", text, re.MULTILINE)) <= targets


def test_decisions_are_listed_and_numbered_without_gaps() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(path.name for path in folder.glob("0*.md"))
    assert [page[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    index = (folder / "README.md").read_text()
    assert [page for page in pages if f"({page})" not in index] == []
