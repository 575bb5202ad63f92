from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from include.connections import Postgres, Storage
from include.local.nightscout import NightscoutSite, serve
from include.local.postgres import LocalPostgres
from tests.conftest import fresh_database, lake_in
from tests.pipeline.flow import Flow, SampledFlow
from tests.sampled import sampled

MakeFlow = Callable[..., Flow]
MakeSampledFlow = Callable[[str], SampledFlow]


@contextmanager
def flow_maker(server: LocalPostgres, extensions: Path, folder: Path) -> Iterator[MakeFlow]:
    """Gives what `make_flow` is; its flows live until the block ends."""
    with ExitStack() as stack:
        made: list[Flow] = []

        def make(sites: Iterable[NightscoutSite], storage: Storage | None = None) -> Flow:
            home = folder / f"flow{len(made)}"
            home.mkdir()
            catalog: Postgres = stack.enter_context(fresh_database(server, "lake"))
            marts: Postgres = stack.enter_context(fresh_database(server, "marts_publisher"))
            lake = lake_in(home, catalog, extensions, storage)
            reader = server.as_role("marts_reader", marts.database)
            flow = Flow(lake, marts, home, stack.enter_context(serve(sites)), reader)
            made.append(flow)
            return flow

        yield make


@pytest.fixture
def make_flow(server: LocalPostgres, extensions: Path, manifest: Path, tmp_path: Path) -> Iterator[MakeFlow]:
    """`make_flow(sites, storage=…)` serves sites over HTTP and gives a flow with a lake and marts of its own."""
    with flow_maker(server, extensions, tmp_path) as make:
        yield make


@pytest.fixture
def sampled_flow(server: LocalPostgres, extensions: Path, manifest: Path, tmp_path: Path) -> Iterator[MakeSampledFlow]:
    """`sampled_flow(domain)`: a lake and marts of its own, and the domain's demo source, which answers meanwhile."""
    with ExitStack() as stack:

        def make(domain: str) -> SampledFlow:
            sample = stack.enter_context(sampled(domain, server, extensions, tmp_path / "source"))
            catalog = stack.enter_context(fresh_database(server, "lake"))
            marts = stack.enter_context(fresh_database(server, "marts_publisher"))
            lake = lake_in(tmp_path, catalog, extensions)
            return SampledFlow(domain, sample, lake, marts, tmp_path, server.as_role("marts_reader", marts.database))

        yield make
