from collections.abc import Iterator

import pytest

from include.connections import Postgres
from include.lake.attach import Lake
from tests.include.release.building import Releasing, lake_connection


@pytest.fixture(autouse=True, scope="session")
def _unsigned_extensions() -> Iterator[None]:
    """Checking the extensions' signatures is three quarters of the time that opening a lake takes."""
    config = Lake.config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lake, "config", lambda self: config(self) | {"allow_unsigned_extensions": True})
        yield


@pytest.fixture
def releasing(lake: Lake, marts_server: Postgres) -> Iterator[Releasing]:
    yield Releasing(lake, marts_server)
    lake_connection(lake).close()
    lake_connection.cache_clear()
