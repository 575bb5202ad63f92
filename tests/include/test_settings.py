import shlex
from pathlib import Path

import pytest

from include import runtime
from include import settings as environment
from include.errors import SetupError
from include.settings import ROOT, Settings


def test_missing_connection_says_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_MARTS", raising=False)
    with pytest.raises(SetupError, match="AIRFLOW_CONN_MARTS"):
        environment.connection("marts")


def test_stack_environment_is_taken_but_what_is_exported_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    awkward = """{"password": "it's a \\"secret\\" $HOME"}"""
    lines = [
        "# comment",
        f"export TEST_LAKE_A={shlex.quote(awkward)}",
        "export TEST_LAKE_B=stack",
        'TEST_LAKE_C={"a": 1}',
    ]
    (tmp_path / "env").write_text("\n".join(lines))
    for name in ("TEST_LAKE_A", "TEST_LAKE_C"):
        monkeypatch.setenv(name, "")  # so that monkeypatch restores it
        monkeypatch.delenv(name)
    monkeypatch.setenv("TEST_LAKE_B", "mine")
    environment.load_local_environment(tmp_path)
    import os

    assert os.environ["TEST_LAKE_A"] == awkward
    assert os.environ["TEST_LAKE_B"] == "mine"
    assert os.environ["TEST_LAKE_C"] == '{"a": 1}'


def test_relative_paths_mean_the_same_wherever_the_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKE_NIGHTSCOUT_SITES", "my-sites.yaml")
    assert Settings().sites_file == ROOT / "my-sites.yaml"


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_key_that_is_none_or_short_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SAAS_PSEUDONYM", raising=False)
    with pytest.raises(SetupError, match="AIRFLOW_CONN_SAAS_PSEUDONYM"):
        runtime.pseudonym_key("saas")
    monkeypatch.setenv("AIRFLOW_CONN_SAAS_PSEUDONYM", '{"conn_type": "generic", "password": "too short"}')
    with pytest.raises(SetupError, match="password of 9 characters; expected a random key of 16") as caught:
        runtime.pseudonym_key("saas")
    assert "too short" not in str(caught.value)


def test_only_domains_that_pseudonymise_need_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SAAS_PSEUDONYM", '{"conn_type": "generic", "password": "sixteen or more letters"}')
    assert runtime.pseudonym_keys("saas") == {"saas": "sixteen or more letters"}
    assert runtime.pseudonym_keys("nightscout") == {}
