"""From connections and settings to the values that the core works with; one place for laptop, server and Airflow."""

from collections.abc import Callable

from include import dbt_project
from include import settings as environment
from include.connections import Connection, Postgres, Storage
from include.errors import SetupError
from include.lake.attach import Lake

CATALOG = "lake_catalog"
CATALOG_READER = "lake_catalog_reader"
STORAGE = "lake_storage"
STORAGE_READER = "lake_storage_reader"
MARTS = "marts"
MARTS_READER = "marts_reader"
BACKUP = "lake_backup"

SHORTEST_KEY = 16

GetConnection = Callable[[str], Connection]


def lake(get: GetConnection = environment.connection) -> Lake:
    """The lake that the connections `lake_catalog` and `lake_storage` name."""
    return _lake(get(CATALOG), get(STORAGE))


def lake_reader(get: GetConnection = environment.connection) -> Lake:
    """The same lake, by a role that only reads, and by a key that only reads where there is one."""
    catalog = get(CATALOG_READER)
    try:
        storage = get(STORAGE_READER)
    except SetupError:  # a folder has no key
        storage = get(STORAGE)
    return _lake(catalog, storage)


def _lake(catalog: Connection, storage: Connection) -> Lake:
    settings = environment.settings()
    return Lake(
        catalog=Postgres.of(catalog),
        storage=Storage.of(storage),
        extensions=settings.extensions,
        temp_directory=settings.home / "tmp",
        metadata_schema=settings.metadata_schema,
        memory_limit=settings.memory_limit,
        threads=settings.threads,
    )


def marts(get: GetConnection = environment.connection) -> Postgres:
    """The database that marts are published to, as the role that publishes."""
    return Postgres.of(get(MARTS))


def marts_reader(get: GetConnection = environment.connection) -> Postgres:
    """The same database, as the role that only reads."""
    return Postgres.of(get(MARTS_READER))


def pseudonym_key(domain: str, get: GetConnection = environment.connection) -> str:
    """What a domain's people are pseudonymised with: the password of the connection `<domain>_pseudonym`.

    Raises:
        SetupError: there is no such connection, or its password is too short to be a key.
    """
    conn_id = f"{domain}_pseudonym"
    key = get(conn_id).password or ""
    if len(key) < SHORTEST_KEY:
        raise SetupError(
            f"Connection {conn_id} has a password of {len(key)} characters; expected a random key of {SHORTEST_KEY} or "
            "more. `make setup` and deploy/make-env generate one. Another key changes every pseudonym: keep it."
        )
    return key


def pseudonym_keys(domain: str, get: GetConnection = environment.connection) -> dict[str, str]:
    """The domain's key by its name, for `dbt_environment`; none where its models pseudonymise nobody."""
    return {domain: pseudonym_key(domain, get)} if dbt_project.pseudonymises(domain) else {}


def backups(get: GetConnection = environment.connection) -> Storage:
    """Where backups are; not the lake's own storage."""
    return Storage.of(get(BACKUP))
