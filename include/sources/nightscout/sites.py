"""The sites file: which Nightscout sites are read, and what a site does not say about itself."""

import re
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from include.errors import SetupError
from include.sources.listing import read_entries

UNITS = ("mg/dl", "mmol/l")
KEYS = ("site", "connection_id", "time_zone", "units", "optional", "url")


@dataclass(frozen=True)
class Site:
    """One Nightscout site.

    Attributes:
        site: id in every table; lower case letters, digits and `-`.
        connection_id: connection that holds address and secret; by default `nightscout_<site>`, with `_` for `-`.
        time_zone: IANA zone of the person's days.
        units: what glucose is displayed in, `mg/dl` or `mmol/l`.
        optional: a run stays green when this site fails.
        url: address, when it is not in the connection.

    Raises:
        SetupError: a value is not one of these.
    """

    site: str
    time_zone: str
    units: str = "mg/dl"
    connection_id: str = ""
    optional: bool = False
    url: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.site, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.site):
            raise SetupError(f"Site id {self.site!r} must be text of lower case letters, digits and '-'.")
        if not self.connection_id:
            object.__setattr__(self, "connection_id", f"nightscout_{self.site.replace('-', '_')}")
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
            raise SetupError(
                f"Site {self.site} has time zone {self.time_zone!r}; expected an IANA name such as Europe/Berlin."
            ) from None
        if self.units not in UNITS:
            raise SetupError(f"Site {self.site} has units {self.units!r}; expected {' or '.join(UNITS)}.")
        if not isinstance(self.optional, bool):
            raise SetupError(f"Site {self.site} has optional {self.optional!r}; expected true or false.")
        for key in ("connection_id", "url"):
            value = getattr(self, key)
            if value is not None and not isinstance(value, str):
                raise SetupError(f"Site {self.site} has {key} {value!r}; expected text.")


def read_sites(path: Path) -> tuple[Site, ...]:
    """The sites of a YAML file: a list under the key `sites`.

    Raises:
        SetupError: the file is missing, is not such a list, is empty, or a site in it is wrong or there twice.
    """
    hint = "set LAKE_NIGHTSCOUT_SITES to a file that lists your sites (see include/sources/nightscout/README.md)"
    return read_entries(path, "sites", Site, keys=KEYS, required=("site", "time_zone"), hint=hint)
