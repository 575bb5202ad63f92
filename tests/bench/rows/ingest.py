"""Rows 1 and 2: from sources into bronze."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import orjson

from include.connections import Connection, Postgres
from include.interval import Interval
from include.lake.attach import Lake, literal
from include.lake.passfile import use_passwords
from include.sources.nightscout.sites import Site, read_sites
from include.sources.nightscout.streams import ENTRIES
from include.sources.postgres.databases import Database
from tests.bench import sites as bench_sites
from tests.bench.places import Places
from tests.bench.runner import in_child
from tests.bench.spec import Clock, Row, Scale, Size

END = date(2026, 11, 1)

# --- over HTTP --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Web:
    """Sites that answer, the range that is asked for, and the questions that a load of it asks."""

    places: Places
    sites: tuple[Site, ...]
    connections: dict[str, Connection]
    interval: Interval
    questions: tuple[tuple[str, ...], ...] = ()

    def connection(self, conn_id: str) -> Connection:
        return self.connections[conn_id]


@contextmanager
def web(places: Places, size: Size, *, sites: int = 10) -> Iterator[Web]:
    """Ten sites, a reading each five minutes over so many days."""
    first = END - timedelta(days=size.number)
    with bench_sites.served(sites, first, END) as (yaml, variables):
        file = places.scratch() / "sites.yaml"
        file.write_text(yaml)
        connections = {
            name.removeprefix("AIRFLOW_CONN_").lower(): Connection.parse(
                name.removeprefix("AIRFLOW_CONN_").lower(), text
            )
            for name, text in variables.items()
        }
        world = Web(places, tuple(read_sites(file)), connections, Interval.of_days(first, END))
        questions = in_child(_questions, world)
        yield Web(world.places, world.sites, world.connections, world.interval, questions)


def ingest_http(world: Web, clock: Clock) -> int:
    from include.sources.nightscout.pipeline import ingest

    with world.places.lake() as lake:
        folder = world.places.scratch()
        with clock:
            result = ingest(
                lake, ENTRIES, world.interval, world.sites, world.connection, pipelines_dir=folder, lookback_days=0
            )
        shutil.rmtree(folder, ignore_errors=True)
    return sum(site.records for site in result.sites)


def pages_alone(world: Web, clock: Clock) -> int:
    """The same questions, site by site at once as ours asks them, answers parsed and counted."""
    import httpx

    verify = httpx.create_ssl_context()
    headers = [_headers(site, world) for site in world.sites]

    def read(urls: tuple[str, ...], headers: dict[str, str]) -> int:
        readings = 0
        with httpx.Client(headers=headers, verify=verify, trust_env=False, timeout=60) as client:
            for url in urls:
                answer = orjson.loads(client.get(url).content)
                readings += len(answer["result"]) if "/history/" not in url and "sort" in url else 0
        return readings

    with clock, ThreadPoolExecutor(len(world.sites)) as pool:
        return sum(pool.map(read, world.questions, headers))


def _questions(world: Web) -> tuple[tuple[str, ...], ...]:
    """The addresses that fetching the range asks, by site, in order; without those that log in."""
    from include.sources.nightscout.client import SiteClient
    from include.sources.nightscout.fetch import fetch_site

    asked = []
    for site in world.sites:
        urls: list[str] = []
        with SiteClient(site, world.connection(site.connection_id)) as client:
            client._http.event_hooks["request"] = [lambda request, urls=urls: urls.append(str(request.url))]
            fetch_site(client, ENTRIES, world.interval, 0)
        asked.append(tuple(url for url in urls if "/authorization/" not in url))
    return tuple(asked)


def _headers(site: Site, world: Web) -> dict[str, str]:
    from include.sources.nightscout.client import SiteClient

    with SiteClient(site, world.connection(site.connection_id)) as client:
        client.connect()
        return client._v3_headers()


HTTP = Row(
    number="1",
    name="ingest_http",
    ours="ingest of readings over HTTP into bronze, 10 sites",
    bound="the same pages fetched and parsed with httpx and orjson alone",
    goal=1.5,
    sizes={
        Scale.SMALL: (Size("30 days, 86 k readings", 30),),
        Scale.FULL: (Size("1 year, 1.05 M readings", 365), Size("10 years, 10.5 M readings", 3650)),
    },
    world=web,
    run=ingest_http,
    against=pages_alone,
    parts={
        "fetch and make Arrow": "include.sources.nightscout.pipeline:_Sites.fetch",
        "dlt: load": "include.sources.nightscout.pipeline:_Sites.load",
        "check": "include.sources.nightscout.pipeline:_Sites.check",
    },
    same_work=False,  # pages overlap by a reading, which ours drops
    note="a small load is mostly what a load costs whatever its size: dlt's record, the lake's commits",
)

# --- from PostgreSQL --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operational:
    """A database with one big table, as its owner and as the role that reads it."""

    places: Places
    owner: Postgres
    reader: Connection
    rows: int


@contextmanager
def operational(places: Places, size: Size) -> Iterator[Operational]:
    """So many product events over three years: two numbers, two texts, jsonb, four timestamps, three indexes."""
    from include.local.saas.database import ensure_schema

    with places.source() as (owner, reader):
        import psycopg

        with psycopg.connect(owner.conninfo(), autocommit=True) as connection:
            ensure_schema(connection)
            connection.execute("drop index app.product_events_updated_at, app.product_events_occurred_at")
        config = {"extension_directory": str(places.extensions), "allow_unsigned_extensions": True}
        with duckdb.connect(":memory:", config=config) as duck:
            duck.execute("load postgres_scanner; set TimeZone = 'UTC'")
            duck.execute(f"attach {literal(owner.conninfo())} as app (type postgres)")
            duck.execute(f"insert into app.app.product_events {_events_sql(size.number)}")
        with psycopg.connect(owner.conninfo(), autocommit=True) as connection:
            connection.execute("create index product_events_updated_at on app.product_events (updated_at)")
            connection.execute("create index product_events_occurred_at on app.product_events (occurred_at)")
        administrator = places.superuser(owner.database)
        with psycopg.connect(administrator.conninfo(), password=administrator.password, autocommit=True) as connection:
            connection.execute("vacuum analyze app.product_events")
            connection.execute("checkpoint")
        yield Operational(places, owner, reader, size.number)


def ingest_postgres(world: Operational, clock: Clock) -> int:
    from include.sources.postgres.pipeline import ingest
    from include.sources.saas.streams import STREAMS

    database = Database("bench", "saas_bench")
    with world.places.lake() as lake:
        folder = world.places.scratch()
        with clock:
            result = ingest(
                lake,
                STREAMS["product_events"],
                Interval.of_days(END - timedelta(days=1), END),
                [database],
                lambda _: world.reader,
                pipelines_dir=folder,
            )
        shutil.rmtree(folder, ignore_errors=True)
    return result.sites[0].records


def copy_alone(world: Operational, clock: Clock, *, statement: str = "from source.app.product_events") -> int:
    """One statement: DuckDB's postgres extension reads by COPY, several at once where the table is big."""
    reader = Postgres.of(world.reader)
    with world.places.lake() as lake:
        use_passwords(reader)
        with clock, lake.open() as connection:
            connection.execute(f"attach {literal(reader.conninfo())} as source (type postgres, read_only)")
            connection.execute(f"create table bronze.events as {statement}")
        return _count(lake)


