"""One file into typed columns: exactly, or an error that names file, line and column. No lake is needed for that."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.errors import SourceError
from include.sources.files.read import ROW, is_whole, read
from include.sources.files.streams import Csv, Format, Stream, date_in, is_unfinished

CSV = Stream(
    "lab",
    "assays",
    "*",
    Format.CSV,
    types={"amount": "DECIMAL(8,2)", "count": "BIGINT", "day": "DATE", "at": "TIMESTAMPTZ", "ok": "BOOLEAN"},
)
HEADER = "name,amount,count,day,at,ok\n"
JSON = dataclasses.replace(CSV, format=Format.JSON_LINES)
PARQUET = dataclasses.replace(CSV, format=Format.PARQUET, types={})
Read = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Read]:
    """The rows that a file is read as."""
    connection = duckdb.connect(":memory:")
    connection.execute("set TimeZone = 'UTC'")

    def rows(stream: Stream, content: str | bytes | Path, held: dict[str, str] | None = None) -> list[dict[str, Any]]:
        path = content if isinstance(content, Path) else tmp_path / "file"
        if not isinstance(content, Path):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        part = read(connection, stream, path, "File f of drop bench", held or {})
        found = connection.execute(f"from {part.relation} order by {ROW}").to_arrow_table().to_pylist()
        assert set(part.kinds) | {ROW} == set(found[0]) if found else True
        return found

    yield rows
    connection.close()


def parquet(path: Path, select: str) -> Path:
    duckdb.sql(f"copy ({select}) to '{path}' (format parquet)")
    return path


def test_cells_of_csv_are_typed_exactly(rows: Read) -> None:
    found = rows(
        CSV,
        "\ufeff"
        + HEADER
        + '"Müller, ""A""\nB",9.99,7,2026-11-01,2026-11-01T02:00:00+02:00,true\n'
        + "x, 123456.70 ,-1,,2026-11-01 12:00:00,\n",
    )
    assert found == [
        {
            ROW: 1,
            "name": 'Müller, "A"\nB',
            "amount": Decimal("9.99"),
            "count": 7,
            "day": date(2026, 11, 1),
            "at": datetime(2026, 11, 1, tzinfo=UTC),
            "ok": True,
        },
        {
            ROW: 2,
            "name": "x",
            "amount": Decimal("123456.70"),
            "count": -1,
            "day": None,
            "at": datetime(2026, 11, 1, 12, tzinfo=UTC),
            "ok": None,
        },
    ]


def test_csv_as_it_is_written_elsewhere(rows: Read) -> None:
    german = Csv(delimiter=";", encoding="latin-1", decimal=",", times={"day": "%d.%m.%Y"})
    stream = dataclasses.replace(CSV, csv=german, types={"amount": "DECIMAL(8,2)", "day": "DATE"})
    content = "Größe (mm);amount;day\nü;1234,50;24.12.2026\n".encode("latin-1")
    (found,) = rows(stream, content)
    assert (found["amount"], found["day"]) == (Decimal("1234.50"), date(2026, 12, 24))
    assert "ü" in found.values()
    with pytest.raises(SourceError, match=r"line 2 and|column amount is not DECIMAL\(8,2\) at line 2"):
        rows(stream, "x;amount;day\na;1.234,50;24.12.2026\n")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("x,9.999,,,,", "column amount is not DECIMAL(8,2) at line 5"),
        ("x,1234567.00,,,,", "column amount is not DECIMAL(8,2) at line 5"),
        ("x,n/a,,,,", "column amount is not DECIMAL(8,2) at line 5"),
        ("x,,1.5,,,", "column count is not BIGINT at line 5"),
        ("x,,,2026-02-30,,", "column day is not DATE at line 5"),
        ("x,,,2026-11-01 12:00,,", "column day is not DATE at line 5"),
        ("x,,,,noon,", "column at is not TIMESTAMP WITH TIME ZONE at line 5"),
        ("x,,,,,perhaps", "column ok is not BOOLEAN at line 5"),
        ("x,,,", "line 5 has 4 cells, expected 6"),
        ("x,,,,,,,", "line 5 has 8 cells, expected 6"),
        ('"x,,,,,', "the file ends within a quote"),
    ],
)
def test_a_bad_cell_names_file_line_and_column(rows: Read, cells: str, said: str) -> None:
    # The second row holds a line break, so that its line is not its row.
    with pytest.raises(SourceError) as failed:
        rows(CSV, f'{HEADER}ok,1.00,1,,,\n"two\nlines",2.00,2,,,\n{cells}\n')
    text = str(failed.value)
    assert said in text
    assert text.startswith("File f of drop bench")
    assert "Nothing of this drop was loaded" in text
    assert not any(cell in text for cell in ("9.999", "n/a", "perhaps"))


def test_cells_of_another_type_land_as_text_where_that_is_said(rows: Read) -> None:
    stream = dataclasses.replace(CSV, variants=frozenset({"amount"}))
    found = rows(stream, HEADER + "a,1.00,,,,\nb,<LOD,,,,\n")
    assert [(row["amount"], row["amount__v_text"]) for row in found] == [(Decimal("1.00"), None), (None, "<LOD")]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("name,amount,count,day,at", "has no column ok, which stream assays declares"),
        ("name,amount,count,day,at,ok,Name", "has two columns 'name'"),
        ("name,amount,count,day,at,ok,", "has a column without a name"),
    ],
)
def test_a_wrong_header_is_told(rows: Read, header: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        rows(CSV, header + "\n")


def test_a_key_that_the_file_lacks_is_told(rows: Read) -> None:
    with pytest.raises(SourceError, match="has no column batch, by which stream assays finds its rows"):
        rows(dataclasses.replace(CSV, key=("batch",)), HEADER)


def test_json_lines_are_exact_and_a_bad_value_names_its_line(rows: Read) -> None:
    lines = (
        '{"amount": 123456.70, "big": 12345678901234567.123456789, "at": "2026-11-01T01:00:00+01:00", "o": {"x": 1.10}}'
        '\n\n{"amount": "9.90", "count": 3, "ok": true, "day": "2026-11-01"}\n'
    )
    first, second = rows(JSON, lines)
    assert (first["amount"], first["big"], first["o"]) == (
        Decimal("123456.70"),
        Decimal("12345678901234567.123456789"),
        '{"x":1.10}',
    )
    assert first["at"] == datetime(2026, 11, 1, tzinfo=UTC)
    assert (first[ROW], second[ROW], second["count"], second["day"]) == (1, 3, 3, date(2026, 11, 1))
    with pytest.raises(SourceError, match=r"field 'amount' is a number that it cannot hold exactly \(line 3\)"):
        rows(JSON, '{"amount": 1}\n\n{"amount": 1.001}\n')
    with pytest.raises(SourceError, match="no JSON object at line 2"):
        rows(JSON, '{"amount": 1}\n{"amount": 1.0')


def test_parquet_keeps_its_types(rows: Read, tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "p",
        "select 1::integer as n, 1.10::decimal(5,2) as d, 0.5::float as f, 'x' as t, {'a': [1]} as s, "
        "'2026-11-01 01:00:00+01'::timestamptz as at, '2026-11-01'::timestamp_ns as local, true as ok",
    )
    (found,) = rows(PARQUET, path)
    assert found == {
        ROW: 1,
        "n": 1,
        "d": Decimal("1.10"),
        "f": 0.5,
        "t": "x",
        "s": '{"a":[1]}',
        "at": datetime(2026, 11, 1, tzinfo=UTC),
        "local": datetime(2026, 11, 1),  # noqa: DTZ001
        "ok": True,
    }
    (found,) = rows(dataclasses.replace(PARQUET, types={"f": "DECIMAL(8,2)"}), path)
    assert found["f"] == Decimal("0.50")
    with pytest.raises(SourceError, match="column t is not BIGINT at row 1"):
        rows(dataclasses.replace(PARQUET, types={"t": "BIGINT"}), path)


def test_half_a_file_is_not_whole(tmp_path: Path) -> None:
    path = parquet(tmp_path / "p", "select range as n from range(1000)")
    assert is_whole(path, Format.PARQUET)
    content = path.read_bytes()
    for part in (b"", content[:3], content[: len(content) // 2], content[:-1]):
        path.write_bytes(part)
        assert not is_whole(path, Format.PARQUET)
    path.write_bytes(b"")
    assert not is_whole(path, Format.CSV)


@pytest.mark.parametrize(
    ("path", "day"),
    [
        ("run_2026-11-01.csv", date(2026, 11, 1)),
        ("2026-10-31/run_20261101T120000.csv", date(2026, 11, 1)),
        ("run_20261101120000.csv", date(2026, 11, 1)),
        ("2026_11_01/a.csv", date(2026, 11, 1)),
        ("batch_12026110155.csv", None),
        ("run_2026-02-30.csv", None),
        ("run.csv", None),
    ],
)
def test_the_date_in_a_name(path: str, day: date | None) -> None:
    assert date_in(path) == day


def test_names_say_what_is_unfinished_and_what_is_taken() -> None:
    assert all(map(is_unfinished, ("a.csv.part", "x/b.tmp", ".hidden.csv", "c.csv~", "_SUCCESS")))
    assert not is_unfinished("x/run.csv")
    stream = dataclasses.replace(CSV, files="in/**/*.csv")
    assert [stream.takes(path) for path in ("in/a.csv", "in/x/y/a.csv", "in/a.txt", "a.csv")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"files": "/data/*.csv"}, "expected a pattern below the drop"),
        ({"day": "name", "types": {"name": "VARCHAR"}}, "must be DATE or TIMESTAMPTZ"),
        ({"variants": frozenset({"name"})}, "accepts variants of name, which it gives no type"),
        ({"variants": frozenset({"amount"}), "key": ("amount",)}, "which may have no variants"),
        ({"variants": frozenset({"amount"}), "format": Format.PARQUET}, "which only CSV may have"),
        ({"types": {"Amount": "DOUBLE"}}, "declares column 'Amount'"),
    ],
)
def test_a_stream_that_cannot_be_is_refused_where_it_is_written(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(CSV, **changes)
