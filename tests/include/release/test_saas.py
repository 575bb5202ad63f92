"""The SaaS marts, released: every row arrives in PostgreSQL and leads back to the rows of the source."""

from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from include import dbt_project
from include.lake.attach import Lake
from include.local.postgres import LocalPostgres
from include.release.certify import release
from include.release.explain import explain
from tests.conftest import fresh_database
from tests.include.quality.conftest import Built
from tests.include.release.building import gate

GATES = ("gate_bronze", "gate_silver", "gate_gold")


@pytest.mark.torture
def test_marts_are_released_and_their_rows_explained(built_saas: Built, server: LocalPostgres, manifest: Path) -> None:
    models = dbt_project.marts("saas")
    with fresh_database(server, "marts_publisher") as marts:
        try:
            certified = release(
                built_saas.lake,
                marts,
                models,
                "saas",
                built_saas.interval,
                "run-1",
                built_saas.snapshot,
                [gate(name, built_saas.snapshot, domain="saas", dag_run_id="run-1") for name in GATES],
                "abc",
            )
            assert set(certified.entry.marts) == {model.name for model in models}
            with psycopg.connect(marts.conninfo()) as connection:
                (total,) = connection.execute("select sum(mrr) from marts.mrt_mrr_monthly").fetchall()[0]
            assert total == _total(built_saas.lake)
            for model in models:
                for row in _some_rows(built_saas.lake, model.name, model.key):
                    found = explain(built_saas.lake, marts, model.name, row)
                    counted = {each.table: each.rows for each in found.upstream}
                    assert any(table.startswith("bronze.") for table in counted), (model.name, row)
                    if _has_source(model.name, found.row):
                        assert sum(each.rows for each in found.requests) > 0, (model.name, row, counted)
        finally:
            with built_saas.lake.open() as connection:  # as it was, for the other tests of this lake
                connection.execute("drop schema if exists marts cascade")


def _has_source(mart: str, row: dict) -> bool:
    """A day without users, and a month in which nothing happened, come from no row."""
    return mart != "mrt_activity" or row["monthly_active_users"] > 0


def _some_rows(lake: Lake, mart: str, key: tuple[str, ...]) -> list[dict[str, str]]:
    with lake.open(read_only=True) as connection:
        listed = ", ".join(key)
        rows = connection.execute(f"select {listed} from gold.{mart} order by hash({listed}) limit 3").fetchall()
    assert rows, mart
    return [{column: str(value) for column, value in zip(key, row, strict=True)} for row in rows]


def _total(lake: Lake) -> Decimal:
    with lake.open(read_only=True) as connection:
        return connection.execute("select sum(mrr) from gold.mrt_mrr_monthly").fetchall()[0][0]
