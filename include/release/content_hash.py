"""The content hash of a relation: sha256 of its rows written as one canonical CSV.

The same rows give the same hash wherever they are read from (the lake, Postgres, a Parquet file) and in whatever
order, and the file that `reproduce` writes as CSV has that very sha256. Unlike a sum over row hashes, which is cheaper
to state, it inherits sha256's resistance to somebody who may choose the rows; and it is faster, since DuckDB sorts in
parallel (spilling where memory is short) and one sha256 runs over contiguous buffers.

The canonical CSV is UTF-8 with line feeds:
* the header holds each column's name and type, quoted: `"site varchar","mean_mg_dl double"`;
* rows are sorted by the key, whose values are unique;
* null is empty and text is quoted, quotes doubled, so that null and the empty text differ; the rest is not quoted;
* a double is the shortest decimal that reads back as the same double (-0.0, nan, inf, -inf exist);
* a timestamp with time zone is UTC with a Z, to the microsecond; a decimal has its declared scale.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

import duckdb

from include.lake.attach import identifier

BATCH_ROWS = 20_000


@dataclass(frozen=True)
class Field:
    """A column and its type, as DuckDB spells it (`DECIMAL(18,3)`, `TIMESTAMP WITH TIME ZONE`)."""

    name: str
    type: str


@dataclass(frozen=True)
class ContentHash:
    rows: int
    sha256: str


def content_hash(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    fields: Iterable[Field],
    key: Iterable[str],
    sink: BinaryIO | None = None,
) -> ContentHash:
    """Hash the rows of `relation`, and write the canonical CSV to `sink` if there is one.

    Args:
        relation: what may follow FROM. Its columns may have wider types than `fields` says.
        key: columns that identify a row; without duplicates among them the order, and so the hash, is determined.
    """
    fields, key = tuple(fields), tuple(key)
    digest, rows = hashlib.sha256(), 0

    def take(data: bytes | memoryview) -> None:
        digest.update(data)
        if sink is not None:
            sink.write(data)

    take(_header(fields))
    keys = ", ".join(identifier(name) for name in key)
    # The line breaks ties, which only a relation that breaks its key has: even then the hash is determined.
    query = (
        f"select canonical_line from (select {keys}, {_line(fields)} as canonical_line from {relation}) "
        f"order by {keys}, canonical_line"
    )
    for batch in connection.execute(query).to_arrow_reader(BATCH_ROWS):
        if not batch.num_rows:
            continue
        lines = batch.column(0)
        _, offsets_buffer, data = lines.buffers()
        offsets = memoryview(offsets_buffer).cast("q" if "large" in str(lines.type) else "i")
        take(memoryview(data)[offsets[lines.offset] : offsets[lines.offset + len(lines)]])
        rows += len(lines)
    return ContentHash(rows, digest.hexdigest())


def select_list(fields: Iterable[Field]) -> str:
    """The fields as a select list that casts each to its type."""
    return ", ".join(f"cast({identifier(f.name)} as {f.type}) as {identifier(f.name)}" for f in fields)


def _header(fields: tuple[Field, ...]) -> bytes:
    cells = (f"{field.name} {field.type.lower()}".replace('"', '""') for field in fields)
    return (",".join(f'"{cell}"' for cell in cells) + "\n").encode()


def _line(fields: tuple[Field, ...]) -> str:
    return f"concat_ws(',', {', '.join(_cell(field) for field in fields)}) || chr(10)"


def _cell(field: Field) -> str:
    value = f"cast({identifier(field.name)} as {field.type})"
    if field.type == "VARCHAR":
        return f"""coalesce('"' || replace({value}, '"', '""') || '"', '')"""
    if field.type == "TIMESTAMP WITH TIME ZONE":
        # Not through the session's time zone, which is also four times slower. epoch_us(infinity) is null.
        return f"coalesce(cast(make_timestamp(epoch_us({value})) as varchar) || 'Z', cast({value} as varchar), '')"
    return f"coalesce(cast({value} as varchar), '')"
