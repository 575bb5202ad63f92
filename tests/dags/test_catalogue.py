"""docs/dags.md and docs/models.md say what is so."""

from pathlib import Path

import pytest

from include.orchestration.catalogue import DOCS, dags_page, models_page
from include.settings import ROOT


@pytest.mark.parametrize("name", ["dags.md", "models.md"])
def test_generated_documents_are_up_to_date(name: str, manifest: Path) -> None:
    page = dags_page(ROOT / "dags") if name == "dags.md" else models_page(manifest)
    assert (DOCS / name).read_text() == page, f"docs/{name} is behind; run `make docs`"
