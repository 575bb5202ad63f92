import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults import matrix
from tests.faults.matrix import Outcome
from tests.faults.world import World
from tests.pipeline.conftest import make_flow

__all__ = ["make_flow", "outcome"]

passed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    if call.when == "call":
        item.stash[passed] = report.passed
    return report


@pytest.fixture(scope="session")
def world(scratch: Path, extensions: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(scratch / "world" / "pg", tmp_path_factory.mktemp("world"), extensions, stack)


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Iterator[Outcome]:
    """The row of this test, written if it passes; a row of an earlier run goes in any case."""
    marker = request.node.get_closest_marker("fault")
    assert marker is not None, "a test that records an outcome is marked fault(fault, at)"
    measured = Outcome()
    test = re.sub(r"@[^@\]]+$", "", request.node.nodeid)  # xdist puts the test's group behind its name
    matrix.file_of(test).unlink(missing_ok=True)
    yield measured
    if request.node.stash.get(passed, False):
        matrix.write_row(measured.row(test, *marker.args))
