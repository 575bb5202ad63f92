"""A person is erased from a lake that its own flow made: from every layer, older snapshots, marts and results."""

import itertools
import json
import re
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.connections import Postgres, Storage
from include.erasure.forget import plan
from include.erasure.people import SubjectError
from include.errors import GateError, LakehouseError, ReleaseError, SetupError
from include.lake import erasures, fsck
from include.lake.attach import Lake
from include.lake.backup import Location, backup
from include.lake.files import Files
from include.lake.maintenance import Keep, maintain
from include.lake.restore import restore
from include.local.nightscout import NightscoutSite
from include.release import ledger
from include.release.coverage import covered_days
from include.release.reproduce import published_differences, reproduce
from include.sources.subjects import Subject, nobody, subjects
from tests.faults import children
from tests.faults.children import Before, Entering
from tests.pipeline.conftest import MakeFlow
from tests.pipeline.flow import PSEUDONYM_KEY, DomainFlow, Flow
from tests.pipeline.test_bad_input import DAY, NEXT, START, full_day
from tests.pipeline.test_saas import LAST, ONE_DAY, Make, SaasFlow, make, source, until  # noqa: F401

KEPT, GONE = "amber", "birchwood"


@pytest.fixture
def flow(make_flow: MakeFlow) -> Flow:
    """Two people, rows in quarantine, and two releases."""
    return two_people(make_flow)


def two_people(make_flow: MakeFlow, storage: Storage | None = None) -> Flow:
    sites = [NightscoutSite(name, time_zone="Europe/Berlin") for name in (KEPT, GONE)]
    for site in sites:
        full_day(site)
        full_day(site, start=START - 86_400_000)
        site.add("entries", {"type": "sgv", "date": START + 1000, "sgv": 5000, "device": "share2"})
        site.add(
            "treatments",
            {"eventType": "Meal Bolus", "created_at": "2026-03-29T10:00:00Z", "insulin": 2.5, "carbs": 30},
        )
    flow = make_flow(sites, storage)
    for first, end in ((DAY - timedelta(days=1), DAY), (DAY, NEXT)):
        # Not in this process, which would count as a writer while it lives.
        children.run(flow, partial(Flow.run, first=first, end=end)).value()
        next(flow.runs)
    # As a gate that is red shows examples.
    shown = flow.home / "quality" / "runs" / "test__1" / "evidence" / "example.json"
    shown.write_text(json.dumps({"rows": [{"site": GONE, "sgv": 5000}]}))
    return flow


