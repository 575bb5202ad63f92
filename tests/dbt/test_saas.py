"""The SaaS models on lakes of their own: revenue computed twice, loads in any order, people who stay unknown."""

import hashlib
import json
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest

from include.dbt_project import PROJECT_DIR
from include.lake.attach import Lake
from include.local.postgres import LocalPostgres
from tests.conftest import fresh_database, lake_in
from tests.dbt import conftest, saas_reference
from tests.dbt.conftest import KEYS, SAAS, Dbt, copy_of, models_of
from tests.dbt.saas_bronze import STREAMS, Record, at, change, create_bronze, load, rates, set_aside

INCREMENTAL = ("--select", "path:models/*/saas,config.materialized:incremental")
REST = ("--select", "path:models/*/saas,config.materialized:table")
FIRST, LAST = date(2024, 1, 1), date(2025, 3, 15)
DAYS = [FIRST + timedelta(days=i) for i in range((LAST - FIRST).days + 1)]
CURRENCIES = {"USD": "1", "EUR": "1.1", "JPY": "0.0067"}
MODELS = {
    "bronze.stg_saas__accounts",
    "bronze.stg_saas__exchange_rates",
    "bronze.stg_saas__invoice_lines",
    "bronze.stg_saas__invoices",
    "bronze.stg_saas__plans",
    "bronze.stg_saas__product_events",
    "bronze.stg_saas__subscription_changes",
    "bronze.stg_saas__subscriptions",
    "bronze.stg_saas__users",
    "bronze.stg_saas__windows",
    "gold.mrt_activity",
    "gold.mrt_churn",
    "gold.mrt_cohort_retention",
    "gold.mrt_mrr_monthly",
    "gold.mrt_mrr_movements",
    "gold.mrt_revenue_reconciliation",
    "gold.mrt_subscription_lifecycle",
    "gold.mrt_subscription_survival",
    "silver.dim_account",
    "silver.dim_plan",
    "silver.dim_saas_date",
    "silver.dim_saas_month",
    "silver.dim_user",
    "silver.fct_exchange_rate",
    "silver.fct_invoice",
    "silver.fct_invoice_line",
    "silver.fct_product_event",
    "silver.fct_subscription_month",
    "silver.fct_subscription_period",
}


def test_the_models_are_these(models: list[Any]) -> None:
    assert set(models_of("saas", models)) == MODELS


@pytest.mark.parametrize("seed", [11, pytest.param(12, marks=pytest.mark.torture)])
def test_mrr_is_what_plain_python_computes(lake: Lake, dbt: Dbt, seed: int) -> None:
    history = _history(random.Random(seed))
    create_bronze(lake)
    for stream in STREAMS:
        load(lake, stream, DAYS, history[stream])

    dbt(lake, "build", "--select", "path:models/*/saas", "--exclude", "test_type:unit")

    past = (
        history["subscriptions"],
        history["subscription_changes"],
        history["accounts"],
        _carried(history["exchange_rates"]),
        LAST,
    )
    expected = saas_reference.mrr_monthly(*past)
    assert {row["movement"] for row in expected} == {
        "new", "reactivation", "expansion", "contraction", "churn", "renewal",
    }  # fmt: skip
    assert any(row["is_paused"] for row in expected)
    assert any(row["fx_revaluation"] for row in expected)
    assert _rows(lake, "gold.mrt_mrr_monthly", expected[0], "account_id, month_start_date") == expected
    months = [month for month, _, _ in saas_reference.months_of(history["subscription_changes"], LAST)]
    bridge = saas_reference.mrr_movements(expected, months)
    assert _rows(lake, "gold.mrt_mrr_movements", bridge[0], "month_start_date") == bridge
    kept = saas_reference.retention_over_a_year(expected, saas_reference.paid_a_year_before(*past))
    assert len(kept) == 3
    like = dict.fromkeys(("month_start_date", *kept[date(2025, 1, 1)]))
    found = _rows(lake, "gold.mrt_churn", like, "month_start_date")
    assert {row.pop("month_start_date"): row for row in found[12:]} == kept
    assert not any(value for row in found[:12] for name, value in row.items() if name != "month_start_date")


