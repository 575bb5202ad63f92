from collections.abc import Iterator
from pathlib import Path

import pytest

from include.connections import Postgres, Storage
from include.lake.attach import Lake
from tests.include.release.building import Releasing, lake_connection


@pytest.fixture
def releasing(lake: Lake, marts_server: Postgres) -> Iterator[Releasing]:
    yield Releasing(lake, marts_server)
    close_lake()


@pytest.fixture
def backups(tmp_path: Path) -> Storage:
    """An empty place for backups."""
    return Storage(str(tmp_path / "backup"))


def close_lake() -> None:
    """Close the connection that `building` keeps open, as when the lake is lost."""
    if lake_connection.cache_info().currsize:
        lake_connection.cache_clear()
