"""Kinds of source. A kind is an entry here and a folder of templates, `templates/kinds/<kind>`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from include.connections import Connection
from include.scaffold.names import ScaffoldError
from include.scaffold.spec import TEXT, Column, Domain, Stream
from include.sources.types import canonical, decimal_of

# Columns, and those of the key.
Described = tuple[tuple[Column, ...], tuple[str, ...]]


class MadeUp(Protocol):
    """Rows that nobody has, for a sample: what stands for the n-th value of a column."""

    def kind(self, column: Column) -> str: ...

    def value(self, stream: Stream, column: Column) -> str: ...


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Attributes:
        name: of its templates, and of the package of include/sources that reads it, which a domain's streams.py
            imports from.
        about: what is read, in words.
        first_run: what the first run takes, in words.
        type_of: the lake's type of a source's type, in lower case; None for a type that is not known.
        request: what the source is asked for, in words.
        made_up: how the rows of a sample are spelled.
        read: a stream's columns, and those of its key, asked of the source by its connection and schema; none where
            only flags can say them.
        options: what else a stream may be told (`--read`), each with its default, in which `{name}` is the stream's.
        times: types that the cursor and the day may have.
    """

    name: str
    about: str
    first_run: str
    type_of: Callable[[str], str | None]
    request: Callable[[Domain, Stream], str]
    made_up: MadeUp
    read: Callable[[Connection, str, str], Described] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    times: tuple[str, ...] = ()

    def option(self, stream: Stream, name: str) -> str:
        """What a stream was told, or else is likely."""
        return dict(stream.options).get(name, self.options[name].format(name=stream.name))

    def check(self, stream: Stream) -> None:
        """Raises: ScaffoldError: a stream is told what this kind does not know, or goes by what it cannot."""
        if odd := sorted(set(dict(stream.options)) - set(self.options)):
            known = ", ".join(self.options) or "nothing"
            raise ScaffoldError(f"--read {stream.name} says {', '.join(odd)}; {self.name} is told {known}.")
        for role, name in (("cursor", stream.cursor), ("day", stream.day)):
            if self.times and stream.column(name).data_type not in self.times:
                raise ScaffoldError(
                    f"The {role} of stream {stream.name} is {name}, a {stream.column(name).kind}; of {self.name} it is "
                    f"to be {' or '.join(self.times)}."
                )

    def column(self, stream: str, name: str, kind: str) -> Column:
        """Raises: ScaffoldError: the type is not known."""
        found = self.type_of(kind)
        if found is None:
            raise ScaffoldError(f"Column {name} of {stream} has type {kind!r}, which {self.name} does not have.")
        return Column(name, kind, found)


# Spellings that PostgreSQL takes, and what it calls the type itself.
POSTGRES_NAMES = {
    "int": "integer",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "bool": "boolean",
    "float": "double precision",
    "float4": "real",
    "float8": "double precision",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "varchar": "character varying",
    "char": "character",
    "decimal": "numeric",
}
# Types that DuckDB has no exact own for, and that are read as their text.
POSTGRES_TEXTS = re.compile(
    r"(text|uuid|jsonb?|xml|inet|cidr|macaddr8?|citext|interval|numeric|time with(out)? time zone|money|hstore|"
    r"character( varying)?(\(\d+\))?)(\[\])*"
)


def postgres_kind(text: str) -> str:
    """PostgreSQL's own name of a type."""
    spelled = re.sub(r"\s*,\s*", ",", " ".join(text.lower().split()))
    found = re.fullmatch(r"(\w+) ?(\([\d,]+\))?", spelled)
    if found is None or found[1] not in POSTGRES_NAMES:
        return spelled
    name = POSTGRES_NAMES[found[1]]
    return name if name.startswith("timestamp") else name + (found[2] or "")


def postgres_type(kind: str, *, known_only: bool = True) -> str | None:
    """DuckDB's type of a column of PostgreSQL, as ingest reads it.

    Args:
        known_only: no type for a name that PostgreSQL may not have; else such a one is text, as an enum is.
    """
    from include.sources.postgres.client import Column as Read

    spelled = postgres_kind(kind)
    found = Read.of("x", spelled).duckdb_type.lower()
    if found == TEXT and known_only and not POSTGRES_TEXTS.fullmatch(spelled):
        return None
    return found


