"""The demo sources that a pull request's check runs on."""

from pathlib import Path

import pytest

from include.errors import SetupError
from include.local.postgres import LocalPostgres
from include.local.sample import Place, sample_of
from include.settings import ROOT

DOMAINS = sorted(path.parent.name for path in (ROOT / "include" / "sources").glob("*/run.py"))


@pytest.fixture
def place(server: LocalPostgres, extensions: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, server, extensions)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_has_a_sample_of_the_same_days_at_each_call(place: Place, domain: str) -> None:
    with sample_of(domain, place) as first:
        assert first.environment
        assert all(name.startswith(("LAKE_", "AIRFLOW_CONN_")) for name in first.environment)
    with sample_of(domain, place) as second:
        assert second.interval == first.interval


def test_a_domain_without_a_sample_is_a_sentence(place: Place) -> None:
    with pytest.raises(SetupError, match=r"ghost has no demo source.*include/local/ghost/sample\.py"):
        sample_of("ghost", place)
