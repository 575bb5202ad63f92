"""JSON records as Arrow with exact values: numbers are read as decimals, times as UTC, what is nested as JSON text.

DuckDB's JSON reader makes doubles of all numbers with a point, whatever type it is told (12345678901234567.12 becomes
…568.24), so it is not used for records.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import chain
from typing import Any

import pyarrow as pa
import simplejson

from include.naming import snake_case
from include.sources.errors import SchemaError
from include.sources.keyed import RESERVED
from include.sources.types import UTC_TIME, Epoch, decimal_of

Record = Mapping[str, Any]

# A number of a field that nobody declared.
NUMBER = "DECIMAL(38,9)"
NUL = "\x00"  # legal in JSON, not in the PostgreSQL that holds the catalog and its small rows
MOST_REPORTED = 10
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DIGITS = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
FOUND = {str: "text", int: "a number", Decimal: "a number", bool: "a boolean", dict: "an object", list: "a list"}
ARROW = {
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    UTC_TIME: pa.timestamp("us", tz="UTC"),
}
# Types of values that Arrow takes for a kind as they are; of decimals, Decimal.
READY: Mapping[str, frozenset[type]] = {
    "VARCHAR": frozenset({str}),
    "BOOLEAN": frozenset({bool}),
    "BIGINT": frozenset({int}),
    "DOUBLE": frozenset(),
    "DATE": frozenset(),
    "TIMESTAMP": frozenset(),
    UTC_TIME: frozenset(),
}


class _Misfit(Exception):
    """A value that is not of its column's type; `index` is its place."""

    index = 0


@dataclass(frozen=True)
class Columns:
    """How the records of a stream become columns.

    Attributes:
        stream: its name, for errors.
        types: declared columns; they exist from the first load on.
        held: types of the columns that bronze has.
        epoch: what a number means that is a time.
        declared_in: where types are declared, for errors.
        ids: columns whose numbers are whole, if nothing else is declared.
    """

    stream: str
    types: Mapping[str, str]
    held: Mapping[str, str]
    epoch: Epoch
    declared_in: str
    ids: frozenset[str] = frozenset()

    def tables(
        self, pages: Sequence[Sequence[Record]], where: str, lines: Sequence[Sequence[int]] | None = None
    ) -> tuple[list[pa.Table], dict[str, str]]:
        """Pages of records as Arrow tables, and DuckDB's types of their columns.

        Args:
            where: what the records are of, for errors.
            lines: where each record stands in its file.

        Raises:
            SchemaError: a field is not of the type that is declared or that bronze holds.
        """
        names = self._names(pages, where)
        kinds, problems = {}, []
        for column, field in names.items():
            seen = Counter(type(value) for page in pages for record in page if (value := record.get(field)) is not None)
            kind = self.types.get(column) or self.held.get(column) or _kind_of(seen, column in self.ids)
            if kind is None and seen:
                problems.append(f"field {field!r} is {_told(seen)} in one answer")
            elif kind is not None:
                kinds[column] = kind
        for column, kind in self.types.items():
            kinds.setdefault(column, kind)
        tables = []
        for number, page in enumerate(pages):
            arrays = {}
            for column, kind in kinds.items():
                values = [record.get(names[column]) for record in page] if column in names else [None] * len(page)
                try:
                    arrays[column] = self._array(values, kind, declared=column in self.types)
                except _Misfit as misfit:
                    line = f" (line {lines[number][misfit.index]})" if lines else ""
                    problems.append(f"field {names[column]!r} is {misfit}{line}, expected {kind}")
                    continue
            if not problems:
                tables.append(pa.table(arrays))
        if problems:
            problems = list(dict.fromkeys(problems))
            more = f" (and {len(problems) - MOST_REPORTED} more)" if len(problems) > MOST_REPORTED else ""
            raise SchemaError(
                f"{where}: {'; '.join(problems[:MOST_REPORTED])}{more}. Nothing of it was loaded. Declare the type "
                f"to read it as in types of stream {self.stream} in {self.declared_in} (VARCHAR takes anything); if "
                "bronze has the column already, rename that first (alter table … rename column …)."
            )
        return tables, kinds

    def _names(self, pages: Sequence[Sequence[Record]], where: str) -> dict[str, str]:
        """The field of each column."""
        fields = dict.fromkeys(chain.from_iterable(chain.from_iterable(pages)))
        names: dict[str, str] = {}
        for field in sorted(fields, key=lambda name: (column_of(name) != name, name)):
            column = column_of(field)
            if column in names:
                raise SchemaError(
                    f"{where}: fields {names[column]!r} and {field!r} would both be column {column}; have the source "
                    "leave one out."
                )
            names[column] = field
        return names

    def _array(self, values: Sequence[Any], kind: str, *, declared: bool) -> pa.Array:
        # What is of one type already needs no look at each value, which takes ten times as long.
        if set(map(type, values)) - {type(None)} <= READY.get(kind, frozenset({Decimal})):
            try:
                array = pa.array(values, arrow_type(kind))
            except (pa.ArrowInvalid, OverflowError):
                array = None
            if array is not None and not (kind == "VARCHAR" and _has_nul(array)):
                return array
        convert = _converter(kind, declared, self.epoch)
        try:
            return pa.array([None if value is None else convert(value) for value in values], arrow_type(kind))
        except (_Misfit, pa.ArrowInvalid, OverflowError):
            raise _first_misfit(values, convert, arrow_type(kind)) from None


