"""One file as a temporary table of typed columns: CSV and Parquet by DuckDB's readers, JSON lines as JSON is read."""

import csv
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from include.errors import SourceError, first_line
from include.lake.attach import identifier, literal, one_row
from include.sources.errors import SchemaError
from include.sources.files.streams import FILE_DATE, Csv, Format, Stream
from include.sources.json_records import Columns, Record, column_of, parse
from include.sources.keyed import declared_in
from include.sources.types import UTC_TIME, canonical, decimal_of

ROW = "file_row"
VARIANT = "__v_text"
RECORDS_AT_ONCE = 20_000
MAGIC = b"PAR1"
CELLS_TOLD = 3
PYTHON_ENCODING = {"utf-8": "utf-8-sig", "latin-1": "latin-1", "utf-16": "utf-16"}

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Part:
    """A file's rows: a temporary table with ROW, then columns of these types."""

    relation: str
    kinds: Mapping[str, str]


def is_whole(path: Path, format: Format) -> bool:
    """Whether a file can be one that was written to its end."""
    size = path.stat().st_size
    if format is not Format.PARQUET:
        return size > 0  # even no rows have a header, and JSON lines without one are no drop
    if size < 2 * len(MAGIC):
        return False
    with path.open("rb") as file:
        head = file.read(len(MAGIC))
        file.seek(-len(MAGIC), 2)
        return head == file.read() == MAGIC


def read(
    connection: duckdb.DuckDBPyConnection, stream: Stream, path: Path, where: str, held: Mapping[str, str]
) -> Part:
    """Read a file.

    Args:
        path: a copy of the file that nobody writes to.
        where: site and name of the file, for errors.
        held: types of the columns that bronze has.

    Raises:
        SourceError: it is not what the stream says, or a cell is not of its type; names line and column.
        SchemaError: it lacks a column, or a column has another type than bronze holds.
    """
    reader = {Format.CSV: _Csv, Format.JSON_LINES: _JsonLines, Format.PARQUET: _Parquet}[stream.format]
    part = reader(connection, stream, path, where, held).read()
    if missing := sorted({*stream.key, stream.day} - set(part.kinds) - {FILE_DATE}):
        raise SchemaError(
            f"{where} has no column {', '.join(missing)}, by which stream {stream.name} finds its rows. Nothing "
            f"of this drop was loaded. Correct the stream in {declared_in(stream)}, or have the file written anew."
        )
    return part


class _Reader:
    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        stream: Stream,
        path: Path,
        where: str,
        held: Mapping[str, str],
    ) -> None:
        self._connection, self._stream, self._path, self._where, self._held = connection, stream, path, where, held
        self._relation = f"file_{next(_numbers)}"

    def _kind(self, column: str, natural: str) -> str:
        return self._stream.types.get(column) or self._held.get(column) or natural

    def _columns(self, fields: list[str]) -> dict[str, str]:
        """The field of each column.

        Raises:
            SchemaError: two fields would be one column, or one that is declared is missing.
        """
        columns: dict[str, str] = {}
        for field in fields:
            column = column_of(field)
            column = f"{column}_2" if column in FILE_COLUMNS else column
            if not field.strip() or column in columns:
                raise SchemaError(
                    f"{self._where} has "
                    + (f"two columns {column!r}" if field.strip() else "a column without a name")
                    + "; expected each column once, by its own name. Nothing of this drop was loaded."
                )
            columns[column] = field
        if missing := sorted(set(self._stream.types) - set(columns)):
            raise SchemaError(
                f"{self._where} has no column {', '.join(missing)}, which stream {self._stream.name} declares; it has "
                f"{', '.join(columns)}. Nothing of this drop was loaded. Take it out of types in "
                f"{declared_in(self._stream)}, or have the file written anew."
            )
        return columns

    def _refuse_cells(self, bad: Mapping[str, str], kinds: Mapping[str, str], line: Any) -> None:
        """Raises: SourceError: a cell is not of its column's type.

        Args:
            bad: by column, the SQL condition of its bad cells among the rows of the table `raw`.
            line: says where a row stands.
        """
        if not bad:
            return
        counts = ", ".join(f"count(*) filter ({condition})" for condition in bad.values())
        found = self._connection.execute(f"select {counts} from raw").fetchone() or ()
        told = []
        for (column, condition), count in zip(bad.items(), found, strict=True):
            if count:
                rows = self._connection.execute(
                    f"select {ROW} from raw where {condition} order by {ROW} limit {CELLS_TOLD}"
                ).fetchall()
                lines = ", ".join(line(row) for (row,) in rows)
                more = f" and {count - len(rows):,} more" if count > len(rows) else ""
                told.append(f"column {column} is not {kinds[column]} at {lines}{more}")
        if told:
            raise SourceError(
                f"{self._where}: {'; '.join(told)}. Nothing of this drop was loaded. Have the file written anew"
                + (
                    f", or list the column in variants of stream {self._stream.name} in {declared_in(self._stream)}: "
                    f"such cells then land as text in <column>{VARIANT}."
                    if self._stream.format is Format.CSV
                    else f", or declare another type in stream {self._stream.name} in {declared_in(self._stream)}."
                ),
                retryable=False,
            )


