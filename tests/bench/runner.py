"""Runs a row: a fresh process for each sample, ours and the bound in turn, medians, and the peak of memory."""

import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.bench.spec import Clock, Measure, Row, Scale, Size, Step

SAMPLE_SECONDS = 7200
LOOK_SECONDS = 0.25

context = multiprocessing.get_context("forkserver")

Report = Callable[[str], None]


class BenchError(Exception):
    """A sample failed, or did nothing."""


@dataclass(frozen=True)
class Sample:
    """What one process measured.

    Attributes:
        work: how much was done, in the row's unit.
        peak_mb: resident memory of the process and its children at its highest, libraries included.
        parts: seconds by part, of those that add up to `seconds` at most.
    """

    seconds: float
    work: int
    peak_mb: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One line of the table: medians of a row at a size."""

    row: str
    size: str
    work: int
    ours_seconds: float
    bound_seconds: float
    fixed_seconds: float
    value: float
    goal: float | None
    peak_mb: float
    parts: Mapping[str, float]
    runs: int
    commit: str = ""
    load: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.row}: {self.size}"

    @property
    def met(self) -> bool | None:
        return None if self.goal is None else self.value <= self.goal

    def as_dict(self) -> dict[str, Any]:
        return {name: _rounded(value) for name, value in asdict(self).items()}


def preload() -> None:
    """Let processes from now on be forked from one that has imported what tasks need; before the first of them."""
    context.set_forkserver_preload(["tests.bench.preload"])


def measure(row: Row, scale: Scale, places: Any, report: Report, *, runs: int | None = None) -> list[Result]:
    """Every size of a row.

    Raises:
        BenchError: a sample failed or did no work, or the two sides did not do the same.
    """
    rounds = runs or row.runs[scale]
    if row.against is None:
        return _series(row, row.sizes[scale], places, report, rounds)
    return [_pair(row, size, places, report, rounds) for size in row.sizes[scale]]


def _pair(row: Row, size: Size, places: Any, report: Report, rounds: int) -> Result:
    assert row.against is not None
    report(f"{row.name}, {size.label}: making the data")
    ours: list[Sample] = []
    bound: list[Sample] = []
    fixed: list[Sample] = []
    with row.world(places, size) as world:
        for number in range(1, rounds + 1):
            for name, step, samples in (
                ("ours", row.run, ours),
                ("bound", row.against, bound),
                ("fixed", row.fixed, fixed),
            ):
                if step is None:
                    continue
                report(f"{row.name}, {size.label}: {name}, {number} of {rounds}")
                samples.append(sample(step, world, row.parts if name == "ours" else {}))
    _require_work(row, size, ours, bound)
    return result(row, size, ours, bound, fixed)


def _series(row: Row, sizes: Sequence[Size], places: Any, report: Report, rounds: int) -> list[Result]:
    """A row that is held against itself at its first size."""
    taken: list[list[Sample]] = [[] for _ in sizes]
    with ExitStack() as stack:
        worlds = []
        for size in sizes:
            report(f"{row.name}, {size.label}: making the data")
            worlds.append(stack.enter_context(row.world(places, size)))
        for number in range(1, rounds + 1):
            for size, world, samples in zip(sizes, worlds, taken, strict=True):
                report(f"{row.name}, {size.label}: {number} of {rounds}")
                samples.append(sample(row.run, world, row.parts))
    for size, samples in zip(sizes, taken, strict=True):
        _require_work(row, size, samples, samples)
    return [result(row, size, samples, taken[0], []) for size, samples in zip(sizes, taken, strict=True)]


def result(row: Row, size: Size, ours: Sequence[Sample], bound: Sequence[Sample], fixed: Sequence[Sample]) -> Result:
    """Medians of samples, and what they make of the row's measure."""
    from tests.bench import machine

    seconds, against = _median(ours), _median(bound)
    start = _median(fixed) if fixed else 0.0
    work, first = ours[0].work, bound[0].work
    middle = sorted(ours, key=lambda each: each.seconds)[len(ours) // 2]
    return Result(
        row=row.name,
        size=size.label,
        work=work,
        ours_seconds=seconds,
        bound_seconds=against,
        fixed_seconds=start,
        value=value(row.measure, seconds - start, against, work, first),
        goal=row.goal,
        peak_mb=max(each.peak_mb for each in ours),
        parts=middle.parts,
        runs=len(ours),
        commit=machine.code(),
        load=machine.load(),
    )


def value(measure: Measure, ours: float, bound: float, work: int = 1, bound_work: int = 1) -> float:
    """What is compared with the goal."""
    match measure:
        case Measure.EXTRA_SECONDS:
            return ours - bound
        case Measure.LINEAR:
            return (ours / work) / (bound / bound_work)
        case _:
            return ours / bound


def sample(step: Step, world: Any, parts: Mapping[str, str]) -> Sample:
    """One step in a process of its own, forked from one that has imported what tasks need.

    Raises:
        BenchError: it failed; the message holds its traceback.
    """
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, step, world, dict(parts)))
    process.start()
    sender.close()
    with _Watch([process.pid, *getattr(world, "pids", ())]) as watch:
        answer = receiver.recv() if receiver.poll(SAMPLE_SECONDS) else f"no answer within {SAMPLE_SECONDS} s"
    process.join(10)
    if process.is_alive():
        process.terminate()
    if isinstance(answer, str):
        raise BenchError(answer)
    seconds, work, peak, found = answer
    return Sample(seconds, work, max(peak, watch.peak_mb), found)


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function, run in such a process: for data that needs heavy libraries.

    Raises:
        BenchError: it failed.
    """
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        succeeded, answer = receiver.recv()
    except EOFError:
        succeeded, answer = False, "the process ended without an answer"
    process.join()
    if not succeeded:
        raise BenchError(answer)
    return answer


def _child(sender: Any, step: Step, world: Any, parts: dict[str, str]) -> None:
    with _said() as said:
        try:
            clock = Clock(parts).wrap()
            work = step(world, clock)
            if clock.seconds is None:
                raise BenchError("The step was not timed.")
            sender.send((clock.seconds, work, _own_peak_mb(), dict(clock.parts)))
        except BaseException:  # noqa: BLE001  the parent raises it
            with suppress(OSError):
                sender.send(f"{traceback.format_exc()}{said()}")
        sender.close()
        os._exit(0)  # a database that is still open in a thread must not keep the process


def _call(sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with _said() as said:
        try:
            sender.send((True, function(*arguments)))
        except BaseException:  # noqa: BLE001  the parent raises it
            sender.send((False, f"{traceback.format_exc()}{said()}"))
        sender.close()
        os._exit(0)


@contextmanager
def _said() -> Iterator[Callable[[], str]]:
    """What this process and its libraries print, kept from the terminal; gives the end of it."""
    with tempfile.TemporaryFile("w+") as file:
        sys.stdout.flush()
        for number in (1, 2):
            os.dup2(file.fileno(), number)

        def end() -> str:
            sys.stdout.flush()
            file.seek(0)
            return file.read()[-2000:]

        yield end


def _own_peak_mb() -> float:
    """This process's highest resident memory since its clock began; 0 where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


