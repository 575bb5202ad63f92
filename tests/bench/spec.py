"""What a row of the bench is: our path, the bound it is held against, sizes, and the goal."""

import importlib
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Scale(StrEnum):
    """How big the data is. `small` guards every change; `full` has the sizes that the document is about."""

    SMALL = "small"
    FULL = "full"


class Measure(StrEnum):
    """What is compared with the goal, of the medians; less is better."""

    RATIO = "ratio"  # ours over the bound, both without what is fixed
    EXTRA_SECONDS = "extra seconds"  # ours less the bound
    FLAT = "flat"  # ours over ours at the first size
    LINEAR = "linear"  # the same for each row of data


@dataclass(frozen=True)
class Size:
    """One size of a row's data: its label in the table, and the numbers that the row makes its data from."""

    label: str
    number: int = 1
    sites: int = 10


class Clock:
    """Times the block under it, and of that block the calls to some functions.

    Args:
        parts: by label, the function as `module:name` or `module:Class.name`, where it is looked up. Calls inside of
            such a call count once; those of other threads do not.
    """

    def __init__(self, parts: Mapping[str, str] | None = None) -> None:
        self.seconds: float | None = None
        self.parts = dict.fromkeys(parts or {}, 0.0)
        self._functions = dict(parts or {})
        self._running: set[str] = set()
        self._thread = threading.get_ident()

    def wrap(self) -> "Clock":
        """Put a stop-watch around the functions, for the rest of this process."""
        for label, name in self._functions.items():
            owner, last = place_of(name)
            setattr(owner, last, self._watched(label, getattr(owner, last)))
        return self

    def __enter__(self) -> "Clock":
        assert self.seconds is None, "A sample is one block."
        _forget_peak()
        self.parts = dict.fromkeys(self.parts, 0.0)
        self._begun = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._begun

    def _watched(self, label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            if label in self._running or self.seconds is not None or threading.get_ident() != self._thread:
                return function(*arguments, **named)
            self._running.add(label)
            begun = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.parts[label] += time.perf_counter() - begun
                self._running.discard(label)

        return watched


def place_of(name: str) -> tuple[Any, str]:
    """What holds the function `module:name` or `module:Class.name`, and the attribute that it is there."""
    module, _, path = name.partition(":")
    *outer, last = path.split(".")
    owner: Any = importlib.import_module(module)
    for each in outer:
        owner = getattr(owner, each)
    return owner, last


Step = Callable[[Any, Clock], int]
"""Does the work on a world, with what is timed under the clock, and returns how much it did: rows, checks, commits."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        number: its place in the table.
        name: what `--only` takes.
        ours, bound: what each side is, in words.
        goal: the most that the measure may be; none is reported only.
        world: makes the data of a size, given places; picklable, as each sample is a process of its own.
        run: our path, by the very calls that a task makes.
        against: the bound, bare. None where the row is held against itself at its first size.
        fixed: steps whose time is taken off ours; each once a run, like the others.
        parts: what of our time is reported by function; see `Clock`.
        same_work: both sides report the same amount; else the bound's only has to be above zero.
    """

    number: str
    name: str
    ours: str
    bound: str
    goal: float | None
    sizes: Mapping[Scale, tuple[Size, ...]]
    world: Callable[[Any, Size], AbstractContextManager[Any]]
    run: Step
    against: Step | None = None
    measure: Measure = Measure.RATIO
    fixed: Step | None = None
    fixed_words: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[Scale, int] = field(default_factory=lambda: {Scale.SMALL: 3, Scale.FULL: 3})
    same_work: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        held_against_itself = self.measure in (Measure.FLAT, Measure.LINEAR)
        if (self.against is None) != held_against_itself:
            raise ValueError(f"Row {self.name} needs a bound, or to be flat or linear; and not both.")

    def goal_words(self) -> str:
        if self.goal is None:
            return "reported"
        match self.measure:
            case Measure.EXTRA_SECONDS:
                return f"≤ {self.goal:g} s more"
            case Measure.LINEAR:
                return f"≤ {self.goal:g}x a row"
            case _:
                return f"≤ {self.goal:g}x"


def _forget_peak() -> None:
    """Let the kernel count this process's peak of resident memory from now on."""
    try:
        with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123  the kernel's, not a file of ours
            file.write("5")
    except OSError:
        pass  # the peak is then that of the whole process