class _Csv(_Reader):
    def read(self) -> Part:
        options = self._stream.csv
        fields, rows = self._structure()
        columns = self._columns(fields)
        cells = ", ".join(f"{literal(field)}: 'VARCHAR'" for field in fields)
        named = ", ".join(f"{identifier(field)} as {identifier(column)}" for column, field in columns.items())
        quote = literal(options.quote)
        # One thread: rows are numbered in the order of the file.
        source = (
            f"read_csv({literal(str(self._path))}, auto_detect = false, header = true, columns = {{{cells}}}, "
            f"delim = {literal(options.delimiter)}, quote = {quote}, escape = {quote}, "
            f"encoding = {literal(options.encoding)}, strict_mode = true, parallel = false)"
        )
        try:
            self._connection.execute(
                f"create or replace temp table raw as select row_number() over () as {ROW}, {named} from {source}"
            )
        except duckdb.Error as error:
            raise self._not_csv(_csv_problem(error)) from None
        (found,) = one_row(self._connection, "select count(*) from raw")
        if found != rows:
            raise self._not_csv(f"it has {rows:,} rows or {found:,}, by how its quotes and line ends are read")
        kinds = {column: self._kind(column, "VARCHAR") for column in columns}
        values, bad, variants = [], {}, {}
        for column, kind in kinds.items():
            value, fits = typed(column, kind, options)
            name = identifier(column)
            values.append(f"{value} as {name}")
            if fits is None:
                continue
            if column in self._stream.variants:
                values[-1] = f"case when {fits} then {value} end as {name}"
                values.append(f"case when not {fits} then {name} end as {identifier(column + VARIANT)}")
                variants[column + VARIANT] = "VARCHAR"
            else:
                bad[column] = f"{name} is not null and not {fits}"
        self._refuse_cells(bad, kinds, self._line)
        self._connection.execute(f"create temp table {self._relation} as select {ROW}, {', '.join(values)} from raw")
        self._connection.execute("drop table raw")
        return Part(self._relation, kinds | variants)

    def _structure(self) -> tuple[list[str], int]:
        """The header and how many rows follow it, each with as many cells: DuckDB's reader lets some others pass.

        Raises:
            SourceError: a row has other cells, or the file ends within a quote.
        """
        rows, header, count = self._reader(), [], 0
        try:
            header = next(rows, [])
            for row in rows:
                if len(row) != len(header) and row:
                    raise self._not_csv(f"line {rows.line_num} has {len(row)} cells, expected {len(header)}")
                count += bool(row)
        except csv.Error as error:
            what = "the file ends within a quote" if "end of data" in str(error) else str(error)
            raise self._not_csv(f"line {rows.line_num}: {what}") from None
        except UnicodeError:
            raise self._not_csv(f"it is not {self._stream.csv.encoding} after line {rows.line_num}") from None
        if not header:
            raise self._not_csv("its first line is empty, expected a header")
        return header, count

    def _line(self, row: int) -> str:
        """The line on which a row ends: a cell may hold line breaks."""
        rows, left = self._reader(), row + 1
        while left:
            left -= bool(next(rows))
        return f"line {rows.line_num}"

    def _reader(self) -> Any:
        options = self._stream.csv
        file = self._path.open(newline="", encoding=PYTHON_ENCODING[options.encoding])
        return csv.reader(file, delimiter=options.delimiter, quotechar=options.quote, strict=True)

    def _not_csv(self, problem: str) -> SourceError:
        return SourceError(
            f"{self._where} is not the CSV that stream {self._stream.name} describes: {problem}. Nothing of this drop "
            "was loaded. Have the file written anew, or correct csv of the stream.",
            retryable=False,
        )


