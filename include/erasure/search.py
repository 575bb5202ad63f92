"""Looking for a person everywhere, after they were erased: files, catalog, marts, results of gates."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psycopg
from psycopg import sql

from include.connections import Postgres
from include.erasure.people import Person
from include.lake.attach import Lake, identifier, literal, one_row
from include.lake.listing import open_storage, stored
from include.lake.passfile import use_passwords
from include.layers import MARTS_SCHEMA

FILES_AT_ONCE = 500


@dataclass(frozen=True)
class Trace:
    """A place where the person was found."""

    where: str
    rows: int

    def __str__(self) -> str:
        return f"{self.where} ({self.rows:,} rows)" if self.rows else self.where


@dataclass(frozen=True)
class Search:
    """What was looked at, and what was found.

    Attributes:
        files, tables, pages: how many Parquet files, tables of PostgreSQL and files of results were read.
    """

    files: int
    tables: int
    pages: int
    traces: tuple[Trace, ...]


def search(lake: Lake, marts: Postgres, person: Person, columns: Sequence[str], quality_dir: Path) -> Search:
    """Read everything that the lakehouse keeps, and say where the person still is.

    Args:
        columns: those that name a subject, wherever a table has them all.
    """
    traces: list[Trace] = []
    files = _in_files(lake, person, columns, traces)
    tables = _in_postgres(lake.catalog, [lake.metadata_schema], person, columns, traces)
    tables += _in_postgres(marts, [MARTS_SCHEMA, "ledger"], person, columns, traces)
    pages, found = in_pages(quality_dir, person, columns)
    traces += [Trace(str(path), 0) for path in found]
    return Search(files, tables, pages, tuple(traces))


def in_pages(quality_dir: Path, person: Person, columns: Sequence[str]) -> tuple[int, list[Path]]:
    """How many files of the results of gates there are, and which may show the person.

    A number alone is in every file: an id counts as found where it is a word of a file that names its column too.
    """
    words = _words(person.identifiers)
    last = person.subject.rpartition("/")[2]
    by_id = re.compile(rf"(?<!\w){re.escape(last)}(?!\w)".encode()) if "/" in person.subject else None
    named = [name.encode() for name in (columns[-1], "record_id")]
    count, found = 0, []
    for path in sorted(quality_dir.rglob("*")) if quality_dir.is_dir() else ():
        if not path.is_file():
            continue
        count += 1
        content = path.read_bytes()
        shown = any(word.search(content) for word in words)
        shown = shown or bool(by_id and any(name in content for name in named) and by_id.search(content))
        if shown:
            found.append(path)
    return count, found


def _words(texts: Sequence[str]) -> list[re.Pattern[bytes]]:
    return [re.compile(rf"(?<!\w){re.escape(text)}(?!\w)".encode()) for text in texts]


def _pattern(person: Person) -> str | None:
    """A regular expression that DuckDB and PostgreSQL read alike; None if there is nothing to look for."""
    texts = [re.sub(r"([^\w\s@-])", r"\\\1", text, flags=re.ASCII) for text in person.identifiers]
    return rf"(^|[^[:alnum:]_])({'|'.join(texts)})([^[:alnum:]_]|$)" if texts else None


def _in_files(lake: Lake, person: Person, columns: Sequence[str], traces: list[Trace]) -> int:
    pattern = _pattern(person)
    with open_storage(lake) as connection:
        there = [path for path in stored(lake, connection) if path.endswith(".parquet")]
        folders: dict[str, list[str]] = defaultdict(list)
        for path in there:
            folders["/".join(path.removeprefix(lake.storage.root).split("/")[:2])].append(path)
        for folder, paths in sorted(folders.items()):
            for first in range(0, len(paths), FILES_AT_ONCE):
                some = ", ".join(literal(path) for path in paths[first : first + FILES_AT_ONCE])
                source = f"read_parquet([{some}], union_by_name => true, hive_partitioning => false)"
                rows = _matching(connection, source, person, columns, pattern)
                if rows:
                    traces.append(Trace(f"files in {folder}", rows))
    return len(there)


def _matching(
    connection: duckdb.DuckDBPyConnection, source: str, person: Person, columns: Sequence[str], pattern: str | None
) -> int:
    names = {name for name, *_ in connection.execute(f"describe from {source}").fetchall()}
    conditions = []
    if pattern:
        # `contains` first: it is much quicker than a regular expression.
        some = " or ".join(f"contains(text, {literal(text)})" for text in person.identifiers)
        conditions.append(f"(({some}) and regexp_matches(text, {literal(pattern)}))")
    if names >= set(columns):
        whose = " || '/' || ".join(f"__row.{identifier(name)}::varchar" for name in columns)
        conditions.append(f"{whose} = {literal(person.subject)}")
    if not conditions:
        return 0
    (rows,) = one_row(
        connection,
        f"select count(*) from (select __row, __row::varchar as text from {source} as __row) "
        f"where {' or '.join(f'coalesce({condition}, false)' for condition in conditions)}",
    )
    return rows


def _in_postgres(
    server: Postgres, schemas: Sequence[str], person: Person, columns: Sequence[str], traces: list[Trace]
) -> int:
    pattern, count = _pattern(person), 0
    use_passwords(server)
    with psycopg.connect(server.conninfo()) as connection:
        tables = connection.execute(
            "select table_schema, table_name, array_agg(column_name::text), "
            "array_agg(column_name::text) filter (where data_type = 'bytea') from information_schema.columns "
            "join information_schema.tables using (table_schema, table_name) "
            "where table_schema = any(%s) and table_type = 'BASE TABLE' group by 1, 2 order by 1, 2",
            [list(schemas)],
        ).fetchall()
        for schema, table, names, binary in tables:
            count += 1

            def text(name: str, binary: Sequence[str] = tuple(binary or ())) -> sql.Composable:
                # DuckLake keeps the texts of inlined rows as bytes.
                form = "encode({}, 'escape')" if name in binary else "{}::text"
                return sql.SQL(form).format(sql.Identifier(name))

            conditions = []
            if pattern:
                whole = sql.SQL("concat_ws(' ', {})").format(sql.SQL(", ").join(text(name) for name in names))
                conditions.append(sql.SQL("{} ~ {}").format(whole, sql.Literal(pattern)))
            if set(names) >= set(columns):
                whose = sql.SQL(" || '/' || ").join(text(name) for name in columns)
                conditions.append(sql.SQL("{} = {}").format(whose, sql.Literal(person.subject)))
            if not conditions:
                continue
            query = sql.SQL("select count(*) from {} where {}").format(
                sql.Identifier(schema, table), sql.SQL(" or ").join(conditions)
            )
            row = connection.execute(query).fetchone()
            if row and row[0]:
                traces.append(Trace(f"table {schema}.{table} of database {server.database}", row[0]))
    return count
