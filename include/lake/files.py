"""Files of a storage, a folder or a bucket: listed, read, and put whole or not at all."""

import base64
import hashlib
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import urlsplit

from include.connections import Storage
from include.errors import LakehouseError

CHUNK = 1024 * 1024
INCOMING = ".incoming"
PUT_LIMIT = 5 * 1024**3  # what S3 takes in one request


# What another try cannot mend.
REFUSALS = ("AccessDenied", "InvalidAccessKeyId", "NoSuchBucket", "SignatureDoesNotMatch")


class StorageError(LakehouseError):
    """A storage refused, or is not there; `retryable` unless it said no for good."""


class Entry(NamedTuple):
    """A file as it is listed: size in bytes, and when it was last written, in UTC."""

    size: int
    modified_at: datetime


class Files(ABC):
    """The files below one storage's url, by their path relative to it."""

    def __init__(self, storage: Storage, incoming: Path) -> None:
        self.storage, self._incoming = storage, incoming

    @classmethod
    def of(cls, storage: Storage, temp: Path) -> "Files":
        """The files of a storage; `temp` is where what goes to a bucket waits to be whole."""
        # A folder's files must wait on its own file system to be moved at once.
        return Bucket(storage, temp / "incoming") if storage.is_s3 else Folder(storage, Path(storage.url) / INCOMING)

    @abstractmethod
    def entries(self, prefix: str = "") -> dict[str, Entry]:
        """Every file whose path starts with `prefix`; empty if the place is not there."""

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Size in bytes of each of them."""
        return {path: entry.size for path, entry in self.entries(prefix).items()}

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """A stream of a file.

        Raises:
            FileNotFoundError: there is none.
        """

    @abstractmethod
    def delete(self, paths: Iterable[str]) -> None:
        """Delete files; those that are gone already are fine."""

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A local file to write to, which `put` then moves or sends to its place; gone afterwards."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        path = self._incoming / uuid.uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @abstractmethod
    def put(self, path: str, incoming: Path) -> None:
        """Give the file that was written to `incoming` its place; nobody ever sees a part of it."""

    def forget_incoming(self) -> None:
        """Remove what a killed process left; only for somebody who is alone here."""
        shutil.rmtree(self._incoming, ignore_errors=True)

    def read(self, path: str) -> bytes:
        """A small file's content."""
        with self.open(path) as stream:
            return stream.read()

    def write(self, path: str, content: bytes) -> None:
        """Put a small file."""
        with self.incoming() as incoming:
            incoming.write_bytes(content)
            self.put(path, incoming)

    def sha256(self, path: str) -> str:
        """The hash of a file's content, read now."""
        with self.open(path) as stream:
            return _sha256(stream)


