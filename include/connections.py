"""Values that say where a server is, however the caller came by them (an Airflow Connection, the environment)."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from include.errors import SetupError


@dataclass(frozen=True)
class Connection:
    """What an Airflow Connection holds. The password never shows in a repr."""

    conn_id: str
    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, conn_id: str, text: str) -> "Connection":
        """Read the URI or the JSON form that `AIRFLOW_CONN_<ID>` takes.

        Raises:
            SetupError: the text is neither. It is not quoted in the message, since it may hold a secret.
        """
        name = f"AIRFLOW_CONN_{conn_id.upper()}"
        if text.lstrip().startswith("{"):
            try:
                values = json.loads(text)
            except ValueError:
                raise SetupError(f"{name} starts with '{{' but is not JSON; write a URI or a JSON object.") from None
            extra = values.get("extra") or {}
            return cls(
                conn_id=conn_id,
                host=values.get("host"),
                port=int(values["port"]) if values.get("port") else None,
                login=values.get("login"),
                password=values.get("password"),
                schema=values.get("schema"),
                extra=json.loads(extra) if isinstance(extra, str) else dict(extra),
            )
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise SetupError(f"{name} is not a URI that can be read; percent-encode its parts or use JSON.") from None
        if not parts.scheme:
            raise SetupError(f"{name} has no scheme; expected a URI such as postgres://user:password@host/database.")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        extra = json.loads(query["__extra__"]) if "__extra__" in query else query
        return cls(
            conn_id=conn_id,
            host=unquote(parts.hostname) if parts.hostname else None,
            port=port,
            login=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            schema=unquote(parts.path[1:]) or None,
            extra=extra,
        )


@dataclass(frozen=True)
class Postgres:
    """One PostgreSQL database as one role. `host` may be the folder of a Unix socket.

    `sslmode` and `sslrootcert` are libpq's; without them it encrypts if the server can, and believes any certificate.
    """

    host: str
    port: int
    database: str
    user: str
    password: str | None = field(default=None, repr=False)
    sslmode: str | None = None
    sslrootcert: str | None = None

    @classmethod
    def of(cls, connection: Connection) -> "Postgres":
        """Read from a connection; an `extra` of `host` names a socket folder, as libpq has it."""
        host = connection.host or connection.extra.get("host")
        if not host or not connection.schema or not connection.login:
            raise SetupError(
                f"Connection {connection.conn_id} needs a host, a login and a database name (its schema field)."
            )
        return cls(
            host,
            connection.port or 5432,
            connection.schema,
            connection.login,
            connection.password,
            connection.extra.get("sslmode"),
            connection.extra.get("sslrootcert"),
        )

    def conninfo(self) -> str:
        """libpq keywords without the password, which goes into a password file (see `include.lake.passfile`)."""
        return (
            f"host={_libpq(self.host)} port={self.port} dbname={_libpq(self.database)} user={_libpq(self.user)} "
            "connect_timeout=10"
            + "".join(f" {key}={_libpq(value)}" for key in ("sslmode", "sslrootcert") if (value := getattr(self, key)))
        )

    def uri(self) -> str:
        """What `AIRFLOW_CONN_<ID>` takes; the password is in it."""
        login = f"{quote(self.user, safe='')}:{quote(self.password or '', safe='')}"
        port = "" if self.port == 5432 else f":{self.port}"
        return f"postgres://{login}@{port}/{quote(self.database, safe='')}?host={quote(self.host, safe='')}"

    def passfile_line(self) -> str:
        """This server's line in a libpq password file."""
        parts = (self.host, str(self.port), self.database, self.user, self.password or "")
        return ":".join(part.replace("\\", "\\\\").replace(":", "\\:") for part in parts)


@dataclass(frozen=True)
class Storage:
    """Where the lake's Parquet files are: a folder, or `s3://bucket/prefix` on any S3 endpoint."""

    url: str
    endpoint: str | None = None
    region: str = "us-east-1"
    key_id: str | None = None
    secret: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if "://" in self.url and not self.is_s3:
            raise SetupError(f"Storage is {self.url}; expected a folder or s3://bucket/prefix.")

    @property
    def is_s3(self) -> bool:
        return self.url.startswith("s3://")

    @property
    def root(self) -> str:
        """What its paths begin with: ends in a slash, without which s3://lake would cover s3://lake-2 as well."""
        return self.url.rstrip("/") + "/"

    @classmethod
    def of(cls, connection: Connection) -> "Storage":
        """Read the extra of an `aws` connection (`url`, `endpoint_url`, `region_name`) or of a `file` one (`path`)."""
        extra = connection.extra
        url = extra.get("url") or extra.get("path")
        if not url:
            raise SetupError(
                f"Connection {connection.conn_id} names no place; put 'path' (a folder) or 'url' (s3://bucket/prefix) "
                "into its extra."
            )
        return cls(
            url=url,
            endpoint=extra.get("endpoint_url"),
            region=extra.get("region_name", "us-east-1"),
            key_id=connection.login,
            secret=connection.password,
            session_token=extra.get("session_token"),
        )


def _libpq(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
