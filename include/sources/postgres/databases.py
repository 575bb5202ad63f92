"""The databases file: which operational databases are read."""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from include.errors import SetupError
from include.sources.listing import read_entries

KEYS = ("database", "connection_id", "schema", "optional")


@dataclass(frozen=True)
class Database:
    """One source database.

    Attributes:
        database: id in every table, as `site`; lower case letters, digits, `-` and `_`.
        connection_id: connection that holds server, role and password; by default `<domain>_<database>`, with `_` for
            `-`.
        schema: the PostgreSQL schema that holds the tables.
        optional: a run stays green when this database fails.

    Raises:
        SetupError: a value is not one of these.
    """

    database: str
    connection_id: str
    schema: str = "app"
    optional: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.database, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.database):
            raise SetupError(f"Database id {self.database!r} must be text of lower case letters, digits, '-' and '_'.")
        for key in ("connection_id", "schema"):
            if not isinstance(getattr(self, key), str) or not getattr(self, key):
                raise SetupError(f"Database {self.database} has {key} {getattr(self, key)!r}; expected text.")
        if not isinstance(self.optional, bool):
            raise SetupError(f"Database {self.database} has optional {self.optional!r}; expected true or false.")

    @property
    def site(self) -> str:
        return self.database


def database_of(domain: str, database: str, connection_id: str = "", **values: object) -> Database:
    """A database with the usual name of its connection."""
    return Database(database, connection_id or f"{domain}_{str(database).replace('-', '_')}", **values)  # type: ignore[arg-type]


def read_databases(path: Path, domain: str) -> tuple[Database, ...]:
    """The databases of a YAML file: a list under the key `databases`.

    Raises:
        SetupError: see `read_entries`.
    """
    variable = f"LAKE_{domain.upper()}_DATABASES"
    hint = f"set {variable} to a file that lists your databases (see include/sources/{domain}/README.md)"
    make = partial(database_of, domain)
    return read_entries(path, "databases", make, keys=KEYS, required=("database",), hint=hint)
