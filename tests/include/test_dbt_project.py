from collections.abc import Callable
from pathlib import Path

import pytest

from include import dbt_project
from include.errors import SetupError

MODEL = Path("models/gold/shop/mrt_sales.sql")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {
        "dbt_project.yml": "name: shop",
        MODEL: "select 1",
        "macros/tax.sql": "{% macro tax() %}",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda project: (project / MODEL).write_text("select 2"), id="a model is edited"),
        pytest.param(lambda project: (project / MODEL).unlink(), id="a model is deleted"),
        pytest.param(lambda project: (project / MODEL).rename(project / "models/other.sql"), id="a model is renamed"),
        pytest.param(lambda project: (project / "macros/new.sql").write_text("x"), id="a macro is added"),
    ],
)
def test_project_that_changed_is_another(project: Path, change: Callable[[Path], None]) -> None:
    before = dbt_project.fingerprint(project)
    (project / MODEL).touch()
    (project / "target").mkdir()
    (project / "target" / "manifest.json").write_text("{}")
    assert dbt_project.fingerprint(project) == before
    change(project)
    assert dbt_project.fingerprint(project) != before


def test_folder_without_a_project_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="has no files"):
        dbt_project.fingerprint(tmp_path)


def test_project_that_changed_since_it_was_parsed_does_not_run(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dbt_project.parsed()
    (tmp_path / "fingerprint").write_text("of another project")
    monkeypatch.setattr(dbt_project, "FINGERPRINT", tmp_path / "fingerprint")
    with pytest.raises(SetupError, match="changed since it was parsed; run `make manifest`"):
        dbt_project.parsed()
