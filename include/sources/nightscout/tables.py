"""Records of Nightscout as Arrow with bronze's columns; a value of another type is found here, not in the lake."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from include.naming import snake_case
from include.sources.errors import SchemaError
from include.sources.nightscout.client import record_id
from include.sources.nightscout.streams import LINEAGE, Kind, Record, Stream

MOST_REPORTED = 10
VARIANT = "__v_text"
NUL = "\x00"  # legal in JSON, not in the PostgreSQL that holds the catalog and its small rows

UTC_TIME = pa.timestamp("us", tz="UTC")
LINEAGE_FIELDS = (
    pa.field("site", pa.string(), nullable=False),
    pa.field("interval_date", pa.date32(), nullable=False),
    pa.field("record_id", pa.string()),
    pa.field("load_seq", pa.int64(), nullable=False),
    pa.field("interval_start", UTC_TIME),
    pa.field("interval_end", UTC_TIME),
    pa.field("fetched_at", UTC_TIME),
    pa.field("api_version", pa.string()),
    pa.field("site_time_zone", pa.string()),
    pa.field("site_units", pa.string()),
    pa.field("window_records", pa.int64()),
)

ARROW = {
    Kind.TEXT: pa.string(),
    Kind.SCALAR: pa.string(),
    Kind.JSON: pa.string(),
    Kind.OPEN: pa.string(),
    Kind.DOUBLE: pa.float64(),
    Kind.BIGINT: pa.int64(),
    Kind.BOOLEAN: pa.bool_(),
}
ACCEPTED: dict[Kind, frozenset[type]] = {
    Kind.TEXT: frozenset({str}),
    Kind.SCALAR: frozenset({str, int, float}),
    Kind.JSON: frozenset({dict, list}),
    Kind.OPEN: frozenset({str, dict, list}),
    Kind.DOUBLE: frozenset({int, float}),
    Kind.BIGINT: frozenset({int, float}),
    Kind.BOOLEAN: frozenset({bool}),
}
DUCKDB = {pa.string(): "VARCHAR", pa.float64(): "DOUBLE", pa.int64(): "BIGINT", pa.bool_(): "BOOLEAN"}
FOUND = {str: "text", int: "a number", float: "a number", bool: "a boolean", dict: "an object", list: "a list"}

# What a field that the stream does not declare may be, by the type that bronze has for it.
KIND_OF_BRONZE = {"VARCHAR": Kind.OPEN, "DOUBLE": Kind.DOUBLE, "BOOLEAN": Kind.BOOLEAN}


@dataclass(frozen=True)
class Conflict:
    """Values of one field at one site that are not of the expected type."""

    field: str
    expected: str
    found: str
    site: str
    values: int
    declared: bool


@dataclass(frozen=True)
class Page:
    """Some records of one site as Arrow: `interval_date`, `record_id`, then payload columns."""

    table: pa.Table
    conflicts: tuple[Conflict, ...]

    def of_days(self, days: Iterable[date]) -> "Page":
        """Only the records of these days."""
        wanted = pc.is_in(self.table["interval_date"], pa.array(sorted(days), pa.date32()))
        return Page(self.table.filter(wanted), self.conflicts)


def page_of(
    records: Sequence[Record], days: Sequence[date], site: str, stream: Stream, bronze: Mapping[str, str]
) -> Page:
    """Records as Arrow.

    Args:
        days: the UTC day of each record.
        bronze: columns that the bronze table has, with DuckDB's type names.
    """
    columns: dict[str, pa.Array] = {
        "interval_date": pa.array(days, pa.date32()),
        "record_id": _texts([record_id(record) for record in records]),
    }
    conflicts: list[Conflict] = []
    declared = {column.field: column for column in stream.columns}
    for field in sorted(dict.fromkeys(chain.from_iterable(records)), key=lambda field: (field not in declared, field)):
        if field == "_id":
            continue
        values = _values(records, field)
        types = set(map(type, values)) - {type(None)}
        if not types:
            continue
        column = declared.get(field)
        name = column.name if column else _free_name(field, columns, stream)
        kind = column.kind if column else _kind_of(types, bronze.get(name))
        if types <= ACCEPTED[kind]:
            array = _array(values, kind)
            if array is not None:
                columns[name] = array
                continue
        fits = [_fits(value, kind) for value in values]
        if column and field in stream.variants:
            columns[name] = _array([v if ok else None for v, ok in zip(values, fits, strict=True)], kind)
            columns[name + VARIANT] = pa.array(
                [None if ok else _text(v) for v, ok in zip(values, fits, strict=True)], pa.string()
            )
            continue
        odd = [value for value, ok in zip(values, fits, strict=True) if not ok]
        found = Counter(_found(value, kind) for value in odd).most_common()
        conflicts.append(
            Conflict(field, kind.value, " and ".join(what for what, _ in found), site, len(odd), column is not None)
        )
    return Page(pa.table(columns), tuple(conflicts))


def _values(records: Sequence[Record], field: str) -> list[Any]:
    try:
        return list(map(itemgetter(field), records))  # of what all records have, in half the time
    except KeyError:
        return [record.get(field) for record in records]


def payload_fields(pages: Iterable[Page], stream: Stream, bronze: Mapping[str, str]) -> list[pa.Field]:
    """Payload columns of a load: declared ones, those that bronze has beside them, then new ones by name.

    Raises:
        SchemaError: a field is not of the type that the stream declares or that bronze has.
    """
    pages = list(pages)
    conflicts = [conflict for page in pages for conflict in page.conflicts]
    if conflicts:
        raise _schema_error(stream, conflicts)
    fields = {column.name: pa.field(column.name, ARROW[column.kind]) for column in stream.columns}
    for name, field in fields.items():
        if bronze.get(name, DUCKDB[field.type]) != DUCKDB[field.type]:
            raise SchemaError(
                f"Column {name} of bronze.{stream.table} is {bronze[name]}, but stream {stream.name} declares it as "
                f"{DUCKDB[field.type]}. Nothing was loaded. Rename the old column (alter table … rename column …), or "
                "declare the field as it is."
            )
    for name, duckdb_type in bronze.items():
        if name not in fields and name not in LINEAGE:
            if duckdb_type not in KIND_OF_BRONZE:
                raise SchemaError(
                    f"bronze.{stream.table} has a column {name} of type {duckdb_type}, which no load makes; rename or "
                    "drop it."
                )
            fields[name] = pa.field(name, ARROW[KIND_OF_BRONZE[duckdb_type]])
    new: dict[str, pa.DataType] = {}
    for page in pages:
        for field in page.table.schema:
            if field.name in ("interval_date", "record_id"):
                continue
            known = fields[field.name].type if field.name in fields else new.setdefault(field.name, field.type)
            if known != field.type:
                raise SchemaError(
                    f"Field of column {field.name} of {stream.table} is {field.type} in some answers and {known} in "
                    f"others or in bronze. Nothing was loaded. {_declare(stream)}"
                )
    return [*fields.values(), *(pa.field(name, new[name]) for name in sorted(new))]


def _schema_error(stream: Stream, conflicts: Sequence[Conflict]) -> SchemaError:
    merged: Counter[tuple[str, str, str, str, bool]] = Counter()
    for c in conflicts:
        merged[(c.field, c.expected, c.found, c.site, c.declared)] += c.values
    lines = [
        f"field {field!r} is {found} in {count} records of site {site}, expected {expected}"
        for (field, expected, found, site, _), count in sorted(merged.items())
    ]
    more = f" (and {len(lines) - MOST_REPORTED} more)" if len(lines) > MOST_REPORTED else ""
    fields = sorted({c.field for c in conflicts if c.declared})
    advice = (
        f"To accept it, add {', '.join(map(repr, fields))} to variants of stream {stream.name} in "
        f"include/sources/nightscout/streams.py: such values then land as text in <column>{VARIANT}."
        if fields
        else _declare(stream)
    )
    return SchemaError(f"{stream.table}: {'; '.join(lines[:MOST_REPORTED])}{more}. Nothing was loaded. {advice}")


def _declare(stream: Stream) -> str:
    return (
        f"To accept it, declare the field in stream {stream.name} in include/sources/nightscout/streams.py, and list "
        f"it in variants: other values then land as text in <column>{VARIANT}."
    )


def _free_name(field: str, taken: Mapping[str, Any], stream: Stream) -> str:
    """The column of an undeclared field; numbered where its plain name is another's."""
    name = snake_case(field)
    others = {column.name for column in stream.columns} | set(LINEAGE) | set(taken)
    number, free = 2, name
    while free in others:
        free, number = f"{name}_{number}", number + 1
    return free