def test_what_was_earned_is_what_plain_python_computes(built_saas_lake: Lake) -> None:
    history = _history(random.Random(1), accounts=40)
    months = saas_reference.months_of(history["subscription_changes"], LAST)
    expected = saas_reference.earned_by_month(
        history["invoice_lines"], history["invoices"], _carried(history["exchange_rates"]), months
    )

    like = dict.fromkeys(("month_start_date", "earned"))
    found = _rows(built_saas_lake, "gold.mrt_revenue_reconciliation", like, "month_start_date")

    assert {row["month_start_date"]: row["earned"] for row in found} == expected
    assert len({row["earned"] for row in found}) > 5


def test_survival_and_activity_are_what_plain_python_computes(built_saas_lake: Lake) -> None:
    lives: dict[str, list[tuple[int, bool]]] = {}
    like = dict.fromkeys(("plan_code", "tenure_days", "is_churned", "first_paid_at"))
    for life in _rows(built_saas_lake, "gold.mrt_subscription_lifecycle", like, "subscription_id"):
        if life["first_paid_at"] and life["plan_code"]:
            lives.setdefault(life["plan_code"], []).append((life["tenure_days"], life["is_churned"]))
    like = dict.fromkeys(("plan_code", "tenure_days", "survival"))
    curves: dict[str, dict[int, float]] = {}
    for row in _rows(built_saas_lake, "gold.mrt_subscription_survival", like, "plan_code, tenure_days"):
        curves.setdefault(row["plan_code"], {})[row["tenure_days"]] = row["survival"]
    expected = {plan: curve for plan, each in lives.items() if (curve := saas_reference.survival(each))}
    assert len(expected) > 1
    assert curves == {plan: pytest.approx(curve, abs=1e-8) for plan, curve in expected.items()}

    active: dict[date, set[int]] = {}
    for event in _history(random.Random(1), accounts=40)["product_events"]:
        active.setdefault(event["occurred_at"].date(), set()).add(event["user_id"])
    like = dict.fromkeys(("activity_date", "daily_active_users", "weekly_active_users", "monthly_active_users"))
    found = _rows(built_saas_lake, "gold.mrt_activity", like, "activity_date")
    assert (found[0]["activity_date"], found[-1]["activity_date"]) == (min(active), LAST)
    for row in found:
        for name, length in (("daily", 1), ("weekly", 7), ("monthly", 28)):
            days = [row["activity_date"] - timedelta(days=back) for back in range(length)]
            users = set().union(*(active.get(day, set()) for day in days))
            assert row[f"{name}_active_users"] == len(users), row


def test_money_is_divided_exactly(lake: Lake, dbt: Dbt) -> None:
    chance, rows = random.Random(5), []
    for _ in range(300):
        amount = Decimal(chance.randint(-(10**10), 10**10)) / 100
        by = chance.choice((1, 2, 3, 7, 12, 31, 365, 31_622_400_000))
        rows.append(f"({amount}::decimal(12, 2), {by}::bigint, {_divided(amount, by)}::decimal(28, 4))")
    rows += ["(0.06::decimal(12, 2), 1200::bigint, 0.0001::decimal(28, 4))", "(-0.06, 1200, -0.0001)"]  # half up, both
    given = f"(values {', '.join(rows)}) as given (amount, divisor, expected)"
    wrong = f"select count(*) from {given} where expected <> "
    shown = '{% set wrong = "' + wrong + '" ~ quotient("amount", "divisor", 4) %}'
    shown += "{% if execute and run_query(wrong).rows[0][0] > 0 %}"
    shown += '{{ exceptions.raise_compiler_error("not exact") }}{% endif %} select 1 as one'

    assert dbt(lake, "show", "--inline", shown).success


