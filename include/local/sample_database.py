"""A database of made-up rows, for a domain that reads PostgreSQL: what its `sample.py` is made with."""

import json
import secrets
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psycopg
from psycopg import sql

from include.interval import Interval
from include.local.sample import Place, Sample

# Of people who never were.
PSEUDONYM_KEY = "a key for people who never were"


@contextmanager
def sample_database(
    place: Place, domain: str, database: str, interval: Interval, statements: Sequence[str], *, schema: str = "app"
) -> Iterator[Sample]:
    """A database in the given PostgreSQL, with a role that may only read it; dropped when the block ends.

    Args:
        database: its id in the lake.
        statements: SQL that makes its tables and rows; each finds the tables' schema by `search_path`.
    """
    superuser = place.postgres.superuser
    name = f"{domain[:40]}_{uuid.uuid4().hex[:8]}"
    reader = replace(superuser, database=name, user=f"{name}_reader", password=secrets.token_urlsafe(16))
    role, named = sql.Identifier(reader.user), sql.Identifier(schema)
    with psycopg.connect(superuser.conninfo(), password=superuser.password, autocommit=True) as server:
        server.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        server.execute(sql.SQL("create role {} login password {}").format(role, sql.Literal(reader.password)))
        try:
            owner = replace(superuser, database=name)
            with psycopg.connect(owner.conninfo(), password=owner.password) as connection:
                connection.execute(sql.SQL("create schema if not exists {}").format(named))
                connection.execute(sql.SQL("set search_path to {}").format(named))
                connection.execute("set local timezone to 'UTC'")
                for statement in statements:
                    connection.execute(statement)  # type: ignore[arg-type]
                connection.execute(sql.SQL("grant usage on schema {} to {}").format(named, role))
                connection.execute(sql.SQL("grant select on all tables in schema {} to {}").format(named, role))
            file = place.folder / f"{domain}_databases.yaml"
            file.write_text(f"databases:\n  - database: {database}\n    schema: {schema}\n")
            yield Sample(
                interval,
                {
                    f"LAKE_{domain.upper()}_DATABASES": str(file),
                    f"AIRFLOW_CONN_{domain.upper()}_{database.upper()}": reader.uri(),
                    f"AIRFLOW_CONN_{domain.upper()}_PSEUDONYM": json.dumps(
                        {"conn_type": "generic", "password": PSEUDONYM_KEY}
                    ),
                },
            )
        finally:
            server.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
            server.execute(sql.SQL("drop role {}").format(role))
