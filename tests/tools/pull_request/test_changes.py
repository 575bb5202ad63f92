"""What a change touches, and what of the pipeline it selects."""

import subprocess
from pathlib import Path

import pytest

from include.errors import SetupError
from tools.pull_request.changes import Change, Selection, changed_files, merge_base, select

DOMAINS = {"shop", "clinic"}
DAGS_OF = {
    "dags/shop_daily.py": {("shop_daily", "shop")},
    "dags/lake_backup.py": {("lake_backup", None)},
}


def selected(*paths: str, models: tuple[str, ...] = ()) -> Selection:
    return select([Change(path, "changed") for path in paths], DOMAINS, DAGS_OF, models)


@pytest.mark.parametrize(
    "path",
    [
        "dags/shop_daily.py",
        "dbt/models/gold/shop/mrt_orders.sql",
        "include/sources/shop/client.py",
        "include/quality/suites/shop_layers.py",
        "include/local/shop/demo.py",
    ],
)
def test_a_domains_own_file_selects_that_domain_alone(path: str) -> None:
    assert list(selected(path).domains) == ["shop"]


def test_shared_code_selects_every_domain_whole() -> None:
    for path in ("include/interval.py", "include/sources/bronze.py", "requirements.lock"):
        found = selected(path)
        assert (set(found.domains), found.whole) == (DOMAINS, DOMAINS)


def test_a_macro_selects_the_domains_of_the_models_that_it_changes() -> None:
    found = selected("dbt/macros/money.sql", models=("shop",))
    assert list(found.domains) == ["shop"]
    assert found.whole == set()


@pytest.mark.parametrize("path", ["dbt/macros/unused.sql", "dbt/dbt_project.yml"])
def test_a_dbt_file_whose_effect_no_model_shows_selects_every_domain_whole(path: str) -> None:
    found = selected(path)
    assert (set(found.domains), found.whole) == (DOMAINS, DOMAINS)


def test_a_dag_of_no_domain_is_looked_at_and_runs_none() -> None:
    found = selected("dags/lake_backup.py")
    assert (found.domains, list(found.dags)) == ({}, ["lake_backup"])
    assert not found.is_empty


@pytest.mark.parametrize("path", ["dbt/models/gold/ghost/mrt_x.sql", "dags/helpers.py"])
def test_a_pipeline_file_that_selects_nothing_is_lost(path: str) -> None:
    found = selected(path)
    assert found.lost == [path]
    assert found.is_empty


def test_without_any_domain_nothing_passes_for_selected() -> None:
    found = select([Change("include/interval.py", "changed")], set(), {}, ())
    assert found.is_empty
    assert select([Change("dbt/models/gold/shop/mrt_orders.sql", "gone")], set(), {}, ()).lost


def test_documents_tests_and_deployment_are_outside_the_pipeline() -> None:
    paths = ["README.md", "dbt/README.md", "docs/a.md", "tests/test_a.py", "deploy/make-env", "plugins/lakehouse.py"]
    found = selected(*paths)
    assert not [path for path in paths if Change(path, "changed").is_pipeline]
    assert found.is_empty
    assert not found.lost


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "kept").write_text("1")
    (tmp_path / "old").write_text("old text that a rename would find again")
    (tmp_path / ".gitignore").write_text("ignored\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "base")
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True)


def test_committed_uncommitted_and_new_files_all_count(repository: Path) -> None:
    git(repository, "checkout", "-qb", "change")
    git(repository, "mv", "old", "renamed")
    git(repository, "commit", "-qm", "rename")
    (repository / "kept").write_text("2")
    (repository / "a new file").write_text("")
    (repository / "ignored").write_text("")
    assert changed_files(repository, merge_base(repository, "main")) == [
        Change("a new file", "added"),
        Change("kept", "changed"),
        Change("old", "gone"),
        Change("renamed", "added"),
    ]


def test_what_the_base_did_since_is_not_this_changes_doing(repository: Path) -> None:
    git(repository, "checkout", "-qb", "change")
    git(repository, "checkout", "-q", "main")
    (repository / "kept").write_text("3")
    git(repository, "commit", "-qam", "meanwhile")
    git(repository, "checkout", "-q", "change")
    assert changed_files(repository, merge_base(repository, "main")) == []


def test_a_base_that_is_not_there_is_a_sentence(repository: Path) -> None:
    with pytest.raises(SetupError, match=r"HEAD and origin/nowhere share.*make pr BASE="):
        merge_base(repository, "origin/nowhere")
