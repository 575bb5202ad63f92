"""The bench itself: its medians, measures and guard, and that it cannot pass on nothing."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench import document, results
from tests.bench.__main__ import chosen
from tests.bench.results import Run, words, worse
from tests.bench.rows import ROWS
from tests.bench.runner import BenchError, Result, Sample, measure, result, value
from tests.bench.sleeping import broken, idle, memory, nothing, quick, slow
from tests.bench.spec import Measure, Row, Scale, Size, place_of

SIZE = Size("some rows", 10)


ROW = Row(
    number="0",
    name="sleep",
    ours="sleep for long",
    bound="sleep for short",
    goal=2.0,
    sizes={Scale.SMALL: (SIZE,)},
    world=nothing,
    run=slow,
    against=quick,
    parts={"wait": "tests.bench.sleeping:_wait"},
    runs={Scale.SMALL: 3, Scale.FULL: 3},
)


def result_of(figure: float, *, row: str = "sleep", commit: str = "c") -> Result:
    return Result(row, SIZE.label, 10, figure, 1.0, 0.0, figure, 2.0, 512.0, {"wait": 0.5}, 3, commit)


def test_result_is_the_ratio_of_medians_without_what_is_fixed() -> None:
    ours = [Sample(seconds, 10, 100 * seconds) for seconds in (9.0, 3.0, 4.0)]
    bound = [Sample(seconds, 10) for seconds in (1.0, 1.5, 30.0)]
    found = result(ROW, SIZE, ours, bound, [Sample(1.0, 1)])
    assert (found.ours_seconds, found.bound_seconds, found.fixed_seconds, found.value) == (4.0, 1.5, 1.0, 2.0)
    assert found.peak_mb == 900.0
    assert found.met is True


@pytest.mark.parametrize(
    ("measure", "expected"),
    [(Measure.RATIO, 4.0), (Measure.FLAT, 4.0), (Measure.EXTRA_SECONDS, 6.0), (Measure.LINEAR, 0.4)],
)
def test_each_measure_compares_ours_with_the_bound(measure: Measure, expected: float) -> None:
    assert value(measure, 8.0, 2.0, 1000, 100) == pytest.approx(expected)


def test_a_row_is_measured_in_processes_of_its_own_with_parts_and_the_peak_of_memory() -> None:
    (found,) = measure(ROW, Scale.SMALL, None, lambda _: None, runs=1)
    assert (found.work, found.runs) == (10, 1)
    assert found.ours_seconds >= 0.3 and found.bound_seconds >= 0.1
    assert 0.2 <= found.parts["wait"] <= found.ours_seconds
    (heavy,) = measure(replace(ROW, run=memory, parts={}), Scale.SMALL, None, lambda _: None, runs=1)
    assert heavy.peak_mb >= found.peak_mb + 200


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (replace(ROW, run=idle, parts={}), "did nothing"),
        (replace(ROW, against=idle), "did nothing"),
        (replace(ROW, run=broken), "the lake is dry"),
    ],
)
def test_a_sample_that_fails_or_does_nothing_is_no_result(row: Row, says: str) -> None:
    with pytest.raises(BenchError, match=says):
        measure(row, Scale.SMALL, None, lambda _: None, runs=1)


def test_a_row_needs_a_bound_or_itself() -> None:
    with pytest.raises(ValueError, match="needs a bound"):
        replace(ROW, against=None)
    with pytest.raises(ValueError, match="needs a bound"):
        replace(ROW, measure=Measure.FLAT)


def test_a_flat_row_is_held_against_its_first_size() -> None:
    sizes = {Scale.SMALL: (SIZE, Size("more rows", 20))}
    row = replace(ROW, run=quick, against=None, measure=Measure.LINEAR, sizes=sizes, parts={})
    first, second = measure(row, Scale.SMALL, None, lambda _: None, runs=1)
    assert first.value == 1.0
    assert second.value == pytest.approx(0.5, rel=0.5)
    assert second.work == 20


def test_worse_by_half_fails_and_names_the_row() -> None:
    recorded = {result_of(2.0).key: result_of(2.0)}
    rows = {"sleep": ROW}
    assert worse([result_of(2.9)], recorded, rows) == []
    (slower,) = worse([result_of(3.1)], recorded, rows)
    said = words(slower, recorded[slower.key], ROW)
    assert said.startswith("sleep: some rows: 3.10, recorded is 2.00 and at most 3.00 passes.")
    assert worse([result_of(99.0)], {}, rows) == []


def test_small_differences_of_seconds_are_not_worse() -> None:
    rows = {"sleep": replace(ROW, measure=Measure.EXTRA_SECONDS)}
    recorded = {result_of(0.01).key: result_of(0.01)}
    assert worse([result_of(0.15)], recorded, rows) == []
    assert len(worse([result_of(0.4)], recorded, rows)) == 1


@pytest.mark.parametrize(
    ("figures", "expected"),
    [((9.0, 2.5), []), ((9.0, 8.0, 7.0, 2.5), ["sleep: some rows: 7.00, recorded is 2.00 and at most 3.00 passes."])],
)
def test_a_figure_is_worse_if_it_is_so_three_times(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, figures: tuple[float, ...], expected: list[str]
) -> None:
    Run(Scale.SMALL, {}, {result_of(2.0).key: result_of(2.0)}).write(tmp_path)
    monkeypatch.setattr(bench, "RECORDED", tmp_path)
    measured = iter(figures)

    def measure(due: list[Row], run: Run, runs: int, *, again: bool) -> list[str]:
        run.add([result_of(next(measured))], if_better=again)
        return []

    monkeypatch.setattr(bench, "_measure", measure)
    run = Run(Scale.SMALL, {})
    measure([ROW], run, 0, again=False)
    assert [said[: len(start)] for said, start in zip(bench._guard([ROW], run, 0), expected, strict=True)] == expected


def test_a_run_goes_on_with_what_this_code_has_not_measured(tmp_path: Path) -> None:
    run = Run(Scale.SMALL, {"machine": "m"})
    run.add([result_of(2.0, commit="now")])
    run.write(tmp_path)
    again = Run.read(tmp_path, Scale.SMALL)
    assert again is not None and again.results == run.results
    assert again.has(ROW, "now")
    assert not again.has(ROW, "later")
    assert not again.has(replace(ROW, sizes={Scale.SMALL: (SIZE, Size("another"))}), "now")
    assert Run.read(tmp_path, Scale.FULL) is None


def test_rows_are_chosen_by_name_or_number_and_an_unknown_one_is_refused() -> None:
    assert [row.name for row in chosen(ROWS, "publish, 13")] == ["publish", "fresh_clone"]
    assert len(chosen(ROWS, "")) == len(ROWS)
    with pytest.raises(SystemExit, match="no row nonsense"):
        chosen(ROWS, "nonsense")


def test_every_row_has_a_name_of_its_own_and_a_size_at_full_scale() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert all(row.sizes.get(Scale.FULL) for row in ROWS)


def test_the_functions_that_rows_time_are_there() -> None:
    timed = {name for row in ROWS for name in row.parts.values()}
    assert timed
    assert [name for name in sorted(timed) if not callable(getattr(*place_of(name), None))] == []


def test_the_document_shows_every_row_and_says_what_was_not_measured() -> None:
    machine = {"machine": "two cores", "system": "Linux", "duckdb": "1.5.5"}
    text = document.render([ROW], [Run(Scale.SMALL, machine)])
    assert "not measured" in text
    run = Run(Scale.SMALL, machine, {result_of(2.0).key: result_of(2.0)})
    text = document.render([ROW], [run])
    assert "two cores" in text and "duckdb 1.5.5" in text
    (line,) = [line for line in text.splitlines() if "`sleep`" in line]
    assert re.search(r"\| 2\.00 \| 1\.00 \|  \| 2\.00x \| ≤ 2x \| ✔ \| 0\.50 GB \| wait 0\.5 s \|$", line)
    with pytest.raises(ValueError, match="Nothing is recorded"):
        document.render([ROW], [])


def test_the_document_is_what_is_recorded() -> None:
    runs = [run for scale in (Scale.FULL, Scale.SMALL) if (run := Run.read(results.RECORDED, scale))]
    assert document.DOCUMENT.read_text() == document.render(ROWS, runs)