def parse(text: str | bytes) -> Any:
    """A JSON document; a number with a point is a Decimal.

    Raises:
        ValueError: it is none.
    """
    return simplejson.loads(text, use_decimal=True, parse_constant=_no_constant)


def dump(value: Any) -> str:
    """JSON text with the digits of decimals as they came."""
    return stored(simplejson.dumps(value, use_decimal=True, ensure_ascii=False, separators=(",", ":")))


def stored(text: str) -> str:
    """Text as bronze holds it."""
    return text.replace(NUL, "\N{REPLACEMENT CHARACTER}") if NUL in text else text


@cache
def column_of(field: str) -> str:
    """The bronze column of a field; one that bronze uses for itself gets a number."""
    name = snake_case(field)
    return f"{name}_2" if name in RESERVED or name in ("record_id", "interval_date") else name


def moment_of(value: Any, epoch: Epoch) -> datetime | None:
    """A time in UTC: ISO 8601 text (UTC if it states no offset) or a number since 1970; None if it is neither."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        if isinstance(value, int | Decimal):
            seconds = Decimal(value) / (1000 if epoch is Epoch.MILLISECONDS else 1)
            return EPOCH + timedelta(microseconds=int(seconds * 1_000_000))
        if not isinstance(value, str):
            return None
        moment = datetime.fromisoformat(value.strip())
    except (ValueError, OverflowError):
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def arrow_type(kind: str) -> pa.DataType:
    if digits := decimal_of(kind):
        return pa.decimal128(*digits)
    return ARROW[kind]


def _kind_of(seen: Iterable[type], is_id: bool) -> str | None:
    """The type of a field that nobody declared and bronze does not have; None if its values are of several."""
    types = set(seen)
    if is_id and types == {int}:
        return "BIGINT"
    for accepted, kind in (({int, Decimal}, NUMBER), ({bool}, "BOOLEAN"), ({str, dict, list}, "VARCHAR")):
        if types and types <= accepted:
            return kind
    return None


def _converter(kind: str, declared: bool, epoch: Epoch) -> Any:
    """What makes a value of JSON one of a type; it raises _Misfit."""

    def text(value: Any) -> str:
        if isinstance(value, str):
            return stored(value)
        if isinstance(value, dict | list) or declared:
            return dump(value)
        raise _Misfit(FOUND[type(value)])

    def boolean(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise _Misfit(FOUND[type(value)])

    def number(value: Any) -> Decimal:
        # A declared number may be a text of digits, which is how money often comes.
        if isinstance(value, str) and declared and DIGITS.fullmatch(value.strip()):
            return Decimal(value.strip())
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return Decimal(value)
        raise _Misfit(FOUND[type(value)])

    def whole(value: Any) -> int:
        found = number(value)
        if found != found.to_integral_value():
            raise _Misfit("a number with a fraction")
        return int(found)

    def moment(value: Any) -> datetime:
        found = moment_of(value, epoch)
        if found is None:
            raise _Misfit(f"{FOUND[type(value)]} that is no time")
        return found

    def local(value: Any) -> datetime:
        try:
            found = datetime.fromisoformat(value)
        except (ValueError, TypeError):
            found = None
        if found is None or found.tzinfo:
            raise _Misfit(f"{FOUND[type(value)]} that is no time without an offset")
        return found

    def day(value: Any) -> date:
        try:
            return date.fromisoformat(value)
        except (ValueError, TypeError):
            raise _Misfit(f"{FOUND[type(value)]} that is no date") from None

    converters = {
        "VARCHAR": text,
        "BOOLEAN": boolean,
        "BIGINT": whole,
        "DOUBLE": lambda value: float(number(value)),
        "DATE": day,
        "TIMESTAMP": local,
        UTC_TIME: moment,
    }
    return converters.get(kind, number)


def _has_nul(array: pa.Array) -> bool:
    text = array.buffers()[2]
    return text is not None and NUL.encode() in text.to_pybytes()


def _first_misfit(values: Sequence[Any], convert: Any, kind: pa.DataType) -> _Misfit:
    for index, value in enumerate(values):
        try:
            pa.array([None if value is None else convert(value)], kind)
        except (pa.ArrowInvalid, OverflowError):
            misfit = _Misfit("a number that it cannot hold exactly")
        except _Misfit as found:
            misfit = found
        else:
            continue
        misfit.index = index
        return misfit
    raise AssertionError("unreachable")


def _told(seen: Mapping[type, int]) -> str:
    return " and ".join(dict.fromkeys(FOUND[each] for each in seen))


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