class Folder(Files):
    def __init__(self, storage: Storage, incoming: Path) -> None:
        super().__init__(storage, incoming)
        self._root = Path(storage.url)

    def entries(self, prefix: str = "") -> dict[str, Entry]:
        found = {}
        for folder, _, names in os.walk(self._root / prefix.rpartition("/")[0]):
            for name in names:
                path = Path(folder, name)
                relative = path.relative_to(self._root).as_posix()
                if relative.startswith(prefix) and not relative.startswith(f"{INCOMING}/"):
                    with suppress(FileNotFoundError):  # went while we looked
                        status = path.stat()
                        found[relative] = Entry(status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
        return found

    def open(self, path: str) -> BinaryIO:
        return (self._root / path).open("rb")

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            (self._root / path).unlink(missing_ok=True)
            for folder in list((self._root / path).relative_to(self._root).parents)[:-1]:
                try:
                    (self._root / folder).rmdir()
                except OSError:  # not empty
                    break

    def put(self, path: str, incoming: Path) -> None:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with incoming.open("rb") as file:
            os.fsync(file.fileno())
        incoming.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Bucket(Files):
    def __init__(self, storage: Storage, incoming: Path) -> None:
        super().__init__(storage, incoming)
        parts = urlsplit(storage.url)
        self._bucket, prefix = parts.netloc, parts.path.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = s3_client(storage)

    def entries(self, prefix: str = "") -> dict[str, Entry]:
        from botocore.exceptions import BotoCoreError, ClientError

        found = {}
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", []):
                    found[item["Key"][len(self._prefix) :]] = Entry(item["Size"], item["LastModified"])
        except (ClientError, BotoCoreError) as error:
            raise self._refused("listing", error) from None
        return found

    def open(self, path: str) -> BinaryIO:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + path)["Body"]
            return cast(BinaryIO, _Body(body, lambda error: self._refused(f"reading {path}", error)))
        except self._client.exceptions.NoSuchKey:
            raise FileNotFoundError(f"{self.storage.url.rstrip('/')}/{path}") from None
        except (ClientError, BotoCoreError) as error:
            raise self._refused(f"reading {path}", error) from None

    def delete(self, paths: Iterable[str]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        for path in paths:
            try:  # one by one: not every S3 store takes many at once without checksums of its own
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + path)
            except (ClientError, BotoCoreError) as error:
                raise self._refused(f"deleting {path}", error) from None

    def put(self, path: str, incoming: Path) -> None:
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        key = self._prefix + path
        try:
            if incoming.stat().st_size > PUT_LIMIT:
                self._client.upload_file(str(incoming), self._bucket, key)
                return
            with incoming.open("rb") as file:
                md5 = base64.b64encode(hashlib.file_digest(file, _md5).digest()).decode()
                file.seek(0)
                # The store compares the hash before the object exists.
                self._client.put_object(Bucket=self._bucket, Key=key, Body=file, ContentMD5=md5)
        except (ClientError, BotoCoreError, S3UploadFailedError) as error:
            raise self._refused(f"writing {path}", error) from None

    def _refused(self, what: str, error: Exception) -> StorageError:
        # The store's code, never its message, which may quote the request.
        code = getattr(error, "response", {}).get("Error", {}).get("Code") or type(error).__name__
        return StorageError(
            f"{self.storage.url} at {self.storage.endpoint or 'AWS'} refused {what} ({code}); the bucket must exist "
            "and the connection's key must be allowed to list, read, write and delete in it.",
            retryable=code not in REFUSALS,
        )


class _Body:
    """The stream of an object, whose interruption is an error of ours."""

    def __init__(self, body: Any, refused: Callable[[Exception], StorageError]) -> None:
        self._body, self._refused = body, refused

    def read(self, size: int | None = None) -> bytes:
        from botocore.exceptions import BotoCoreError

        try:
            return self._body.read(size)
        except BotoCoreError as error:
            raise self._refused(error) from None

    def __enter__(self) -> "_Body":
        return self

    def __exit__(self, *_: object) -> None:
        self._body.close()


def s3_client(storage: Storage):
    """A client for any S3 store, safe to share between threads."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=storage.endpoint or None,
        region_name=storage.region,
        aws_access_key_id=storage.key_id or None,
        aws_secret_access_key=storage.secret or None,
        aws_session_token=storage.session_token or None,
        config=Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"max_attempts": 5, "mode": "standard"},
            max_pool_connections=16,
            # The newer checksums are AWS's own; not every S3 store knows them.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if storage.endpoint else "auto"},
        ),
    )


def fetch(source: Files, path: str, into: Path) -> tuple[int, str]:
    """Copy a file to a local one and read that back; its size in bytes and its sha256.

    Raises:
        FileNotFoundError: the source has no such file.
        StorageError: what was written is not what was read.
    """
    digest = hashlib.sha256()
    with source.open(path) as stream, into.open("wb") as file:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
    with into.open("rb") as file:
        if _sha256(file) != digest.hexdigest():
            raise StorageError(f"{path} was copied to {into.parent} and reads back differently; check that disk.")
    return into.stat().st_size, digest.hexdigest()


def require_space(storage: Storage, size: int) -> None:
    """Check that a folder's disk has room; a bucket says so itself.

    Raises:
        StorageError: it has less than `size` bytes.
    """
    if storage.is_s3:
        return
    folder = next(each for each in (Path(storage.url), *Path(storage.url).absolute().parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if free < size:
        raise StorageError(
            f"{storage.url} needs {size / 1e9:.2f} GB and its disk has {free / 1e9:.2f} GB left; make room there."
        )


def _sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)
