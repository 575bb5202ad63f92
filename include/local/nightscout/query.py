"""Filters: how API v1 (`find[field][$gte]=…`) and v3 (`field$gte=…`) write them, and what a document store answers.

Comparison follows MongoDB, because clients stumble over it: a number never equals or exceeds a string, so a filter
value that stays text finds nothing in a numeric field.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

MISSING = object()
MIN_TIMESTAMP = 946_684_800_000
"""Midnight of 2000-01-01: API v3 takes smaller numbers for seconds."""
MAX_TIMESTAMP = 253_402_300_799_999
"""The last moment of the year 9999."""

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}
V1_OPERATORS = frozenset({"eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "exists", "regex"})
V3_OPERATORS = {"eq": "eq", "ne": "ne", "gt": "gt", "gte": "gte", "lt": "lt", "lte": "lte", "in": "in", "nin": "nin"}
V3_OPERATORS |= {"re": "regex"}
V3_RESERVED = frozenset({"token", "sort", "sort$desc", "limit", "skip", "fields", "now"})
NAN = float("nan")


class QueryError(Exception):
    """The request asks for something that the store refuses."""


@dataclass(frozen=True)
class Condition:
    """`field <operator> value`; conditions on one request all have to hold."""

    field: str
    operator: str
    value: Any

    def holds(self, document: Mapping[str, Any]) -> bool:
        found = _lookup(document, self.field)
        match self.operator:
            case "eq":
                return _equal(found, self.value)
            case "ne":
                return not _equal(found, self.value)
            case "in":
                return any(_equal(found, value) for value in self.value)
            case "nin":
                return not any(_equal(found, value) for value in self.value)
            case "exists":
                return (found is not MISSING) == self.value
            case "regex":
                return isinstance(found, str) and self.value.search(found) is not None
        return rank(found) == rank(self.value) and _COMPARE[self.operator](found, self.value)

    @property
    def bounds(self) -> bool:
        return self.operator in _COMPARE


def select(documents: Iterable[dict[str, Any]], conditions: Iterable[Condition]) -> Iterator[dict[str, Any]]:
    """The documents for which every condition holds, in the order given."""
    wanted = list(conditions)
    return (document for document in documents if all(condition.holds(document) for condition in wanted))


def rank(value: Any) -> int:
    """The place of a value's type in MongoDB's order; only values of one rank compare."""
    if value is MISSING or value is None:
        return 0
    if isinstance(value, bool):
        return 4
    if isinstance(value, int | float):
        return 1
    return 2 if isinstance(value, str) else 3


def sort_key(value: Any) -> tuple[int, Any]:
    """Orders values of any types as MongoDB does; objects and lists all count as equal."""
    place = rank(value)
    return (place, value if place in (1, 2, 4) else 0)


def v1_find(
    parameters: Iterable[tuple[str, str]], *, typed: Mapping[str, Callable[[str], Any]], date_field: str
) -> list[Condition]:
    """Read `find[…]` parameters.

    Args:
        parameters: names and values as they were sent.
        typed: fields whose values upstream converts; all others stay text.
        date_field: the collection's own time; unless it holds epoch numbers, dates in it are rewritten as ISO in UTC.

    Raises:
        QueryError: an operator that is not supported, a date that is none, or a pattern that does not compile.
    """
    conditions: list[Condition] = []
    lists: dict[tuple[str, str], list[Any]] = {}
    for name, text in parameters:
        match re.findall(r"\[([^\]]*)\]", name) if name.startswith("find[") else []:
            case []:
                continue
            case [field]:
                operator = "eq"
            case [field, dollar, *_]:
                operator = dollar.removeprefix("$")
                if not dollar.startswith("$") or operator not in V1_OPERATORS:
                    raise QueryError(f"unknown operator: {dollar}")
        if operator == "regex":
            conditions.append(Condition(field, operator, _pattern(text)))
        elif operator == "exists":
            # MongoDB takes any text for true, "false" included.
            conditions.append(Condition(field, operator, True))
        elif operator in ("in", "nin"):
            lists.setdefault((field, operator), []).append(_v1_value(field, text, typed, date_field))
        else:
            value = _v1_value(field, text, typed, date_field)
            if isinstance(value, re.Pattern):
                operator = "regex"
            conditions.append(Condition(field, operator, value))
    return conditions + [Condition(field, operator, values) for (field, operator), values in lists.items()]


def v3_filter(parameters: Iterable[tuple[str, str]]) -> list[Condition]:
    """Read every parameter of a v3 search that is not a reserved one.

    Raises:
        QueryError: an operator that v3 does not know.
    """
    conditions = []
    for name, text in parameters:
        if name in V3_RESERVED:
            continue
        field, dollar, operator = name.rpartition("$")
        if not dollar:
            field, operator = name, "eq"
        if operator not in V3_OPERATORS:
            raise QueryError(f"Unsupported filter operator {operator}")
        value = _v3_value(field, text)
        if operator in ("in", "nin"):
            value = text.split("|")
        elif operator == "re":
            value = _pattern(text)
        conditions.append(Condition(field, V3_OPERATORS[operator], value))
    return conditions


def to_milliseconds(text: str) -> int | None:
    """A moment written as epoch (ms, or s where that is before 2000), ISO 8601 or an HTTP date; else None."""
    number = _number(text)
    if number is not None:
        for value in (number, number * 1000):
            if MIN_TIMESTAMP <= value <= MAX_TIMESTAMP:
                return int(value)
        return None
    moment = _moment(text)
    return None if moment is None or moment < MIN_TIMESTAMP else moment


def iso(milliseconds: int) -> str:
    """A moment as JavaScript writes it: `2026-11-01T06:30:00.000Z`."""
    day, rest = divmod(int(milliseconds), 86_400_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{_day(day)}T{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}Z"


@lru_cache(maxsize=4096)
def _day(day: int) -> str:
    return date.fromordinal(719_163 + day).isoformat()


def parse_int(text: str) -> float | int:
    """What JavaScript's parseInt makes of a text: its leading digits, or not-a-number."""
    found = re.match(r"\s*[+-]?\d+", text)
    return int(found[0]) if found else NAN