class _Parquet(_Reader):
    def read(self) -> Part:
        source = f"read_parquet({literal(str(self._path))}, file_row_number = true)"
        try:
            described = self._connection.execute(f"describe select * from {source}").fetchall()
            fields = {name: kind for name, kind, *_ in described if name != "file_row_number"}
            columns = self._columns(list(fields))
            named = ", ".join(f"{identifier(field)} as {identifier(column)}" for column, field in columns.items())
            self._connection.execute(
                f"create or replace temp table raw as select file_row_number + 1 as {ROW}, {named} from {source}"
            )
        except duckdb.Error as error:
            raise SourceError(
                f"{self._where} is no Parquet file that can be read ({first_line(error)}). Nothing of this drop was "
                "loaded. Have the file written anew.",
                retryable=False,
            ) from None
        kinds, values, bad = {}, [], {}
        for column, field in columns.items():
            found = fields[field]
            kinds[column] = kind = self._kind(column, _parquet_kind(found))
            name = identifier(column)
            if _is_nested(found):
                values.append(f"to_json({name})::varchar as {name}")
            elif kind == found:
                values.append(name)
            else:
                values.append(f"try_cast({name} as {kind}) as {name}")
                bad[column] = f"{name} is not null and try_cast({name} as {kind}) is null"
        self._refuse_cells(bad, kinds, lambda row: f"row {row}")
        self._connection.execute(f"create temp table {self._relation} as select {ROW}, {', '.join(values)} from raw")
        self._connection.execute("drop table raw")
        return Part(self._relation, kinds)


class _JsonLines(_Reader):
    def read(self) -> Part:
        pages: list[list[Record]] = [[]]
        lines: list[list[int]] = [[]]
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    record = parse(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except ValueError:
                    record = None
                if not isinstance(record, dict):
                    raise SourceError(
                        f"{self._where} has no JSON object at line {number}; expected one on each line. Nothing of "
                        "this drop was loaded. Have the file written anew.",
                        retryable=False,
                    )
                if len(pages[-1]) == RECORDS_AT_ONCE:
                    pages.append([])
                    lines.append([])
                pages[-1].append(record)
                lines[-1].append(number)
        fields = dict.fromkeys(field for page in pages for record in page for field in record)
        if clash := sorted(field for field in fields if column_of(field) in FILE_COLUMNS):
            raise SchemaError(
                f"{self._where} has fields {', '.join(clash)}, which bronze uses for itself; have them named otherwise."
            )
        columns = Columns(
            self._stream.name,
            self._stream.types,
            self._held,
            self._stream.epoch,
            declared_in(self._stream),
            frozenset(self._stream.key),
        )
        tables, kinds = columns.tables(pages, self._where, lines)
        numbered = pa.concat_tables(
            table.append_column(ROW, pa.array(page, pa.int64())) for table, page in zip(tables, lines, strict=True)
        )
        self._connection.register("answered", numbered)
        self._connection.execute(f"create temp table {self._relation} as from answered")
        self._connection.unregister("answered")
        return Part(self._relation, kinds)


FILE_COLUMNS = ("file_name", "file_sha256", ROW, FILE_DATE)


def typed(column: str, kind: str, options: Csv) -> tuple[str, str | None]:
    """SQL of a cell of CSV as a type, and of whether it is one exactly; None for text, which everything is."""
    name = identifier(column)
    if kind == "VARCHAR":
        return f"replace({name}, chr(0), '\N{REPLACEMENT CHARACTER}')", None
    text = f"trim({name})"
    if options.decimal == "," and (kind == "DOUBLE" or decimal_of(kind)):
        # With a comma for fractions, a point is no part of a number.
        text = f"replace(replace({text}, '.', '?'), ',', '.')"
    if kind in ("DATE", "TIMESTAMP", UTC_TIME) and column in options.times:
        parsed = f"try_strptime({text}, {literal(options.times[column])})"
        return f"{parsed}::{kind}", f"{parsed} is not null"
    value = f"try_cast({text} as {kind})"
    fits = f"{value} is not null"
    # A cast alone would round.
    if digits := decimal_of(kind):
        fits += f" and regexp_full_match({text}, '[+-]?[0-9]*[.]?[0-9]{{0,{digits[1]}}}0*')"
    elif kind == "BIGINT":
        fits += f" and regexp_full_match({text}, '[+-]?[0-9]+')"
    elif kind == "DATE":
        fits += f" and regexp_full_match({text}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}')"
    return value, f"({fits})"


def _parquet_kind(kind: str) -> str:
    """The type that a column of Parquet lands as."""
    if kind in ("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER"):
        return "BIGINT"
    if kind == "UBIGINT":
        return "DECIMAL(20,0)"
    if kind == "FLOAT":
        return "DOUBLE"
    if kind in ("TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"):
        return "TIMESTAMP"
    if kind == "BLOB":
        return kind
    try:
        return canonical(kind)
    except ValueError:
        return "VARCHAR"


def _is_nested(kind: str) -> bool:
    return kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION"))


def _csv_problem(error: duckdb.Error) -> str:
    """What DuckDB's reader says, without the line itself, which may be about people."""
    line = re.search(r"CSV Error on Line: (\d+)", str(error))
    where = f"row {line[1]} (the header is row 1)" if line else "it"
    if "maximum line size" in str(error).lower():
        return f"{where} is longer than 2 MB"
    return f"{where} cannot be read; its quotes, line ends or characters differ from the rest"
