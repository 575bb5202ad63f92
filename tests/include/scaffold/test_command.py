"""`lake new` as it is typed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from include.scaffold import cli
from include.scaffold.names import ScaffoldError
from tests.include.scaffold.conftest import CUSTOMERS, ORDERS

DOMAIN = [
    "domain",
    "invented",
    "--kind",
    "postgres",
    "--no-docs",
    "--stream",
    "customers:customer_id:updated_at",
    "--stream",
    "orders:order_id:updated_at",
    "--columns",
    f"orders={ORDERS}",
    "--columns",
    f"customers={CUSTOMERS}",
    "--subject",
    "orders=customer_id",
    "--subject",
    "customers=customer_id",
    "--fact",
    "orders",
]


@pytest.fixture
def lake_new(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs `lake new …` in a repository of its own and gives what it prints."""
    monkeypatch.setattr(cli, "ROOT", repository)
    monkeypatch.delenv("AIRFLOW_CONN_INVENTED_MAIN", raising=False)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli.app, list(arguments))
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_a_dry_run_shows_and_writes_nothing(lake_new: Callable[..., str], repository: Path) -> None:
    before = sorted(repository.rglob("*"))
    printed = lake_new(*DOMAIN, "--dry-run")
    assert "Would be written" in printed and "dags/invented_daily.py" in printed
    assert "Next" not in printed
    assert sorted(repository.rglob("*")) == before


def test_a_domain_is_written_and_says_what_comes_next(lake_new: Callable[..., str], repository: Path) -> None:
    printed = lake_new(*DOMAIN)
    assert "customers: email, full_name: keyed hashes in silver" in printed
    assert "orders: notes: stays in bronze" in printed
    assert "lake run invented --from DATE --to DATE" in printed
    assert (repository / "dbt/models/gold/invented/mrt_invented_orders_daily.sql").is_file()
    with pytest.raises(ScaffoldError, match="There is a domain invented already"):
        lake_new(*DOMAIN)


def test_a_stream_and_a_mart_are_added(lake_new: Callable[..., str], repository: Path) -> None:
    lake_new(*DOMAIN)
    columns = "refunds=refund_id:bigint,amount:numeric(12,2),created_at:timestamptz,updated_at:timestamptz"
    said = ("--columns", columns, "--subject", "refunds=nobody: money")
    printed = lake_new("stream", "invented", "refunds:refund_id:updated_at", *said, "--no-docs")
    assert (
        "include/sources/invented/streams.py" in printed
        and "lake new mart invented mrt_invented_refunds_daily" in printed
    )
    printed = lake_new(
        "mart", "invented", "mrt_refunds", "--from", "dim_invented_refunds", "--sum", "amount", "--no-docs"
    )
    assert "dbt/models/gold/invented/mrt_refunds.sql" in printed
    assert "amount_sum" in (repository / "dbt/models/gold/invented/mrt_refunds.yml").read_text()


def test_without_a_terminal_what_is_missing_is_an_error(lake_new: Callable[..., str]) -> None:
    with pytest.raises(ScaffoldError, match="The kind of source is None; say --kind, one of postgres"):
        lake_new("domain", "invented")
    with pytest.raises(ScaffoldError, match="There is no stream; say --stream NAME:KEY:CURSOR:DAY"):
        lake_new("domain", "invented", "--kind", "postgres")
    with pytest.raises(ScaffoldError, match=r"Or set the connection invented_main \(AIRFLOW_CONN_INVENTED_MAIN\)"):
        lake_new("domain", "invented", "--kind", "postgres", "--stream", "orders")
