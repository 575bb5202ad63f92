"""What would be written is whole and well-formed, touches nothing that is there, and is all or nothing."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from include.layers import Layer
from include.scaffold.flags import Flags
from include.scaffold.kinds import KINDS
from include.scaffold.names import ScaffoldError
from include.scaffold.plan import Plan, new_domain, new_mart, new_stream
from include.scaffold.spec import Domain, Stream, mart_of
from tests.include.scaffold.conftest import ORDERS, invented, streams

POSTGRES = KINDS["postgres"]


def refunds(
    domain: str = "invented", subject: str = "nobody: a refund is an order's", kind: str = "postgres"
) -> Stream:
    columns = "refund_id:bigint,amount:numeric(12,2),customer_id:bigint,created_at:timestamptz,updated_at:timestamptz"
    flags = Flags(KINDS[kind], columns={"refunds": columns}, subject={"refunds": subject})
    return flags.stream(domain, "refunds:refund_id:updated_at")


def lint(root: Path, domain: str = "invented") -> None:
    for command in (("ruff", "check"), ("ruff", "format", "--diff")):
        done = subprocess.run(
            [str(Path(sys.executable).with_name(command[0])), *command[1:], "."],
            cwd=root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for layer in Layer:
        linted = [str(Path(sys.executable).with_name("sqlfluff")), "lint", f"dbt/models/{layer}/{domain}"]
        done = subprocess.run(linted, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    for path in root.rglob("*.yml"):
        assert yaml.safe_load(path.read_text()), path


def test_a_domain_has_every_part_that_a_domain_has(repository: Path) -> None:
    plan = invented(repository)
    assert not plan.changed
    assert {
        "dags/invented_daily.py",
        "dags/invented_replay.py",
        "docs/how-to/invented.md",
        "include/local/invented/sample.py",
        "include/quality/suites/invented.py",
        "include/sources/invented/__main__.py",
        "include/sources/invented/README.md",
        "include/sources/invented/databases.yaml",
        "include/sources/invented/run.py",
        "include/sources/invented/streams.py",
        "dbt/models/bronze/invented/_invented__sources.yml",
        "dbt/models/bronze/invented/stg_invented__lines.sql",
        "dbt/models/silver/invented/dim_invented_lines.yml",
        "dbt/models/silver/invented/fct_invented_orders.sql",
        "dbt/models/gold/invented/mrt_invented_orders_daily.sql",
        "tests/dbt/test_invented.py",
        "tests/include/sources/invented/test_invented.py",
        "tests/pipeline/test_invented.py",
    } < set(plan.new)
    assert not [path for path in plan.new if re.search(r"DOMAIN|STAGING|MODEL|MART|\.j2", path)]
    assert not [path for path, text in plan.new.items() if re.search(r"<<|<%|%>", text)]
    assert all(text.endswith("\n") and "\n\n\n\n" not in text for text in plan.new.values() if text)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_satisfies_the_linters(written: Callable[..., Path], kind: str) -> None:
    root = written(kind)
    new_stream(root, refunds(kind=kind)).write()
    new_mart(
        root,
        "invented",
        "mrt_invented_revenue_daily",
        "fct_invented_orders",
        by=["currency"],
        sums=["total"],
        owner="finance",
    ).write()
    lint(root)


@pytest.mark.parametrize(
    ("domain", "of", "day"), [("nightscout", "fct_bolus_event", "local_date"), ("saas", "fct_product_event", None)]
)
def test_a_mart_of_a_domain_that_was_written_by_hand(repository: Path, domain: str, of: str, day: str | None) -> None:
    plan = new_mart(repository, domain, "mrt_counted_daily", of, day=day, owner="x")
    suites = f"include/quality/suites/{domain}.py"
    assert set(plan.changed) == {suites, f"tests/dbt/test_{domain}.py"}
    assert plan.changed[suites].count("mrt_counted_daily") == 1
    plan.write()
    lint(repository, domain)


def test_the_longest_names_satisfy_the_linters(repository: Path) -> None:
    domain, name, column = "zz" * 10, "s" * 30, "c" * 44 + "_email"
    flags = Flags(
        POSTGRES,
        {name: f"{ORDERS},country:text,{column}:text"},
        {name: "customer_id"},
        {name: "country"},
        {name: "notes"},
        (name,),
    )
    stream = flags.stream(domain, f"{name}:order_id,status,currency:updated_at")
    new_domain(repository, POSTGRES, Domain(domain, (stream,), (mart_of(stream, "finance"),))).write()
    lint(repository, domain)


def test_nothing_is_overwritten_and_then_nothing_is_written(repository: Path) -> None:
    plan = invented(repository)
    (repository / "docs/how-to").mkdir(parents=True)
    (repository / "docs/how-to/invented.md").write_text("mine")
    with pytest.raises(
        ScaffoldError, match=r"There is docs/how-to/invented.md already, and `lake new` overwrites nothing"
    ):
        plan.write()
    assert (repository / "docs/how-to/invented.md").read_text() == "mine"
    assert not (repository / "dags").exists()


def test_a_domain_needs_a_stream_a_new_name_and_models_that_are_new(repository: Path) -> None:
    made = streams()
    with pytest.raises(ScaffoldError, match="has no stream"):
        new_domain(repository, POSTGRES, Domain("invented", (), ()))
    with pytest.raises(ScaffoldError, match="Stream orders is named more than once"):
        new_domain(repository, POSTGRES, Domain("invented", (made[0], made[0]), (mart_of(made[0], "x"),)))
    taken = repository / "dbt/models/silver/saas/fct_invented_orders.sql"
    taken.write_text("select 1")
    with pytest.raises(ScaffoldError, match=r"There is a model fct_invented_orders already, dbt/models/silver/saas"):
        invented(repository)


def test_personal_columns_are_hashed_and_free_text_is_left(repository: Path) -> None:
    plan = invented(repository)
    silver = plan.new["dbt/models/silver/invented/dim_invented_customers.sql"]
    assert "{{ keyed_hash('invented', 'lower(trim(email))') }} as email_hash" in silver
    assert not re.search(r"^\s+(email|full_name),$", silver, re.MULTILINE)
    assert "notes" not in plan.new["dbt/models/silver/invented/fct_invented_orders.sql"]
    assert "notes" in plan.new["dbt/models/bronze/invented/stg_invented__orders.sql"]
    assert 'subject=nobody("lines are an order\'s"),' in plan.new["include/sources/invented/streams.py"]


def test_a_stream_is_added_where_the_others_are(written: Callable[[], Path]) -> None:
    root = written()
    plan = new_stream(root, refunds())
    assert set(plan.changed) == {
        "include/sources/invented/streams.py",
        "include/quality/suites/invented.py",
        "include/local/invented/sample.py",
        "tests/dbt/test_invented.py",
        "dbt/models/bronze/invented/_invented__sources.yml",
    }
    for path, text in plan.changed.items():
        assert removed_lines((root / path).read_text(), text) == [], path
        if path.endswith(".py"):
            ast.parse(text)
    assert len(plan.new) == 4
    plan.write()
    with pytest.raises(ScaffoldError, match="There is a model stg_invented__refunds already"):
        new_stream(root, refunds())


def removed_lines(before: str, after: str) -> list[str]:
    """Lines that are not there any more, in whatever place."""
    left = after.splitlines()
    return [line for line in before.splitlines() if line not in left]


def test_what_a_stream_says_of_its_subject_is_imported(repository: Path) -> None:
    (first,) = (stream for stream in streams() if stream.name == "customers")
    new_domain(repository, POSTGRES, Domain("invented", (first,), (mart_of(first, "x"),))).write()
    changed = new_stream(repository, refunds()).changed["include/sources/invented/streams.py"]
    assert "from include.sources.subjects import Subject, nobody\n" in changed
    unchanged = new_stream(repository, refunds(subject="customer_id")).changed["include/sources/invented/streams.py"]
    assert "from include.sources.subjects import Subject\n" in unchanged


def test_a_domain_of_another_shape_is_told_what_to_add(repository: Path) -> None:
    with pytest.raises(ScaffoldError, match=r"There is no domain nowhere; known are .*saas"):
        new_stream(repository, refunds("nowhere"))
    with pytest.raises(ScaffoldError, match="imports the streams of none of postgres"):
        new_stream(repository, refunds("nightscout"))
    with pytest.raises(
        ScaffoldError, match=r"suites/saas.py assigns no list of several lines to SILVER(.|\n)*from_records"
    ):
        new_stream(repository, refunds("saas"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"domain": "nowhere"}, "There is no domain nowhere"),
        ({"of": "fct_nothing"}, "There is no silver model fct_nothing in invented; it has dim_invented_customers"),
        ({"of": "dim_invented_lines"}, "has paid_on, happened_on, happened_date of type date; say which"),
        ({"day": "currency"}, "Column currency of fct_invented_orders is varchar; expected a date"),
        ({"by": ["color"]}, "Model fct_invented_orders has no column color; it has site, order_id"),
        ({"sums": ["currency"]}, "Column currency of fct_invented_orders is no number"),
        ({"name": "mrt_invented_orders_daily"}, "There is a model mrt_invented_orders_daily already"),
        ({"name": "revenue"}, "must begin with mrt_"),
    ],
)
def test_a_mart_that_cannot_be_is_refused(written: Callable[[], Path], options: dict, said: str) -> None:
    asked = {
        "domain": "invented",
        "name": "mrt_invented_revenue_daily",
        "of": "fct_invented_orders",
        "owner": "x",
    } | options
    with pytest.raises(ScaffoldError, match=said):
        new_mart(written(), **asked)


def test_a_mart_counts_by_what_it_was_told(written: Callable[[], Path]) -> None:
    root = written()
    plan = new_mart(
        root,
        "invented",
        "mrt_invented_revenue_daily",
        "fct_invented_orders",
        by=["currency"],
        sums=["total"],
        owner="x",
    )
    sql = plan.new["dbt/models/gold/invented/mrt_invented_revenue_daily.sql"]
    assert "cast(sum(total) as decimal(38, 2)) as total_sum" in sql
    stated = yaml.safe_load(plan.new["dbt/models/gold/invented/mrt_invented_revenue_daily.yml"])
    assert stated["models"][0]["config"]["meta"]["key"] == ["site", "created_date", "currency"]
    assert len(stated["unit_tests"][0]["given"][0]["rows"]) == 4
    assert set(plan.changed) == {"include/quality/suites/invented.py", "tests/dbt/test_invented.py"}


def test_layers_of_templates_are_the_layers(repository: Path) -> None:
    folders = {path.split("/")[2] for path in invented(repository).new if path.startswith("dbt/models/")}
    assert folders == {layer.value for layer in Layer}


def test_a_plan_that_fails_half_way_through_the_reading_changes_nothing(repository: Path) -> None:
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    with pytest.raises(ScaffoldError):
        new_stream(repository, refunds("saas"))
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before
    assert Plan(repository).new == {}