def text_or_pattern(text: str) -> Any:
    """`/pattern/flags` as a pattern, anything else as it is."""
    found = re.fullmatch(r"/(.*)/([a-z]*)", text)
    return _pattern(found[1], found[2]) if found else text


def _v1_value(field: str, text: str, typed: Mapping[str, Callable[[str], Any]], date_field: str) -> Any:
    if field in typed:
        return typed[field](text)
    if field == date_field and _number(text) is None:
        moment = _moment(text.replace(" ", "+"))
        if moment is None:
            raise QueryError(f"Cannot parse {text} as a valid ISO-8601 date")
        return iso(moment)
    return text


def _v3_value(field: str, text: str) -> Any:
    value: Any = _number(text)
    if value is None:
        value = {"true": True, "false": False}.get(text, text)
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == "'":
        value = value[1:-1]
    if field in ("date", "srvModified", "srvCreated", "created_at"):
        moment = to_milliseconds(text)
        if moment is not None:
            return iso(moment) if field == "created_at" else moment
    return value


def _number(text: str) -> int | float | None:
    if re.fullmatch(r"\s*[+-]?\d+\s*", text):
        return int(text)
    return float(text) if re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", text) else None


def _moment(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _pattern(text: str, flags: str = "") -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE if "i" in flags else 0)
    except re.error as problem:
        raise QueryError(f"Regular expression is invalid: {problem}") from None


def _lookup(document: Any, field: str) -> Any:
    if field in document:
        return document[field]
    for part in field.split("."):
        if not isinstance(document, Mapping) or part not in document:
            return MISSING
        document = document[part]
    return document


def _equal(found: Any, value: Any) -> bool:
    if isinstance(found, list):
        return any(_equal(item, value) for item in found)
    return rank(found) == rank(value) and (rank(found) == 0 or found == value)
