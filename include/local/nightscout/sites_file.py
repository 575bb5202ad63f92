"""What points the pipeline at running demo sites: a sites file, and a connection a site."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from include.local.nightscout.store import NightscoutSite


def sites_yaml(sites: Iterable["NightscoutSite"]) -> str:
    """A sites file: id, time zone and unit of display of each site. It holds no secret."""
    lines = ["sites:"]
    for site in sites:
        lines += [f'  - site: "{site.site}"', f"    time_zone: {site.time_zone}", f"    units: {site.units}"]
    return "\n".join(lines) + "\n"


def connection_variables(sites: Iterable["NightscoutSite"], host: str, port: int) -> dict[str, str]:
    """`AIRFLOW_CONN_NIGHTSCOUT_<SITE>` for each site: JSON with its address and its own token or secret."""
    return {variable_name(site.site): _connection(site, host, port) for site in sites}


def variable_name(site: str) -> str:
    """The environment variable of a site's connection."""
    return f"AIRFLOW_CONN_NIGHTSCOUT_{site.replace('-', '_').upper()}"


def _connection(site: "NightscoutSite", host: str, port: int) -> str:
    connection = {
        "conn_type": "http",
        "host": host,
        "port": port,
        "schema": "http",
        "password": site.credential,
        "extra": {"url": f"http://{host}:{port}/{site.site}", "auth": site.auth},
    }
    return orjson.dumps(connection).decode()