def _kind_of(types: set[type], duckdb_type: str | None) -> Kind:
    """The kind of an undeclared field: what bronze has, else what its values are."""
    if duckdb_type in KIND_OF_BRONZE:
        return KIND_OF_BRONZE[duckdb_type]
    return next(kind for kind in (Kind.DOUBLE, Kind.BOOLEAN, Kind.OPEN) if types & ACCEPTED[kind])


def _array(values: Sequence[Any], kind: Kind) -> pa.Array | None:
    """The values as Arrow; None if one of them does not fit after all."""
    if kind in (Kind.SCALAR, Kind.JSON, Kind.OPEN):
        values = [None if value is None else _text(value) for value in values]
    elif kind is Kind.BIGINT and float in set(map(type, values)):
        values = [None if value is None else int(value // 1) for value in values]
    if kind is Kind.TEXT:
        return _texts(values)
    try:
        return pa.array(values, ARROW[kind])
    except (OverflowError, pa.ArrowInvalid):
        if kind is not Kind.DOUBLE:
            return None
        # Whole numbers that a double holds only nearly.
        return pa.array([None if value is None else float(value) for value in values], ARROW[kind])


def _texts(values: Sequence[str | None]) -> pa.Array:
    array = pa.array(values, pa.string())
    if NUL.encode() in array.buffers()[2].to_pybytes():
        return pa.array([value and _stored(value) for value in values], pa.string())
    return array


def _fits(value: Any, kind: Kind) -> bool:
    if value is None:
        return True
    if type(value) not in ACCEPTED[kind]:
        return False
    return kind is not Kind.BIGINT or -(2**63) <= value < 2**63


def _found(value: Any, kind: Kind) -> str:
    return "a number beyond 64 bits" if type(value) in ACCEPTED[kind] else FOUND[type(value)]


def _text(value: Any) -> str:
    return _stored(value) if isinstance(value, str) else _stored(orjson.dumps(value).decode())


def _stored(text: str) -> str:
    return text.replace(NUL, "\N{REPLACEMENT CHARACTER}") if NUL in text else text
