"""The APIs file: which servers are read."""

from functools import partial
from pathlib import Path

from include.sources.listing import Listed, listed_of, read_entries


def read_apis(path: Path, domain: str) -> tuple[Listed, ...]:
    """The APIs of a YAML file: a list under the key `apis`.

    Raises:
        SetupError: see `read_entries`.
    """
    hint = f"set LAKE_{domain.upper()}_APIS to a file that lists your APIs (see include/sources/{domain}/README.md)"
    return read_entries(
        path,
        "apis",
        partial(listed_of, domain),
        keys=("site", "connection_id", "url", "optional"),
        required=("site",),
        hint=hint,
    )
