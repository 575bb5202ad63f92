"""Types that a stream may declare for its columns: DuckDB's names, of those that land exactly."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

SIMPLE = (
    "VARCHAR",
    "BOOLEAN",
    "BIGINT",
    "DOUBLE",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE",
)
ALIASES = {
    "TEXT": "VARCHAR",
    "STRING": "VARCHAR",
    "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE",
    "INT": "BIGINT",
    "INTEGER": "BIGINT",
    "BOOL": "BOOLEAN",
    "FLOAT": "DOUBLE",
    "DOUBLE PRECISION": "DOUBLE",
}
UTC_TIME = "TIMESTAMP WITH TIME ZONE"
DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")


class Epoch(StrEnum):
    """What a number means that is a time."""

    SECONDS = "s"
    MILLISECONDS = "ms"


Member = TypeVar("Member", bound=StrEnum)


def member(stream: str, what: str, kind: type[Member], text: str) -> Member:
    """One of a set of words, which a stream may name by its text.

    Raises:
        ValueError: it is none of them.
    """
    try:
        return kind(text)
    except ValueError:
        known = ", ".join(repr(str(each)) for each in kind)
        raise ValueError(f"Stream {stream} has {what} {text!r}; known are {known}.") from None


def canonical(kind: str) -> str:
    """A type as DuckDB calls it.

    Raises:
        ValueError: it is not one that a stream may declare.
    """
    upper = " ".join(kind.upper().split()).replace("NUMERIC(", "DECIMAL(")
    upper = ALIASES.get(upper, upper)
    if upper in SIMPLE:
        return upper
    if digits := decimal_of(upper):
        return f"DECIMAL({digits[0]},{digits[1]})"
    raise ValueError(f"{kind!r} is no type of a column; known are {', '.join(SIMPLE)} and DECIMAL(p,s), p up to 38.")


def canonical_all(stream: str, types: Mapping[str, str]) -> dict[str, str]:
    """The declared types of a stream.

    Raises:
        ValueError: names the column whose type is none.
    """
    found = {}
    for column, kind in types.items():
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", column):
            raise ValueError(f"Stream {stream} declares column {column!r}; expected lower case letters, digits and _.")
        try:
            found[column] = canonical(kind)
        except ValueError as error:
            raise ValueError(f"Column {column} of stream {stream}: {error}") from None
    return found


def decimal_of(kind: str) -> tuple[int, int] | None:
    """Digits and scale of a decimal type; None of another."""
    match = DECIMAL.fullmatch(kind)
    if match is None:
        return None
    digits, scale = int(match[1]), int(match[2])
    return (digits, scale) if scale <= digits <= 38 and digits else None