@pytest.mark.torture
@pytest.mark.parametrize("seed", [21, 22])
def test_any_order_of_loads_ends_in_the_same_tables(lake: Lake, dbt: Dbt, seed: int) -> None:
    chance = random.Random(seed)
    history = _history(chance)
    create_bronze(lake)
    dbt(lake, "run", "--select", "path:models/bronze/saas", *INCREMENTAL[1:])

    for _ in range(3):  # not the last word: other values, rows that will go, rows that a gate sets aside for a while
        events = chance.sample(history["product_events"], 100)
        load(lake, "product_events", DAYS[:3], [event | {"event_name": "wrong"} for event in events])
        stray = {"event_id": 10**9 + _, "user_id": 1, "account_id": 1, "occurred_at": at("2024-05-05 05:00")}
        load(lake, "product_events", [], [stray])
        set_aside(lake, "product_events", [event["event_id"] for event in events[:10]])
        dbt(lake, "run", *INCREMENTAL)
        set_aside(lake, "product_events", [])
    for stream in STREAMS:
        rows = chance.sample(history[stream], len(history[stream]))
        for part in (rows[::2], rows[1::2]):
            load(lake, stream, chance.sample(DAYS, len(DAYS)), part)
            if stream == "product_events":
                dbt(lake, "run", *INCREMENTAL)
    load(lake, "product_events", [], [], gone=[10**9, 10**9 + 1, 10**9 + 2])
    dbt(lake, "run", *INCREMENTAL)
    dbt(lake, "run", *REST)
    piecemeal = _contents(lake)

    for stream in STREAMS:
        load(lake, stream, DAYS, history[stream])
    dbt(lake, "run", "--full-refresh", *SAAS, "--exclude", "path:models/bronze")

    whole = _contents(lake)
    assert piecemeal.keys() == whole.keys()
    for table, rows in whole.items():
        assert rows, f"{table} is empty"
        assert piecemeal[table] == rows, f"{table} differs"


def test_only_days_of_changed_keys_are_rebuilt(built_saas_lake: Lake, dbt: Dbt) -> None:
    with built_saas_lake.open() as connection:
        (before,) = connection.execute("select max(snapshot_id) from dl.snapshots()").fetchall()[0]
    event = {"event_id": 10**9, "user_id": 1, "account_id": 1, "event_name": "late", "created_at": at("2025-03-01")}
    load(built_saas_lake, "product_events", [LAST], [event | {"occurred_at": at("2024-06-15 12:00")}])

    dbt(built_saas_lake, "run", *INCREMENTAL)

    with built_saas_lake.open() as connection:
        (after,) = connection.execute("select max(snapshot_id) from dl.snapshots()").fetchall()[0]
        changes = f"ducklake_table_changes('dl', 'silver', 'fct_product_event', {before + 1}, {after})"
        days = [row[0] for row in connection.execute(f"select distinct event_date from {changes}").fetchall()]
        late = connection.execute("select is_late from silver.fct_product_event where event_id = 1000000000").fetchall()
    rebuilt = {date(2024, 6, 14), date(2024, 6, 15), date(2024, 6, 16)}
    rebuilt |= {LAST - timedelta(days=1), LAST, LAST + timedelta(days=1)}
    assert date(2024, 6, 15) in days
    assert set(days) <= rebuilt
    assert late == [(True,)]


def test_what_is_gone_from_the_source_leaves_the_marts(built_saas_lake: Lake, dbt: Dbt) -> None:
    with built_saas_lake.open() as connection:
        count = "select count(*), count(*) filter (where change_id = 1) from silver.fct_subscription_period"
        (before,) = connection.execute(count).fetchall()
    load(built_saas_lake, "subscription_changes", [], [], gone=[1])

    dbt(built_saas_lake, "run", "--select", "fct_subscription_period")

    with built_saas_lake.open() as connection:
        (after,) = connection.execute(count).fetchall()
    assert before[1] == 1
    assert after == (before[0] - 1, 0)


