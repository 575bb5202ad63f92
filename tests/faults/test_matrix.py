"""docs/reliability.md and the fault tests say the same; the framework finds what it is there to find."""

from pathlib import Path

import pytest

from tests.faults import matrix
from tests.faults.judge import difference
from tests.faults.matrix import Outcome, Row, normalised
from tests.faults.watch import Seen


def test_document_has_a_row_for_each_fault_test_and_no_other() -> None:
    assert matrix.listed() == list(matrix.declared().values()), "`make reliability` writes docs/reliability.md anew"


def test_no_two_fault_tests_share_a_row() -> None:
    rows = list(matrix.declared().values())
    assert len(rows) == len(set(rows))


def test_lost_and_doubled_rows_are_no_outcome() -> None:
    clean = {"t": [(1, "a"), (2, "b")]}
    assert difference({"t": [(1, "a")]}, clean).lost == 1
    assert difference({"t": [(1, "a"), (2, "b"), (2, "b")]}, clean).doubled == 1
    assert difference({**clean, "other": [(1,)]}, clean).doubled == 1
    with pytest.raises(AssertionError, match="1 rows lost"):
        Outcome().record(difference({"t": [(1, "a")]}, clean), message="red", mended_by="a retry")
    with pytest.raises(AssertionError, match="no row was compared"):
        Outcome().record(difference({}, {}), message="red", mended_by="a retry")


def test_a_half_or_no_read_at_all_is_no_outcome() -> None:
    with pytest.raises(AssertionError, match="saw a half"):
        Outcome().record(seen=Seen(halves=["postgres: release 1, but m differs"]), message="red", mended_by="a retry")
    with pytest.raises(AssertionError, match="no reader saw a release"):
        Outcome().record(seen=Seen(), message="red", mended_by="a retry")


def test_messages_read_the_same_each_time() -> None:
    message = "File /tmp/pytest-of-x/lake/main/a-1.parquet of manual__2026-01-01__x has 1,234 rows, not 7"
    assert normalised(message) == "File … of … has … rows, not 7"


def test_row_survives_its_file_and_the_table(tmp_path: Path) -> None:
    row = Row("t", "a | b", "at once", 3, 0, 0, 12, 0, ("one", "two"), ("Airflow's retry",))
    matrix.write_row(row, tmp_path)
    assert matrix.read_row(matrix.file_of("t", tmp_path)) == row
    document = tmp_path / "reliability.md"
    document.write_text(matrix.render([row]))
    assert matrix.listed(document) == [("a | b", "at once")]