class _Watch:
    """Looks at processes and what they started, for the sum of their resident memory at its highest."""

    def __init__(self, roots: Iterable[int | None]) -> None:
        self.peak_mb = 0.0
        self._roots = [psutil.Process(pid) for pid in roots if pid and psutil.pid_exists(pid)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            total = 0
            for root in self._roots:
                with suppress(psutil.Error):
                    for process in [root, *root.children(recursive=True)]:
                        with suppress(psutil.Error):
                            total += process.memory_info().rss
            self.peak_mb = max(self.peak_mb, total / 1024**2)
            time.sleep(0)


def _require_work(row: Row, size: Size, ours: Sequence[Sample], bound: Sequence[Sample]) -> None:
    amounts = {each.work for each in ours}
    others = {each.work for each in bound}
    if min(amounts | others, default=0) < 1:
        raise BenchError(f"{row.name}, {size.label}: a sample did nothing (ours {amounts}, the bound {others}).")
    if len(amounts) > 1 or (row.same_work and amounts != others):
        raise BenchError(
            f"{row.name}, {size.label}: ours did {sorted(amounts)} and the bound {sorted(others)}; expected the same "
            "amount each time."
        )


def _median(samples: Sequence[Sample]) -> float:
    return statistics.median(each.seconds for each in samples)


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return round(value, 4) if isinstance(value, float) else value
