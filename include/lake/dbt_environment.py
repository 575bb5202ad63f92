"""What dbt/profiles.yml reads, so that dbt opens the same lake as everybody else."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from include.connections import Postgres, Storage
from include.lake.attach import Lake


def parse_environment() -> dict[str, str]:
    """Variables that let dbt read its profile where no lake is: an image build, a test. Nothing connects to them."""
    nowhere = Lake(Postgres("nowhere", 5432, "nowhere", "nobody"), Storage("nowhere"), Path("nowhere"), Path("nowhere"))
    return _variables(nowhere)


def dbt_environment(lake: Lake, pseudonym_keys: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment variables for a dbt process. The catalog's password is not among them: libpq has it by file.

    dbt keeps variables that start with DBT_ENV_SECRET_ out of its logs.

    Args:
        pseudonym_keys: by domain (`runtime.pseudonym_key`); a model that pseudonymises fails without its domain's.
    """
    lake.temp_directory.mkdir(parents=True, exist_ok=True)
    if not pseudonym_keys:
        return _variables(lake)
    # The profile reads them as one text, whatever domains there are; one by one, so that dbt blackens each.
    keys = {f"DBT_ENV_SECRET_{domain.upper()}_PSEUDONYM_KEY": key for domain, key in pseudonym_keys.items()}
    return _variables(lake) | keys | {"DBT_ENV_SECRET_PSEUDONYM_KEYS": json.dumps(dict(pseudonym_keys))}


def _variables(lake: Lake) -> dict[str, str]:
    storage = lake.storage
    variables = {
        "LAKE_DBT_TARGET": "s3" if storage.is_s3 else "folder",
        "LAKE_DBT_CATALOG": lake.catalog.conninfo(),
        "LAKE_DBT_STORAGE": storage.root,
        "LAKE_DBT_METADATA_SCHEMA": lake.metadata_schema,
        "LAKE_DBT_EXTENSIONS": str(lake.extensions),
        "LAKE_DBT_TEMP": lake.spill_directory(),
        "LAKE_DBT_MEMORY": lake.memory_limit,
        "LAKE_DBT_THREADS": str(lake.threads or os.cpu_count() or 1),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_CACHE_SELECTED_ONLY": "true",  # one model need not list what is in the other layers
    }
    if storage.is_s3:
        scheme, _, host = (storage.endpoint or "https://s3.amazonaws.com").rpartition("://")
        variables |= {
            "LAKE_DBT_S3_ENDPOINT": host,
            "LAKE_DBT_S3_USE_SSL": "false" if scheme == "http" else "true",
            "LAKE_DBT_S3_URL_STYLE": "path" if storage.endpoint else "vhost",
            "LAKE_DBT_S3_REGION": storage.region,
            "DBT_ENV_SECRET_S3_KEY_ID": storage.key_id or "",
            "DBT_ENV_SECRET_S3_SECRET": storage.secret or "",
            "DBT_ENV_SECRET_S3_SESSION_TOKEN": storage.session_token or "",
        }
    return variables
