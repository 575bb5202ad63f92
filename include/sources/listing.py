"""Files that list what is read (sites, databases): YAML with one key, and a list of entries under it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from include.errors import SetupError

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Listed:
    """One server or place that is read, where nothing else is to be said of it.

    Attributes:
        site: id in every table; lower case letters, digits, `-` and `_`.
        connection_id: connection that holds address and secret; by default `<domain>_<site>`, with `_` for `-`.
        url: address, when it is not in the connection.
        optional: a run stays green when this one fails.

    Raises:
        SetupError: a value is not one of these.
    """

    site: str
    connection_id: str
    url: str | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.site, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.site):
            raise SetupError(f"Site id {self.site!r} must be text of lower case letters, digits, '-' and '_'.")
        for key in ("connection_id", "url"):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, str) or not value):
                raise SetupError(f"Site {self.site} has {key} {value!r}; expected text.")
        if not isinstance(self.optional, bool):
            raise SetupError(f"Site {self.site} has optional {self.optional!r}; expected true or false.")


def listed_of(domain: str, site: str, connection_id: str = "", **values: Any) -> Listed:
    """An entry with the usual name of its connection."""
    return Listed(site, connection_id or f"{domain}_{str(site).replace('-', '_')}", **values)


def read_entries(
    path: Path,
    key: str,
    make: Callable[..., Entry],
    *,
    keys: Sequence[str],
    required: Sequence[str],
    hint: str,
) -> tuple[Entry, ...]:
    """The entries of a file.

    Args:
        key: the only key of the file, such as `sites`; what is said of the file follows from it.
        make: an entry from its values.
        required: those of `keys` that an entry must have; the first is what tells entries apart.
        hint: what to do if there is no such file.

    Raises:
        SetupError: the file is missing, is not such a list, is empty, or an entry in it is wrong or there twice.
    """
    what, one = f"{key} file", key.removesuffix("s")
    if not path.is_file():
        raise SetupError(f"There is no {what} at {path}; {hint}, or run `make demo`, which writes one.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SetupError(f"The {what} {path} is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        raise SetupError(f"The {what} {path} is empty; {hint}.")
    listed = content.get(key) if isinstance(content, dict) else None
    if not isinstance(listed, list) or set(content) != {key}:
        raise SetupError(f"The {what} {path} must hold one key, '{key}', with a list of {key}.")
    if not listed:
        raise SetupError(f"The {what} {path} lists no {one}; {hint}.")
    entries = [
        _entry(f"Entry {number} of the {what} {path}", values, make, keys, required)
        for number, values in enumerate(listed, 1)
    ]
    names = [getattr(entry, required[0]) for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SetupError(f"The {what} {path} lists {', '.join(twice)} more than once.")
    return tuple(entries)


def _entry(where: str, values: Any, make: Callable[..., Entry], keys: Sequence[str], required: Sequence[str]) -> Entry:
    if not isinstance(values, dict):
        raise SetupError(f"{where} is not a list of 'key: value' lines.")
    unknown = sorted(str(key) for key in values if key not in keys)
    if unknown:
        raise SetupError(f"{where} has unknown key {', '.join(unknown)}; known are {', '.join(keys)}.")
    missing = [key for key in required if key not in values]
    if missing:
        raise SetupError(f"{where} lacks {' and '.join(missing)}.")
    try:
        return make(**values)
    except SetupError as error:
        raise SetupError(f"{where}: {error}") from None