def bytes_of(flow: DomainFlow) -> dict[str, bytes]:
    """Every file of the lake and of the results, and every row of both databases as text."""
    folders = [flow.home / "quality", flow.home / "dlt", flow.home / "forget"]
    found: dict[str, bytes] = {}
    if flow.lake.storage.is_s3:
        bucket = Files.of(flow.lake.storage, flow.lake.temp_directory)
        for path in bucket.entries():
            with bucket.open(path) as file:
                found[path] = file.read()
    else:  # all of it, whatever the lake takes for its own
        folders.append(Path(flow.lake.storage.url))
    found |= {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    for server in (flow.lake.catalog, flow.marts):
        with psycopg.connect(server.conninfo()) as connection:
            tables = connection.execute(
                "select schemaname, tablename from pg_tables where schemaname not in ('pg_catalog', "
                "'information_schema')"
            ).fetchall()
            for schema, table in tables:
                lines: list[bytes] = []
                with connection.cursor().copy(f'copy "{schema}"."{table}" to stdout') as copy:  # type: ignore[arg-type]
                    lines += [bytes(line) for line in copy]
                found[f"{server.database}.{schema}.{table}"] = b"".join(lines)
    return found


def where(flow: DomainFlow, *texts: str) -> list[str]:
    """Where texts are, Parquet unpacked."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    found = []
    for name, content in bytes_of(flow).items():
        if name.endswith(".parquet"):
            # In this process alone: what DuckDB would read is what is to be proven.
            content = repr(parquet.read_table(pa.BufferReader(content)).to_pydict()).encode() + content
        # COPY writes the bytes of inlined texts as hex.
        spelled = [text.encode() for text in texts] + [text.encode().hex().encode() for text in texts]
        if any(re.search(rb"(?<![A-Za-z])" + re.escape(text), content) for text in spelled):
            found.append(name)
    return found


def others(rows: dict[str, list[tuple[Any, ...]]], gone: str) -> dict[str, list[tuple[Any, ...]]]:
    return {table: [row for row in each if gone not in row] for table, each in rows.items()}


def bronze_rows(flow: DomainFlow) -> dict[str, list[tuple[Any, ...]]]:
    with flow.lake.open(read_only=True) as connection:
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() where database_name = 'dl' "
            "and schema_name in ('bronze', 'quarantine') and not starts_with(table_name, '_dlt')"
        ).fetchall()
        # Whose gate set a row aside, and when, is another after the erasure's own.
        judged = "* exclude (dag_run_id, snapshot_id, quarantined_at)"
        return {
            f"{schema}.{table}": sorted(
                connection.execute(
                    f'select {judged if schema == "quarantine" else "*"} from {schema}."{table}"'
                ).fetchall(),
                key=repr,
            )
            for schema, table in tables
        }


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("on_s3", [False, True], ids=["folder", "bucket"])
def test_a_person_is_gone_from_everything_and_the_others_are_as_they_were(
    make_flow: MakeFlow, s3_lake: Lake, on_s3: bool
) -> None:
    flow = two_people(make_flow, s3_lake.storage if on_s3 else None)
    assert len(where(flow, GONE)) > 10
    landed, built, published = bronze_rows(flow), flow.lake_rows(), flow.published_rows()
    done = flow.forget(GONE)
    assert where(flow, GONE) == []
    assert done.search.files > 5 and done.search.tables > 20 and not done.search.traces
    assert bronze_rows(flow) == others(landed, GONE)
    for table, rows in others(built, GONE).items():
        assert flow.lake_rows()[table] == rows, table
    assert flow.published_rows() == others(published, GONE) == flow.view_rows()
    # The ledger holds, the new release is whole, and the old ones say why they cannot be read again.
    assert ledger.verify(flow.marts, flow.lake).entries == 3
    assert published_differences(flow.lake, flow.marts) == []
    assert erasures.verify(flow.lake, ledger.entries(flow.marts)) == 1
    assert done.given_up == (1, 2)
    reproduce(flow.lake, flow.marts, "mrt_daily_glycaemia", 3)
    with pytest.raises(ReleaseError, match="erasure"):
        reproduce(flow.lake, flow.marts, "mrt_daily_glycaemia", 2)
    assert fsck.check(flow.lake, marts=flow.marts, deep=True).damage == ()
    # The source still has them, and the next run does not bring them back.
    flow.run(DAY, NEXT)
    assert where(flow, GONE) == []
    assert flow.published_rows() == others(published, GONE)
    with pytest.raises(SubjectError, match="erased on"):
        flow.forget(GONE)


@pytest.mark.torture
def test_a_dry_run_says_what_would_go_and_changes_nothing(flow: Flow) -> None:
    before = bytes_of(flow)
    planned = plan(flow.lake, flow.marts, flow.erasing(), GONE)
    assert planned.rows["bronze.nightscout_entries"] > 288
    assert planned.rows["quarantine.nightscout_entries"] == 1
    for table in ("gold.mrt_daily_glycaemia", "silver.fct_cgm_reading"):
        assert [(planned.rows[table],)] == flow.query(f"select count(*) from {table} where site = '{GONE}'")
    assert planned.releases == (1, 2) and planned.snapshots and planned.pages == 1
    assert bytes_of(flow) == before
    with pytest.raises(SubjectError, match="Nobody in nightscout is 'nobody'"):
        flow.forget("nobody")
    assert bytes_of(flow) == before


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_killed_anywhere_the_same_command_ends_in_the_same_state(flow: Flow) -> None:
    published = flow.published_rows()
    stops = [
        Before("insert into dl.meta.erasures"),
        Before("alter table .* rename to", nth=3),
        Entering("include.release.certify:release"),
        Entering("include.erasure.forget:_take_out_of_catalog"),
        Before("ducklake_files_scheduled_for_deletion"),
        Entering("include.erasure.forget:search"),
    ]
    for stop in stops:
        children.killed(flow, partial(Flow.forget, subject=GONE), stop)
    assert flow.forget(GONE).erasure.finished_at is not None
    assert where(flow, GONE) == []
    assert flow.published_rows() == others(published, GONE) == flow.view_rows()
    assert len(ledger.entries(flow.marts)) == 3
    assert fsck.check(flow.lake, marts=flow.marts, deep=True).damage == ()


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_a_user_is_gone_with_pseudonyms_and_the_account_stays(
    make: Make,  # noqa: F811
    source: Postgres,  # noqa: F811
    extensions: Path,
) -> None:
    flow = make()
    for end in (LAST - 30 * ONE_DAY, LAST):
        until(source, extensions, end)
        flow.run(end - 7 * ONE_DAY, end)
    ((user, email),) = flow.query(
        "select user_id, email from bronze.saas_users join bronze.saas_product_events using (site, user_id) "
        "where email is not null group by all order by count(*) desc limit 1"
    )
    hashed = erasures.subject_hash(PSEUDONYM_KEY, email.strip().lower())
    assert flow.query(f"select user_id from silver.dim_user where email_hash = '{hashed}'") == [(user,)]
    assert where(flow, email) and where(flow, hashed)
    landed = bronze_rows(flow)
    before = flow.lake_rows()
    flow.forget(str(user))
    assert where(flow, email, hashed) == []
    for table, each in bronze_rows(flow).items():
        if table in ("bronze.saas_users", "bronze.saas_product_events"):
            assert flow.query(f"select count(*) from {table} where user_id = {user}") == [(0,)]
            assert set(each) < set(landed[table])
        else:
            assert each == landed[table], table
    after = flow.lake_rows()
    assert [row for row in before["silver.dim_user"] if row[1] != user] == after["silver.dim_user"]
    assert before["gold.mrt_mrr_monthly"] == after["gold.mrt_mrr_monthly"]
    assert before["gold.mrt_activity"] != after["gold.mrt_activity"]
    flow.run(LAST - ONE_DAY, LAST)
    assert where(flow, email, hashed) == []
    assert flow.lake_rows() == after


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_releases_of_other_domains_stay_reproducible(
    flow: Flow,
    source: Postgres,  # noqa: F811
    extensions: Path,
) -> None:
    until(source, extensions, LAST)
    other = SaasFlow(flow.lake, flow.marts, flow.home, source, runs=itertools.count(100))
    pinned = other.run(LAST - ONE_DAY, LAST).entry
    flow.run(DAY, NEXT)
    seen = other.view_rows()
    flow.forget(GONE)
    assert where(flow, GONE) == []
    for mart in pinned.marts:
        reproduce(flow.lake, flow.marts, mart, pinned.release_id)
    assert other.view_rows() == seen == other.published_rows()
    reports = maintain(flow.lake, flow.marts, keep=Keep(timedelta(0), timedelta(days=365), timedelta(0)))
    assert any(report.verified for report in reports)
    assert other.view_rows() == seen


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_a_restored_backup_brings_nobody_back_for_long(flow: Flow, tmp_path: Path) -> None:
    backups = Storage(str(tmp_path / "backups"))
    backup(flow.lake, flow.marts, backups, keep=7, code_version="test")
    done = flow.forget(GONE)
    Location(backups, flow.lake.temp_directory).remember_erasure(done.erasure)
    restored = restore(flow.lake, flow.marts, backups, overwrite=True, code_version="test")
    assert restored.erased == (done.erasure.subject_hash,)
    assert flow.query(f"select count(*) > 0 from bronze.nightscout_entries where site = '{GONE}'") == [(True,)]
    with pytest.raises(LakehouseError, match="not finished"):
        erasures.verify(flow.lake, ledger.entries(flow.marts))
    flow.forget(GONE)
    assert where(flow, GONE) == []
    assert erasures.verify(flow.lake, ledger.entries(flow.marts)) == 1


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_a_red_gate_stops_before_readers_and_the_same_command_goes_on(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = flow.published_rows()

    def red(*_: Any, **__: Any) -> None:
        raise GateError("gate_silver is red.")

    with monkeypatch.context() as patch:
        patch.setattr("include.quality.gate.run_gate", red)
        with pytest.raises(GateError, match="readers still have release 2"):
            flow.forget(GONE)
    assert flow.published_rows() == seen == flow.view_rows()
    assert flow.query(f"select count(*) from bronze.nightscout_entries where site = '{GONE}'") == [(0,)]
    flow.forget(GONE)
    assert where(flow, GONE) == []


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_the_only_person_leaves_empty_marts_and_a_withdrawal(make_flow: MakeFlow) -> None:
    site, other = NightscoutSite(GONE), NightscoutSite(KEPT)
    full_day(site)
    flow = make_flow([site])
    children.run(flow, partial(Flow.run, first=DAY, end=NEXT)).value()
    assert all(flow.published_rows().values())
    flow.forget(GONE)
    assert where(flow, GONE) == []
    assert not any(flow.published_rows().values()) and not any(flow.view_rows().values())
    newest = ledger.last(flow.marts, flow.domain)
    assert newest is not None
    assert (newest.release_id, newest.kind, newest.gates) == (2, "withdrawal", [])
    assert ledger.verify(flow.marts, flow.lake).entries == 2
    assert erasures.verify(flow.lake, ledger.entries(flow.marts)) == 1
    assert covered_days(ledger.entries(flow.marts)) == set()
    # Somebody else comes; the first stays away.
    full_day(other)
    flow.server.sites[KEPT] = other
    flow.run(DAY, NEXT)
    assert {row[0] for row in flow.published_rows()["mrt_glucose_overview"]} == {KEPT}
    assert where(flow, GONE) == []


def test_a_domain_whose_streams_do_not_say_who_they_are_about_is_refused() -> None:
    class Silent:
        name, table, subject = "orders", "shop_orders", None

    class Prices:
        name, table, subject = "prices", "shop_prices", nobody("prices are nobody's")

    with pytest.raises(SetupError, match="orders of shop do not say"):
        subjects("shop", {"orders": Silent})
    with pytest.raises(SetupError, match="nobody to forget"):
        subjects("shop", {"prices": Prices})
    with pytest.raises(SetupError, match="There is no domain nowhere"):
        subjects("nowhere")
    with pytest.raises(ValueError, match="named by its site"):
        Subject(("user_id",))