def test_people_are_pseudonymised_with_a_key_that_shows_nowhere(
    built_saas_lake: Lake, dbt: Dbt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.lake.dbt_environment import dbt_environment

    for name, value in dbt_environment(built_saas_lake, KEYS).items():
        monkeypatch.setenv(name, value)
    places = ["--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR), "--target-path", str(tmp_path)]
    log = ["--log-path", str(tmp_path / "logs"), "--log-level-file", "debug", "--log-level", "none"]
    from dbt.cli.main import dbtRunner

    assert dbtRunner().invoke(["build", "--select", "dim_user", *places, *log]).success

    key, files = KEYS["saas"], [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"dbt.log", "manifest.json", "run_results.json", "dim_user.sql"} <= {path.name for path in files}
    assert not [path for path in files if key.encode() in path.read_bytes()]
    with built_saas_lake.open() as connection:
        found = connection.execute("select user_id, email_hash, full_name_hash from silver.dim_user").fetchall()
        whole = connection.execute("select * from silver.dim_user").fetchall()
    assert {user: email for user, email, _ in found}[1] == _hash(key, "person1@example.org")
    assert {user: name for user, _, name in found}[1] == _hash(key, "person 1")
    assert "@" not in str(whole)
    assert "person" not in str(whole).lower()


def test_without_a_key_nobody_is_hashed(built_saas_lake: Lake, dbt: Dbt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "KEYS", {})

    run = dbt(built_saas_lake, "run", "--select", "dim_user", check=False)

    assert run.statuses["dim_user"] == "error"
    assert "saas_pseudonym" in run.messages["dim_user"]


def test_no_model_but_dim_user_reads_names(parsed_project: bytes) -> None:
    from dbt.contracts.graph.manifest import Manifest

    nodes = Manifest.from_msgpack(parsed_project).nodes
    readers = {
        node.name
        for node in nodes.values()
        if node.resource_type == "model" and "model.lakehouse.stg_saas__users" in node.depends_on.nodes
    }
    assert readers == {"dim_user"}
    personal = {"email", "full_name", "properties"}
    for node in nodes.values():
        if node.resource_type == "model" and node.schema != "bronze":
            assert not personal & set(node.columns), node.name


def test_staging_describes_exactly_its_columns(built_saas_lake: Lake, parsed_project: bytes) -> None:
    from dbt.contracts.graph.manifest import Manifest

    models = [node for node in Manifest.from_msgpack(parsed_project).nodes.values() if node.resource_type == "model"]
    described = 0
    with built_saas_lake.open() as connection:
        for model in models:
            if "/saas/" in model.original_file_path:
                found = connection.execute(f"describe {model.schema}.{model.name}").fetchall()
                assert sorted(row[0] for row in found) == sorted(model.columns), model.name
                described += 1
    assert described > 20


def test_the_whole_build_passes_on_empty_bronze_with_every_unit_test(lake: Lake, dbt: Dbt) -> None:
    create_bronze(lake)

    run = dbt(lake, "build", *SAAS)

    assert set(run.statuses.values()) <= {"success", "pass"}
    assert len([name for name in run.statuses if name.startswith("a_")]) >= 24  # unit tests are sentences


def test_another_reporting_currency_converts_by_cross_rates(built_saas_lake: Lake, dbt: Dbt) -> None:
    variables = json.dumps({"reporting_currency": "EUR"})
    dbt(built_saas_lake, "run", "--select", "fct_exchange_rate+", "--vars", variables)

    with built_saas_lake.open() as connection:
        own = connection.execute(
            "select distinct exchange_rate from silver.fct_exchange_rate where currency = 'EUR'"
        ).fetchall()
        dollars, euros = connection.execute(
            "select (select exchange_rate from silver.fct_exchange_rate where currency = 'USD' and rate_date = ?), "
            "(select rate_to_usd from bronze.saas_exchange_rates where currency = 'EUR' and rate_date = ?)",
            [FIRST, FIRST],
        ).fetchall()[0]
        shown = connection.execute("select distinct currency from gold.mrt_mrr_movements").fetchall()
    assert own == [(Decimal(1),)]
    assert dollars == (1 / euros).quantize(Decimal("0.00000001"))
    assert shown == [("EUR",)]


@pytest.fixture(scope="module")
def finished_saas_lake(
    server: LocalPostgres, extensions: Path, dbt: Dbt, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("finished-saas")
    with fresh_database(server, "lake") as catalog:
        lake = lake_in(folder, catalog, extensions)
        history = _history(random.Random(1), accounts=40)
        create_bronze(lake)
        for stream in STREAMS:
            load(lake, stream, DAYS, history[stream])
        dbt(lake, "run", *SAAS)
        yield lake


@pytest.fixture
def built_saas_lake(finished_saas_lake: Lake, server: LocalPostgres, tmp_path: Path) -> Iterator[Lake]:
    """A lake of its own in which the domain is built from one load a stream."""
    with copy_of(finished_saas_lake, server, tmp_path / "lake") as lake:
        yield lake


def _divided(amount: Decimal, by: int) -> Decimal:
    with localcontext() as context:
        context.prec = 50
        return (amount / by).quantize(Decimal("0.0001"), ROUND_HALF_UP)


def _hash(key: str, value: str) -> str:
    inner = hashlib.sha256((key + value).encode()).hexdigest()
    return hashlib.sha256((key + inner).encode()).hexdigest()


def _history(chance: random.Random, accounts: int = 60) -> dict[str, list[Record]]:
    """A random past: several subscriptions and currencies an account, changes at the same instant and on month ends."""
    found: dict[str, list[Record]] = {stream: [] for stream in STREAMS}
    for account_id in range(1, accounts + 1):
        gone = _moment(chance) if chance.random() < 0.1 else None
        found["accounts"].append({"account_id": account_id, "name": f"Org {account_id}", "deleted_at": gone})
        found["users"].append(
            {
                "user_id": account_id,
                "account_id": account_id,
                "email": f"Person{account_id}@example.org",
                "full_name": f"Person {account_id}",
                "role": "owner",
            }
        )
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            _subscription(chance, found, account_id)
        for _ in range(chance.randint(0, 60)):
            occurred = _moment(chance)
            found["product_events"].append(
                {
                    "event_id": len(found["product_events"]) + 1,
                    "account_id": account_id,
                    "user_id": account_id,
                    "event_name": "opened",
                    "occurred_at": occurred,
                    "created_at": occurred + timedelta(hours=chance.choice((0, 0, 30))),
                }
            )
    chance.shuffle(found["subscription_changes"])
    for number, record in enumerate(found["subscription_changes"], 1):
        record["change_id"] = number
    for currency, rate in CURRENCIES.items():
        if currency != "USD":
            quotes = {day: _near(chance, rate) for day in DAYS if day == FIRST or chance.random() < 0.8}
            found["exchange_rates"] += rates(currency, quotes)
    for version, period in ((1, "month"), (2, "year"), (3, "month")):
        found["plans"].append(
            {
                "plan_version_id": version,
                "plan_code": "pro" if version == 3 else "basic",
                "plan_name": "A plan",
                "version": 1,
                "billing_period": period,
                "currency": "USD",
                "list_price": Decimal("10.00"),
                "effective_from": at("2023-01-01"),
            }
        )
    return found


def _subscription(chance: random.Random, found: dict[str, list[Record]], account_id: int) -> None:
    subscription_id = len(found["subscriptions"]) + 1
    currency = chance.choice(list(CURRENCIES))
    moments = sorted(_moment(chance) for _ in range(chance.randint(1, 9)))
    if chance.random() < 0.3:
        moments[-1] = moments[max(0, len(moments) - 2)]  # two changes at one instant
    found["subscriptions"].append(
        {
            "subscription_id": subscription_id,
            "account_id": account_id,
            "currency": currency,
            "status": "active",
            "started_at": moments[0],
            "deleted_at": _moment(chance) if chance.random() < 0.05 else None,
        }
    )
    kinds = ["upgrade", "downgrade", "change_quantity", "pause", "resume", "cancel", "reactivate", "convert"]
    amount = Decimal(chance.randint(1, 200_000)) / 100
    for place, moment in enumerate(moments):
        kind = chance.choice(("start", "start_trial")) if place == 0 else chance.choice(kinds)
        if chance.random() < 0.6:
            amount = Decimal(chance.randint(1, 200_000)) / 100
        period = chance.choice(("month", "month", "year"))
        record = change(0, subscription_id, kind, moment, amount, billing_period=period)
        found["subscription_changes"].append(record | {"plan_version_id": chance.randint(1, 4)})
    for month in range(chance.randint(0, 6)):
        _invoice(chance, found, account_id, subscription_id, currency, moments[0] + timedelta(days=30 * month))


def _invoice(
    chance: random.Random,
    found: dict[str, list[Record]],
    account_id: int,
    subscription_id: int,
    currency: str,
    issued: datetime,
) -> None:
    invoice_id = len(found["invoices"]) + 1
    found["invoices"].append(
        {
            "invoice_id": invoice_id,
            "account_id": account_id,
            "subscription_id": subscription_id,
            "invoice_number": f"I-{invoice_id}",
            "status": chance.choice(("paid", "paid", "open", "draft", "void", "refunded", "uncollectible")),
            "currency": currency,
            "issued_at": issued,
            "created_at": issued,
        }
    )
    for kind in chance.sample(("subscription", "proration", "refund", "discount", "tax", "one_off"), 3):
        amount = Decimal(chance.randint(1, 99_999)) / 100
        found["invoice_lines"].append(
            {
                "invoice_line_id": len(found["invoice_lines"]) + 1,
                "invoice_id": invoice_id,
                "line_type": kind,
                "quantity": 1,
                "amount": -amount if kind in ("refund", "discount") else amount,
                "period_start": None if kind == "one_off" else issued,
                "period_end": None if kind == "one_off" else issued + timedelta(days=chance.choice((30, 365))),
                "created_at": issued,
            }
        )


def _moment(chance: random.Random) -> datetime:
    """Any time from the first day to somewhat after the last; often the turn of a month."""
    day = FIRST + timedelta(days=chance.randint(0, len(DAYS) + 40))
    if chance.random() < 0.3:
        turn = datetime(day.year, day.month, 1, tzinfo=UTC)
        return max(turn + timedelta(microseconds=chance.choice((-1, 0, 0, 1))), at("2024-01-01"))
    return datetime(day.year, day.month, day.day, chance.randint(0, 23), tzinfo=UTC)


def _near(chance: random.Random, rate: str) -> Decimal:
    return (Decimal(rate) * Decimal(chance.randint(900, 1100)) / 1000).quantize(Decimal("0.00000001"))


def _carried(quotes: list[Record]) -> dict[str, dict[date, Decimal]]:
    """Rates of each day; one without a quote has the last before it."""
    carried = {"USD": dict.fromkeys(DAYS, Decimal(1))}
    for currency in CURRENCIES:
        if currency != "USD":
            of_day = {quote["rate_date"]: quote["rate_to_usd"] for quote in quotes if quote["currency"] == currency}
            rate, filled = Decimal(0), {}
            for day in DAYS:
                rate = of_day.get(day, rate)
                filled[day] = rate
            carried[currency] = filled
    return carried


def _rows(lake: Lake, table: str, like: dict[str, Any], order: str) -> list[dict[str, Any]]:
    with lake.open() as connection:
        found = connection.execute(f"select {', '.join(like)} from {table} order by {order}").fetchall()
    return [dict(zip(like, row, strict=True)) for row in found]


def _contents(lake: Lake) -> dict[str, list[tuple[Any, ...]]]:
    with lake.open() as connection:
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() where database_name = 'dl' "
            "and schema_name in ('silver', 'gold')"
        ).fetchall()
        return {
            f"{schema}.{table}": connection.execute(f"select * from {schema}.{table} order by all").fetchall()
            for schema, table in tables
        }
