"""docs/performance.md, written from recorded results."""

from collections.abc import Iterable, Sequence

from include.settings import ROOT
from tests.bench.results import RECORDED, Run
from tests.bench.runner import Result
from tests.bench.spec import Measure, Row, Scale

DOCUMENT = ROOT / "docs" / "performance.md"

INTRODUCTION = """\
# Performance

Written by `make bench SCALE=full RECORD=yes`. Each row compares our path, by the very calls that a task makes, with a
bound on the same data in the same run on the same machine, so that a figure means something on another machine too.

- A sample is a process of its own, forked from one that has imported what Airflow's scheduler has imported when it
  forks a task ([0011](decisions/0011-preloaded-scheduler.md)). Ours and the bound take turns; figures are medians.
- **Result**: ours without what is fixed, over the bound. "s more" is ours less the bound. A row that is held against
  itself compares with its first size, for each row of data where it says "a row".
- **Peak**: resident memory of the processes that do our work, at its highest, libraries (about 0.4 GB) included. Under
  the scheduler it is the sum over Airflow's processes and tasks, in which pages that they share count for each.
- **Where the time goes**: seconds of ours by part, of the median sample. What is left is everything else.

`make bench`, part of what every change must pass, runs the small scale, and fails where a figure is worse than the
recorded one by half, three times.
`python -m tests.bench --list` names the rows, `ONLY=` chooses some; a run that was stopped goes on where it was.
"""
HEADER = (
    "#",
    "Ours",
    "The bound",
    "Size",
    "Ours, s",
    "Bound, s",
    "Fixed, s",
    "Result",
    "Goal",
    "",
    "Peak",
    "Where the time goes",
)


def write(rows: Sequence[Row]) -> None:
    """The document from what is recorded of each scale."""
    DOCUMENT.write_text(
        render(rows, [run for scale in (Scale.FULL, Scale.SMALL) if (run := Run.read(RECORDED, scale))])
    )


def render(rows: Sequence[Row], runs: Iterable[Run]) -> str:
    """The document's text; a row that was not measured at a scale says so.

    Raises:
        ValueError: there is no run.
    """
    parts = [INTRODUCTION]
    for run in runs:
        parts.append(f"## {run.scale.capitalize()} scale\n\n{_machine(run)}\n")
        lines = [_line(HEADER), _line(["---"] * len(HEADER)).replace(" ", "")]
        for row in rows:
            for size in row.sizes.get(run.scale, ()):
                result = run.results.get(f"{row.name}: {size.label}")
                lines.append(_line(cells(row, result) if result else _missing(row, size.label)))
        parts.append("\n".join(lines) + "\n")
        if fixed := [f"- Fixed in {row.name}: {row.fixed_words}." for row in rows if row.fixed_words]:
            parts.append("\n".join(dict.fromkeys(fixed)) + "\n")
    if len(parts) == 1:
        raise ValueError(f"Nothing is recorded in {RECORDED}; run `make bench RECORD=yes`.")
    return "\n".join(parts)


def cells(row: Row, result: Result) -> tuple[str, ...]:
    """One line of the table."""
    own = result.ours_seconds
    shares = [f"{label} {seconds:.2g} s" for label, seconds in result.parts.items() if seconds >= 0.01 * own]
    return (
        row.number,
        f"{row.ours} (`{row.name}`)",
        row.bound,
        result.size,
        _seconds(own),
        _seconds(result.bound_seconds),
        _seconds(result.fixed_seconds) if result.fixed_seconds else "",
        shown(row, result),
        row.goal_words(),
        {None: "", True: "✔", False: "✘"}[result.met],
        f"{result.peak_mb / 1024:.2f} GB",
        "; ".join(shares) + (f". {row.note[0].upper()}{row.note[1:]}." if row.note else ""),
    )


def shown(row: Row, result: Result) -> str:
    match row.measure:
        case Measure.EXTRA_SECONDS:
            return f"{result.value:+.2f} s"
        case Measure.LINEAR:
            return f"{result.value:.2f}x a row"
        case _:
            return f"{result.value:.2f}x"


def _missing(row: Row, size: str) -> tuple[str, ...]:
    return (
        row.number,
        f"{row.ours} (`{row.name}`)",
        row.bound,
        size,
        "",
        "",
        "",
        "not measured",
        row.goal_words(),
        "",
        "",
        "",
    )


def _machine(run: Run) -> str:
    named = [f"{name} {value}" for name, value in run.machine.items() if name not in ("machine", "system")]
    commits = sorted({result.commit for result in run.results.values()})
    busy = max((result.load for result in run.results.values()), default=0.0)
    return (
        f"{run.machine['machine']}, {run.machine['system']}; {', '.join(named)}. "
        f"Code {', '.join(commits)}. Load at most {busy:.1f} while measuring."
    )


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
