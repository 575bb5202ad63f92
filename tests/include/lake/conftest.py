from collections.abc import Iterator
from pathlib import Path

import pytest

from include.connections import Postgres, Storage
from include.lake.attach import Lake
from tests.include.lake.small_lake import SmallLake
from tests.include.release.building import Releasing, close_lake


@pytest.fixture
def releasing(lake: Lake, marts_server: Postgres) -> Iterator[Releasing]:
    yield Releasing(lake, marts_server)
    close_lake()


@pytest.fixture
def small(lake: Lake, marts_server: Postgres) -> Iterator[SmallLake]:
    made = SmallLake(lake, marts_server).make(releases=0)
    yield made
    made.close()


@pytest.fixture
def released(lake: Lake, marts_server: Postgres) -> Iterator[SmallLake]:
    made = SmallLake(lake, marts_server).make(releases=2)
    yield made
    made.close()


@pytest.fixture
def backups(tmp_path: Path) -> Storage:
    """An empty place for backups."""
    return Storage(str(tmp_path / "backup"))