def _count(lake: Lake) -> int:
    with lake.open(read_only=True) as connection:
        return connection.execute("select count(*) from bronze.events").fetchall()[0][0]


def _events_sql(rows: int) -> str:
    """Events spread evenly over the three years before END, ids in the order of time."""
    start = END - timedelta(days=3 * 365)
    step = 3 * 365 * 86_400_000_000 // rows
    return f"""
        select number as event_id, (hash(number) % 5800)::bigint as account_id,
            (hash(number, 1) % 20000)::bigint as user_id,
            ['login', 'view_report', 'create_item', 'export', 'invite_user', 'api_call'][1 + (hash(number) % 6)::bigint]
                as event_name,
            make_timestamptz(epoch_us(timestamptz '{start} 00:00:00+00') + number * {step}) as occurred_at,
            '{{"platform": "' || ['web', 'ios', 'android', 'api'][1 + (hash(number) // 64 % 4)::bigint]
                || '", "items": ' || hash(number) // 512 % 40 || '}}' as properties,
            occurred_at as created_at, occurred_at as updated_at, null::timestamptz as deleted_at
        from range({rows}) as numbers (number)
    """


POSTGRES = Row(
    number="2",
    name="ingest_postgres",
    ours="ingest from PostgreSQL into bronze",
    bound="`COPY` out through DuckDB's postgres extension into a DuckLake table",
    goal=2.0,
    sizes={
        Scale.SMALL: (Size("500 k rows", 500_000),),
        Scale.FULL: (Size("10 M rows", 10_000_000),),
    },
    world=operational,
    run=ingest_postgres,
    against=copy_alone,
    parts={
        "read from the source": "include.sources.keyed:_Keyed.fetch",
        "dlt: load": "include.sources.keyed:_Keyed.load",
        "check": "include.sources.keyed:_Keyed.check",
    },
    note="pages follow each other, where the bound has several connections; rows land by month, keys are checked",
)
