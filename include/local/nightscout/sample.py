"""Four people for four days, with late, wrong and deleted records, on a port of the loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

from include.interval import Interval
from include.local.nightscout.demo import demo_sites
from include.local.nightscout.server import serve
from include.local.sample import Place, Sample

# Across the end of summer time in Europe and in America's week before its own.
FIRST, END = date(2026, 10, 24), date(2026, 10, 28)


@contextmanager
def sample(place: Place) -> Iterator[Sample]:
    """See `include.local.sample`."""
    with serve(demo_sites(FIRST, END)) as server:
        sites = place.folder / "sites.yaml"
        sites.write_text(server.sites_yaml())
        environment = {"LAKE_NIGHTSCOUT_SITES": str(sites), **server.connections()}
        yield Sample(Interval.of_days(FIRST, END), environment)
