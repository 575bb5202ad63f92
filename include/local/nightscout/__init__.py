"""Demo Nightscout sites: a real HTTP server on the loopback, with as many sites as wanted on one port.

A site's base URL is `http://127.0.0.1:<port>/<site>`; below it are `/api/v1/…`, `/api/v2/authorization/request/<token>`
and `/api/v3/…`, answering as Nightscout does (status codes, find operators, ordering, defaults, deletions). Over HTTP
it is read-only; documents are changed through the objects below.

In a test:

    from include.local.nightscout import Fault, NightscoutSite, demo_sites, serve

    site = NightscoutSite("amber", time_zone="Europe/Berlin")            # empty, API v1 and v3
    reading = site.add("entries", {"type": "sgv", "date": 1793500000000, "sgv": 120, "device": "share2"})
    with serve([site]) as server:                                        # any free port; stops on leaving
        server.url(site)                  # http://127.0.0.1:41234/amber
        server.sites_yaml()               # contents of a sites file for what is served
        server.connections()              # {"AIRFLOW_CONN_NIGHTSCOUT_AMBER": "{…}"}, for monkeypatch.setenv
        site.edit("entries", reading, {"sgv": 121})
        site.delete("entries", reading)   # v3: isValid false, still in history; a v1-only site forgets it
        site.fail(Fault("429", count=2, retry_after=1, path="entries"))
        site.requests                     # what was asked and answered, newest last
        site.documents("entries")         # what a reader should find now

    sites = demo_sites(date(2026, 11, 1), date(2026, 11, 29))            # four people, days [first, end) in UTC
    people = csv_sites(Path("readings.csv"))                             # one site a person; columns id, time, gl

Switches of a site: `v3=False` (an older Nightscout: `/api/v3` is 404), `auth="secret"` (its connection uses the API
secret instead of a token), `unreadable={"treatments"}` (its token may not read these: 403 in v3, 401 in v1),
`clock=lambda: ms` (the site's time: stamps, default windows, token expiry).

Late uploads: `add`, `edit` and `delete` take `visible_at` (epoch ms), the moment from which the change is on the site
and its srvModified. It matters only to a site with a clock; one without shows everything.

Times in this package are epoch milliseconds in UTC unless they say otherwise; glucose in entries is mg/dL.
"""

from include.local.nightscout.csv import csv_sites
from include.local.nightscout.demo import demo_sites
from include.local.nightscout.faults import Fault
from include.local.nightscout.server import SiteServer, serve
from include.local.nightscout.store import NightscoutSite

__all__ = ["Fault", "NightscoutSite", "SiteServer", "csv_sites", "demo_sites", "serve"]
