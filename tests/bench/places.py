"""Where the bench keeps its databases and lakes: a PostgreSQL of its own, as the product configures it."""

import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from include.connections import Connection, Postgres, Storage
from include.lake import schemas
from include.lake.attach import Lake
from include.lake.extensions import link_extensions
from include.lake.passfile import use_passwords
from include.local import postgres
from include.local.postgres import LocalPostgres
from include.release import ledger
from tests.conftest import fresh_database

MEMORY_LIMIT = "4GB"  # the product's default


@dataclass(frozen=True)
class Places:
    """A running server and a folder; picklable, so that a sample's process can make what it needs."""

    folder: Path
    server: LocalPostgres
    extensions: Path
    _kept: dict[Hashable, Any] = field(default_factory=dict, compare=False)
    _stack: ExitStack = field(default_factory=ExitStack, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Places, (self.folder, self.server, self.extensions)

    def kept(self, key: Hashable, make: Callable[[], AbstractContextManager[Any]]) -> Any:
        """What several rows begin with, made when the first asks and there until the end."""
        if key not in self._kept:
            self._kept[key] = self._stack.enter_context(make())
        return self._kept[key]

    def let_go(self) -> None:
        """End all that is kept."""
        self._kept.clear()
        self._stack.close()

    @contextmanager
    def lake(self) -> Iterator[Lake]:
        """An empty lake of its own, with the schemas that set-up makes."""
        folder = self.scratch()
        with fresh_database(self.server, "lake") as catalog:
            lake = Lake(
                catalog, Storage(str(folder / "lake")), self.extensions, folder / "tmp", memory_limit=MEMORY_LIMIT
            )
            with lake.open() as connection:
                schemas.ensure(connection)
            yield lake
        shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def marts(self) -> Iterator[Postgres]:
        """An empty marts database with its ledger, as the publishing role; the reading role may connect."""
        with fresh_database(self.server, "marts_publisher") as marts:
            self._as_superuser("grant connect on database {} to marts_reader", marts.database)
            ledger.ensure(marts)
            yield marts

    @contextmanager
    def source(self) -> Iterator[tuple[Postgres, Connection]]:
        """An operational database, as its owner, and the connection of the role that only reads it."""
        with fresh_database(self.server, "saas_owner") as owner:
            self._as_superuser("grant connect on database {} to saas_reader", owner.database)
            reader = self.server.as_role("saas_reader", owner.database)
            use_passwords(reader)
            yield (
                owner,
                Connection(
                    "saas_bench", host=reader.host, login=reader.user, password=reader.password, schema=reader.database
                ),
            )

    def scratch(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def superuser(self, database: str) -> Postgres:
        return self.server.as_role(postgres.SUPERUSER, database)

    def _as_superuser(self, statement: str, database: str) -> None:
        administrator = self.superuser("postgres")
        with psycopg.connect(administrator.conninfo(), password=administrator.password, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(database)))  # type: ignore[arg-type]


@contextmanager
def open_places() -> Iterator[Places]:
    """Everything that rows need, for as long as the block lasts."""
    # Short, for a Unix socket, and open to PostgreSQL's own user.
    folder = Path(tempfile.mkdtemp(prefix="lake-bench-"))
    folder.chmod(0o755)
    try:
        server = postgres.start(folder / "pg")
        use_passwords(*server.servers)
        link_extensions(folder / "extensions")
        try:
            places = Places(folder, server, folder / "extensions")
            try:
                yield places
            finally:
                places.let_go()
        finally:
            postgres.stop(folder / "pg")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
