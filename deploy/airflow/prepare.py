"""Make the lake's bucket, its schemas and the release ledger. Repeatable; the init service runs it."""

import os
import sys
import time
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from include import runtime
from include.connections import Storage
from include.errors import LakehouseError, SetupError
from include.local.stack import prepare_databases
from include.settings import connection

ATTEMPTS = 10
PROBE = ".lakehouse-probe"


def main() -> None:
    storage = Storage.of(connection(runtime.STORAGE))
    if storage.is_s3:
        ready_bucket(storage)
    prepare_databases()
    print("The lake and the marts are ready.")  # noqa: T201


def ready_bucket(storage: Storage, pause: float = 2.0) -> None:
    """Try the bucket as the lake, and where that fails make it with S3_ADMIN_ACCESS_KEY first.

    Raises:
        SetupError: the bucket cannot be used; holds the store's own codes.
    """
    lake = _client(storage, storage.key_id, storage.secret)
    try:
        try_bucket(lake, storage)
    except SetupError as refused:
        if not os.environ.get("S3_ADMIN_ACCESS_KEY"):
            raise
        admin = _client(storage, os.environ["S3_ADMIN_ACCESS_KEY"], os.environ["S3_ADMIN_SECRET_KEY"])
        try:
            make_bucket(admin, storage, pause)
        except (ClientError, BotoCoreError) as error:
            raise SetupError(f"{refused} Making it with S3_ADMIN_ACCESS_KEY failed too ({_code(error)}).") from None
        try_bucket(lake, storage)


def make_bucket(client, storage: Storage, pause: float) -> None:
    """Make the bucket unless it is there; a store that has just started may need some tries."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            client.create_bucket(Bucket=_bucket(storage))
            return
        except (ClientError, BotoCoreError) as error:
            if _code(error) in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                return
            refused = isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] < 500
            if refused or attempt == ATTEMPTS:
                raise
        time.sleep(pause)


def try_bucket(client, storage: Storage) -> None:
    """Write, read and delete a small object below the lake's prefix, as the lake will.

    Raises:
        SetupError: one of them was refused; holds the store's own code.
    """
    prefix = urlsplit(storage.url).path.strip("/")
    target = {"Bucket": _bucket(storage), "Key": f"{prefix}/{PROBE}".lstrip("/")}
    try:
        client.put_object(**target, Body=b"probe")
        client.get_object(**target)["Body"].read()
        client.delete_object(**target)
    except (ClientError, BotoCoreError) as error:
        raise SetupError(
            f"{storage.url} at {storage.endpoint or 'AWS'} refused a write, a read or a delete ({_code(error)}); the "
            "bucket must exist and connection lake_storage must hold a key that may do all three."
        ) from None


def _client(storage: Storage, key_id: str | None, secret: str | None):
    return boto3.client(
        "s3",
        endpoint_url=storage.endpoint,
        region_name=storage.region,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"max_attempts": 2},
            # The newer checksums are AWS's own; not every S3 store knows them.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if storage.endpoint else "auto"},
        ),
    )


def _bucket(storage: Storage) -> str:
    return urlsplit(storage.url).netloc


def _code(error: ClientError | BotoCoreError) -> str:
    """The store's code, never its message, which may quote the request."""
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__


if __name__ == "__main__":
    try:
        main()
    except LakehouseError as error:
        sys.exit(str(error))
