"""The hash says the same of the same rows, wherever they are, and something else of any other rows."""

import hashlib
import io

import duckdb
import pytest

from include.release.content_hash import ContentHash, Field, content_hash

FIELDS = (Field("k", "INTEGER"), Field("v", "VARCHAR"))


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def of(connection: duckdb.DuckDBPyConnection, values: str, fields: tuple[Field, ...] = FIELDS) -> ContentHash:
    names = ", ".join(f'"{field.name}"' for field in fields)
    return content_hash(connection, f"(values {values}) t({names})", fields, ["k"])


def test_order_of_rows_does_not_matter(connection: duckdb.DuckDBPyConnection) -> None:
    rows = "select i as k, md5(i::text) as v from range(100000) t(i)"
    forth = content_hash(connection, f"({rows} order by i)", FIELDS, ["k"])
    connection.execute("set threads = 1")
    assert content_hash(connection, f"({rows} order by i desc)", FIELDS, ["k"]) == forth
    assert forth.rows == 100_000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(1, null)", "(1, '')"),
        ("(1, 'a'), (2, 'b')", "(1, 'a'), (2, 'c')"),
        ("(1, 'a'), (2, 'b')", "(1, 'b'), (2, 'a')"),
        ("(1, 'a')", "(1, 'a'), (1, 'a')"),
        ("(1, '\"')", "(1, '\"\"')"),
        ("(1, 'a\n2,\"b\"')", "(1, 'a'), (2, 'b')"),
        ("(1, 'a')", "(1, 'a ')"),
        ("(1, 'é')", "(1, 'e\u0301')"),
    ],
)
def test_different_rows_have_different_hashes(connection: duckdb.DuckDBPyConnection, one: str, other: str) -> None:
    assert of(connection, one).sha256 != of(connection, other).sha256


@pytest.mark.parametrize(
    ("type_", "one", "other"),
    [
        ("DOUBLE", "'0.0'", "'-0.0'"),
        ("DOUBLE", "'nan'", "null"),
        ("DOUBLE", "0.3", "0.1::double + 0.2::double"),
        ("FLOAT", "0.1", "0.10000001"),
        ("DECIMAL(18,3)", "1.001", "1.002"),
        ("TIMESTAMP WITH TIME ZONE", "'2026-11-01 00:00:00+00'", "'2026-11-01 00:00:00.000001+00'"),
        ("TIMESTAMP WITH TIME ZONE", "'infinity'", "null"),
        ("TIMESTAMP WITH TIME ZONE", "'infinity'", "'-infinity'"),
        ("BOOLEAN", "false", "null"),
    ],
)
def test_values_that_look_alike_are_told_apart(
    connection: duckdb.DuckDBPyConnection, type_: str, one: str, other: str
) -> None:
    fields = (Field("k", "INTEGER"), Field("v", type_))
    hashes = {of(connection, f"(1, cast({value} as {type_}))", fields).sha256 for value in (one, other)}
    assert len(hashes) == 2


def test_time_zone_of_the_session_does_not_matter(connection: duckdb.DuckDBPyConnection) -> None:
    fields = (Field("k", "INTEGER"), Field("v", "TIMESTAMP WITH TIME ZONE"))
    hashes = set()
    for zone in ("UTC", "America/St_Johns"):
        connection.execute(f"set TimeZone = '{zone}'")
        hashes.add(of(connection, "(1, timestamptz '2026-03-29 01:30:00+00')", fields).sha256)
    assert len(hashes) == 1


def test_names_and_types_are_part_of_the_hash(connection: duckdb.DuckDBPyConnection) -> None:
    shapes = [
        (Field("k", "INTEGER"), Field("v", "INTEGER")),
        (Field("k", "INTEGER"), Field("w", "INTEGER")),
        (Field("k", "INTEGER"), Field("v", "BIGINT")),
        (Field("k", "INTEGER"),),
    ]
    relation = "(select 1 as k, 2 as v, 2 as w where false)"
    assert len({content_hash(connection, relation, shape, ["k"]).sha256 for shape in shapes}) == len(shapes)


def test_hash_is_that_of_the_canonical_file_and_stays_so(connection: duckdb.DuckDBPyConnection) -> None:
    """If this fails, no earlier release can be verified any more: do not change the expectation, change the code."""
    fields = (
        Field('na"me', "VARCHAR"),
        Field("at", "TIMESTAMP WITH TIME ZONE"),
        Field("x", "DOUBLE"),
        Field("amount", "DECIMAL(9,2)"),
        Field("ok", "BOOLEAN"),
        Field("day", "DATE"),
    )
    relation = """(values
        ('b', timestamptz '2026-11-01 12:00:00.25+01', 1e300::double, 1.5, true, date '2026-11-01'),
        ('a,"ü"\n', null, '-0.0'::double, null, null, null),
        ('', timestamptz 'infinity', 'nan'::double, -0.01, false, date '0999-01-01')
    ) t("na""me", "at", x, amount, ok, day)"""
    sink = io.BytesIO()
    found = content_hash(connection, relation, fields, ['na"me'], sink)
    expected = (
        '"na""me varchar","at timestamp with time zone","x double","amount decimal(9,2)","ok boolean","day date"\n'
        '"",infinity,nan,-0.01,false,0999-01-01\n'
        '"a,""ü""\n",,-0.0,,,\n'
        '"b",2026-11-01 11:00:00.25Z,1e+300,1.50,true,2026-11-01\n'
    )
    assert sink.getvalue().decode() == expected
    assert found == ContentHash(3, hashlib.sha256(expected.encode()).hexdigest())
