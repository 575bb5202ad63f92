"""Steps for the tests of the runner: they import next to nothing, as each runs in a process of its own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.bench.spec import Clock, Size


@contextmanager
def nothing(places: Any, size: Size) -> Iterator[int]:
    yield size.number


def slow(world: int, clock: Clock) -> int:
    with clock:
        _wait(0.2)
        time.sleep(0.1)
    return world


def quick(world: int, clock: Clock) -> int:
    with clock:
        time.sleep(0.1)
    return world


def idle(world: int, clock: Clock) -> int:
    with clock:
        pass
    return 0


def broken(world: int, clock: Clock) -> int:
    raise LookupError("the lake is dry")


def memory(world: int, clock: Clock) -> int:
    with clock:
        held = bytearray(300 * 1024**2)
        held[:: 1024 * 4] = b"1" * len(held[:: 1024 * 4])
    return world


def _wait(seconds: float) -> None:
    time.sleep(seconds)
