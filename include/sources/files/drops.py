"""The drops file: the folders and buckets that files are dropped into."""

from functools import partial
from pathlib import Path

from include.connections import Connection, Storage
from include.errors import SetupError
from include.sources.ingest import GetConnection
from include.sources.listing import Listed, listed_of, read_entries


def read_drops(path: Path, domain: str) -> tuple[Listed, ...]:
    """The drops of a YAML file: a list under the key `drops`.

    Raises:
        SetupError: see `read_entries`.
    """
    hint = f"set LAKE_{domain.upper()}_DROPS to a file that lists your drops (see include/sources/{domain}/README.md)"
    return read_entries(
        path,
        "drops",
        partial(listed_of, domain),
        keys=("site", "connection_id", "url", "optional"),
        required=("site",),
        hint=hint,
    )


def storage_of(drop: Listed, connections: GetConnection) -> Storage:
    """Where a drop is: its `url`, or what its connection says (as `lake_storage` does), with the connection's key.

    Raises:
        SetupError: neither says where; or it is a bucket and the connection is missing.
    """
    if drop.url and not drop.url.startswith("s3://"):
        return Storage(drop.url)  # a folder needs no key
    connection: Connection = connections(drop.connection_id)
    if drop.url:
        connection = Connection(
            connection.conn_id,
            login=connection.login,
            password=connection.password,
            extra={**connection.extra, "url": drop.url},
        )
    try:
        return Storage.of(connection)
    except SetupError as error:
        raise SetupError(f"Drop {drop.site}: {error}") from None
