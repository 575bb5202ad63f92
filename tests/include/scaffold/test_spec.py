"""A stream that cannot be written is refused by a sentence that says what to say; nobody reaches silver by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from include.scaffold.kinds import KINDS, postgres_kind, postgres_type
from include.scaffold.names import ScaffoldError, check_domain, is_free_text, is_personal
from include.scaffold.spec import Column, Mart, Stream, Whose
from include.settings import ROOT

POSTGRES = KINDS["postgres"]


def columns(text: str) -> tuple[Column, ...]:
    return tuple(POSTGRES.column("t", *item.split(" ", 1)) for item in text.split("; "))


ORDERS = Stream(
    "invented",
    "orders",
    ("order_id",),
    "updated_at",
    "created_at",
    columns("order_id bigint; total numeric(12, 2); created_at timestamptz; updated_at timestamptz"),
    Whose(why="an order is a company's"),
    is_fact=True,
)
PEOPLE = Stream(
    "invented",
    "people",
    ("person_id",),
    "updated_at",
    "created_at",
    columns(
        "person_id bigint; email text; full_name varchar(80); badge text; notes text; settings jsonb; plan_name text; "
        "created_at timestamptz; updated_at timestamptz"
    ),
    Whose(("person_id",), personal=("badge",), clear=("plan_name",)),
)


def test_models_are_named_by_what_their_rows_are() -> None:
    assert (ORDERS.staging, ORDERS.model, ORDERS.mart) == (
        "stg_invented__orders",
        "fct_invented_orders",
        "mrt_invented_orders_daily",
    )
    assert replace(ORDERS, is_fact=False).model == "dim_invented_orders"
    assert ORDERS.day_date == "created_date"
    dated = replace(ORDERS, columns=(*ORDERS.columns, Column("created_date", "date", "date")))
    assert dated.day_date == "created_date_utc"


def test_what_names_a_person_is_hashed_and_what_anything_may_be_written_in_stays_behind() -> None:
    assert [column.name for column in PEOPLE.hashed] == ["email", "full_name", "badge"]
    assert [column.name for column in PEOPLE.left] == ["notes", "settings"]
    assert [column.name for column in PEOPLE.plain] == ["person_id", "plan_name", "created_at", "updated_at"]
    assert PEOPLE.identifiers == ("email", "full_name", "badge")


@pytest.mark.parametrize(
    "name",
    ["email", "invented_email", "first_name", "name", "phone", "mobile_phone", "ship_address", "zip", "date_of_birth",
     "dob", "ip", "ip_address", "user_agent", "iban", "username", "lat", "city"],
)  # fmt: skip
def test_names_of_personal_columns_are_known(name: str) -> None:
    assert is_personal(name)


@pytest.mark.parametrize(
    "name", ["order_id", "total", "country", "status", "emailed_at", "renamed", "zipped", "latest"]
)
def test_names_that_only_look_like_them_are_left_alone(name: str) -> None:
    assert not is_personal(name)


def test_free_text_is_known_by_name_and_by_type() -> None:
    assert is_free_text("notes", "text") and is_free_text("internal_comment", "text") and is_free_text("x", "jsonb")
    assert not is_free_text("status", "text")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "Orders"}, "Stream 'Orders' is no name; expected snake_case"),
        ({"name": "o" * 31}, "at most 30 characters"),
        ({"key": ()}, "has no key"),
        ({"key": ("id",)}, "has no column id, which is to be its key, its cursor or its day; it has order_id, total"),
        ({"cursor": "total"}, "The cursor of stream orders is total, a numeric"),
        ({"columns": (*ORDERS.columns, Column("Total Sum", "text", "varchar"))}, "has columns Total Sum; bronze takes"),
        ({"columns": (*ORDERS.columns, Column("site", "text", "varchar"))}, "site, which bronze uses for itself"),
        ({"columns": (*ORDERS.columns, Column("order", "text", "varchar"))}, "order, which are words of SQL"),
        ({"columns": (*ORDERS.columns, ORDERS.columns[0])}, "names order_id more than once"),
        (
            {"columns": (*ORDERS.columns, Column("deleted_at", "text", "varchar"))},
            "deleted_at of stream orders is a text",
        ),
        (
            {"whose": Whose()},
            'Say `--subject orders=COLUMN`, the column that names the person, or `--subject "orders=nob',
        ),
        ({"whose": Whose(("customer_id",))}, "has no column customer_id"),
        ({"whose": Whose(why="w" * 71)}, "takes more than 70 characters"),
    ],
)
def test_a_stream_that_lacks_something_is_refused(change: dict, said: str) -> None:
    with pytest.raises(ScaffoldError) as caught:
        replace(ORDERS, **change)
    assert said in str(caught.value)


def test_nobodys_rows_with_a_persons_column_are_refused_until_it_is_said_to_name_nobody() -> None:
    whose = Whose(why="an account is a company")
    with pytest.raises(
        ScaffoldError, match=r"would reach silver in the clear.*--clear people=email,full_name,plan_name"
    ):
        replace(PEOPLE, whose=whose)
    said = replace(PEOPLE, whose=replace(whose, clear=("email", "full_name", "plan_name")))
    assert said.hashed == () and said.identifiers == ()


def test_a_person_cannot_be_the_key() -> None:
    with pytest.raises(ScaffoldError, match="keyed by email, which names or addresses a person"):
        replace(PEOPLE, key=("email",))


@pytest.mark.parametrize(
    ("spelled", "kind", "lakes"),
    [
        ("int", "integer", "integer"),
        ("BIGINT", "bigint", "bigint"),
        ("numeric(12, 2)", "numeric(12,2)", "decimal(12,2)"),
        ("decimal(5,1)", "numeric(5,1)", "decimal(5,1)"),
        ("numeric", "numeric", "varchar"),
        ("varchar(80)", "character varying(80)", "varchar"),
        ("timestamptz(3)", "timestamp with time zone", "timestamp with time zone"),
        ("timestamp(3) with time zone", "timestamp(3) with time zone", "timestamp with time zone"),
        ("timestamp", "timestamp without time zone", "timestamp"),
        ("float", "double precision", "double"),
        ("real", "real", "double"),
        ("uuid", "uuid", "varchar"),
        ("text[]", "text[]", "varchar"),
    ],
)
def test_types_are_those_that_ingest_gives_bronze(spelled: str, kind: str, lakes: str) -> None:
    assert (postgres_kind(spelled), postgres_type(spelled)) == (kind, lakes)


def test_a_misspelt_type_is_refused_but_a_databases_own_is_text() -> None:
    with pytest.raises(ScaffoldError, match="Column id of t has type 'bigimt', which postgres does not have"):
        POSTGRES.column("t", "id", "bigimt")
    assert postgres_type("order_status", known_only=False) == "varchar"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Billing", "is no name"),
        ("bill__ing", "is no name"),
        ("b" * 21, "at most 20 characters"),
        ("lake", "a word that the lakehouse or Python uses itself"),
        ("class", "a word that the lakehouse or Python uses itself"),
        ("saas", "There is a domain saas already. `lake new stream saas"),
        ("saas_eu", "could not be told from saas"),
        ("postgres", "is not free: there is include/sources/postgres"),
        ("stack", "is not free: there is include/local/stack.py"),
        ("built", "is not free: there is include/quality/suites/built.py"),
    ],
)
def test_a_domain_that_cannot_be_called_so_is_refused(name: str, said: str) -> None:
    with pytest.raises(ScaffoldError, match=said):
        check_domain(name, ROOT)


def test_a_mart_counts_and_sums_what_its_unit_test_says() -> None:
    text, day = Column("site", "varchar", "varchar"), Column("created_date", "date", "date")
    currency, total = Column("currency", "varchar", "varchar"), Column("total", "decimal(12,2)", "decimal(12,2)")
    mart = Mart("invented", "mrt_revenue_daily", "fct_invented_orders", (text, day, currency), "orders", (total,))
    assert mart.measures == {
        "deleted_orders_count": "count(*) filter (where is_deleted)",
        "total_sum": "cast(sum(total) as decimal(38, 2))",
    }
    assert mart.given[1] == "{site: a, created_date: 2026-03-01, currency: x, is_deleted: true, total: 2}"
    assert mart.expected[0] == (
        "{site: a, created_date: 2026-03-01, currency: x, orders_count: 2, deleted_orders_count: 1, total_sum: 4}"
    )
    with pytest.raises(ScaffoldError, match="must begin with mrt_"):
        replace(mart, name="revenue_daily")
    with pytest.raises(ScaffoldError, match="has no owner"):
        replace(mart, owner=" ")


def test_every_kind_has_its_templates() -> None:
    templates = Path(ROOT / "include/scaffold/templates/kinds")
    assert {path.name for path in templates.iterdir()} == set(KINDS)
