"""Looks for secrets wherever a stack writes: files, tables, Parquet, command lines."""

import gzip
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet

from include.connections import Storage
from include.lake.files import s3_client
from include.settings import ROOT
from tests.faults.scheduler import in_session, leaders, metadata
from tests.pipeline.own_stack import Stack

# Where secrets belong: each readable by its owner alone.
KEPT = ("env", "pgpass", "passwords.json", "keys.json", "airflow/passwords.json")


@dataclass
class Searched:
    """What was looked through, by kind, and where a secret was found."""

    secrets: int
    looked: Counter[str] = field(default_factory=Counter)
    hits: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        looked = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.looked.items()))
        return f"{self.secrets} secrets in {looked}: {len(self.hits)} found"

    def look(self, kind: str, where: object, content: bytes, secrets: Mapping[str, str]) -> None:
        self.looked[kind] += 1
        for whose, secret in secrets.items():
            if any(form in content for form in (secret.encode(), secret.encode().hex().encode())):
                self.hits.append(f"{where} holds the secret of {whose}")


def everywhere(stack: Stack, storages: Iterable[Storage], secrets: Mapping[str, str]) -> Searched:
    """Everything that the stack wrote, but for the few files that hold secrets on purpose."""
    found = Searched(len(secrets))
    places = [stack.home, ROOT / "dbt" / "target", ROOT / "dbt" / "logs"]
    in_files(found, places, secrets, kept={stack.home / name for name in KEPT})
    for storage in storages:
        in_bucket(found, storage, secrets)
    for database in ("airflow", "lake_catalog", "marts"):
        in_database(found, stack, database, secrets)
    in_processes(found, stack, secrets)
    return found


def in_files(found: Searched, places: Iterable[Path], secrets: Mapping[str, str], kept: Iterable[Path] = ()) -> None:
    kept = set(kept)
    for place in places:
        for path in place.rglob("*"):
            if path in kept:
                assert path.stat().st_mode & 0o077 == 0, f"{path} holds secrets and others may read it"
            elif path.is_file() and not path.is_symlink():
                try:
                    content = path.read_bytes()
                except FileNotFoundError:
                    continue  # a process that runs took it away
                found.look("files", path, _unpacked(path.name, content), secrets)


def in_bucket(found: Searched, storage: Storage, secrets: Mapping[str, str]) -> None:
    client, bucket = s3_client(storage), storage.url.removeprefix("s3://").partition("/")[0]
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            content = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
            found.look("objects", f"s3://{bucket}/{item['Key']}", _unpacked(item["Key"], content), secrets)


def in_database(found: Searched, stack: Stack, database: str, secrets: Mapping[str, str]) -> None:
    with metadata(stack, database) as connection:
        tables = connection.execute(
            "select quote_ident(schemaname) || '.' || quote_ident(tablename) as name from pg_tables "
            "where schemaname not in ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert tables, f"database {database} has no table"
        for table in tables:
            rows = connection.execute(f"select string_agg(t::text, ' ') as rows from {table['name']} t").fetchone()  # type: ignore[arg-type]
            found.look("tables", f"{database}.{table['name']}", ((rows or {})["rows"] or "").encode(), secrets)


def in_processes(found: Searched, stack: Stack, secrets: Mapping[str, str]) -> None:
    """What everybody on the machine can see of a process: its command line."""
    for leader in leaders(stack):
        for process in in_session(leader):
            try:
                line = " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                continue
            found.look("command lines", line, line.encode(), secrets)


def _unpacked(name: str, content: bytes) -> bytes:
    """With what compression hides."""
    if name.endswith(".parquet"):
        table = pyarrow.parquet.read_table(pa.BufferReader(content))
        return content + "\n".join(str(column.to_pylist()) for column in table.columns).encode()
    return content + gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