class PostgresRows:
    """Rows of a number `n` and a time `at`, in PostgreSQL's SQL."""

    def kind(self, column: Column) -> str:
        """A type that a new database has: enums and the like are text."""
        return column.kind if postgres_type(column.kind) else "text"

    def value(self, stream: Stream, column: Column) -> str:
        """Different for each row where it is a key; a time on the days of the sample, in order."""
        kind, name = postgres_kind(self.kind(column)), column.name
        word = kind.partition("(")[0]
        if word.startswith(("timestamp", "date")):
            return self._time(stream, name, word)
        if word in ("smallint", "integer", "bigint"):
            return "n" if name in stream.key else f"n % {len(name) + 3} + 1"
        if name in stream.key:
            return f"md5(n::text)::{kind}" if word == "uuid" else f"('{name} ' || n)::{kind}"
        if word == "uuid":
            return f"md5('{name}' || n % 7)::uuid"
        if word == "numeric" and "," in kind:
            digits, scale = map(int, kind.rstrip(")").partition("(")[2].split(","))
            return f"(n % 9 + 0.25)::{kind}" if digits > scale else f"0::{kind}"
        if word in ("numeric", "real", "double precision"):
            return f"(n % 9 + 0.25)::{kind}"
        if word == "boolean":
            return f"n % {len(name) + 1} = 0"
        if word in ("text", "character varying", "citext") and "[" not in kind:
            return f"({self._text(stream, column)})::{kind}"
        return f"cast({_EXAMPLES[word]} as {kind})" if word in _EXAMPLES and "[" not in kind else f"null::{kind}"

    def _text(self, stream: Stream, column: Column) -> str:
        if column not in stream.hashed:
            return f"'{column.name} ' || n % 7"
        return "'person' || n || '@example.org'" if "mail" in column.name else f"'person of {column.name} ' || n"

    def _time(self, stream: Stream, name: str, word: str) -> str:
        made = "at + interval '1 hour'" if name == stream.cursor != stream.day else "at"
        if name == "deleted_at":
            made = "case when n % 19 = 0 then at end"
        kind = "timestamp" if word.endswith("without time zone") else word
        return made if word.endswith("with time zone") else f"({made})::{kind}"


# Of types that are read as text.
_EXAMPLES = {
    "json": "'{}'",
    "jsonb": "'{}'",
    "inet": "'10.0.0.' || n",
    "cidr": "'10.0.0.0/24'",
    "interval": "'1 hour'",
    "bytea": "'x'",
    "money": "'1.00'",
    "character": "'x'",
    "time without time zone": "'12:00'",
}


class DuckDBRows:
    """Rows of a number `n` and a time `moment`, in DuckDB's SQL."""

    def kind(self, column: Column) -> str:
        return column.data_type

    def value(self, stream: Stream, column: Column) -> str:
        """Different for each row where it is a key; a time on the days of the sample, in order."""
        kind, name = column.data_type, column.name
        if kind.startswith(("timestamp", "date")):
            made = "moment + interval 1 hour" if name == stream.cursor != stream.day else "moment"
            if name == "deleted_at":
                made = "case when n % 19 = 0 then moment end"
            return made if kind == TIME else f"cast({made} as {kind})"
        if kind == "bigint":
            return "n" if name in stream.key else f"n % {len(name) + 3} + 1"
        if name in stream.key:
            return f"cast({'n' if column.is_number else repr(name + ' ') + ' || n'} as {kind})"
        if column.is_number:
            digits, scale = decimal_of(kind.upper()) or (9, 2)
            return f"cast({'n % 9 + 0.25' if digits > scale else '0'} as {kind})"
        if kind == "boolean":
            return f"n % {len(name) + 1} = 0"
        if column not in stream.hashed:
            return f"'{name} ' || n % 7"
        return "'person' || n || '@example.org'" if "mail" in name else f"'person of {name} ' || n"


TIME = "timestamp with time zone"


def duckdb_type(kind: str) -> str | None:
    """DuckDB's type of a column that a stream declares; None for one that it cannot."""
    try:
        return canonical(kind).lower()
    except ValueError:
        return None


def _read_postgres(connection: Connection, schema: str, name: str) -> Described:
    from include.scaffold.source_columns import read_table

    table = read_table(connection, schema, name)
    return table.columns, table.key


LIKE_ANY_OTHER = "what its days and the overlap before them have; for what is older, run a range"
KINDS: Mapping[str, Kind] = {
    "postgres": Kind(
        "postgres",
        "tables of PostgreSQL databases",
        "everything that was changed before the interval's end, whatever the interval",
        postgres_type,
        lambda domain, stream: f"select from {domain.schema}.{stream.name} where {stream.cursor} in the interval",
        PostgresRows(),
        _read_postgres,
    ),
    "rest": Kind(
        "rest",
        "lists of JSON APIs",
        LIKE_ANY_OTHER,
        duckdb_type,
        lambda domain, stream: f"GET {KINDS['rest'].option(stream, 'path')} where {stream.cursor} in the interval",
        DuckDBRows(),
        options={
            "path": "{name}",
            "data": "$",
            "paginator": "single_page",
            "size": "",
            "size_param": "",
            "since": "updated_since",
            "until": "",
        },
        times=(TIME,),
    ),
    "files": Kind(
        "files",
        "files dropped into folders or buckets",
        LIKE_ANY_OTHER,
        duckdb_type,
        lambda domain, stream: f"files {KINDS['files'].option(stream, 'files')} whose day is in the interval",
        DuckDBRows(),
        options={"files": "{name}/*.csv", "format": "csv", "due": "a file every interval"},
        times=(TIME, "date"),
    ),
}
_ENGINE = re.compile(r"^from include\.sources\.(\w+)\.streams import", re.MULTILINE)


def kind_of(streams_py: str, where: str) -> Kind:
    """The kind of a domain, by what its streams.py imports.

    Raises:
        ScaffoldError: it is none that `lake new` knows.
    """
    found = _ENGINE.search(streams_py)
    if found is None or found[1] not in KINDS:
        raise ScaffoldError(
            f"{where} imports the streams of none of {', '.join(KINDS)}, so that `lake new stream` does not know "
            "what to write. Add the stream by hand: docs/how-to/add-a-source.md."
        )
    return KINDS[found[1]]
