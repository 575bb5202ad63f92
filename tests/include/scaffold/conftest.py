"""A bare repository to write into, and streams with every type and the longest names."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from include.scaffold.flags import Flags
from include.scaffold.kinds import KINDS
from include.scaffold.plan import Plan, new_domain
from include.scaffold.spec import Domain, Stream, mart_of
from include.settings import ROOT

ORDERS = (
    "order_id:bigint,customer_id:bigint,status:text,total:numeric(12,2),currency:char(3),notes:text,"
    "created_at:timestamptz,updated_at:timestamptz,deleted_at:timestamptz"
)
CUSTOMERS = (
    "customer_id:bigint,email:text,full_name:varchar(80),country:text,created_at:timestamptz,updated_at:timestamptz"
)
TYPES = (
    "line_id:uuid,line_no:int,small:smallint,share:double precision,rate:real,is_paid:bool,is_deleted:boolean,"
    "paid_on:date,local_at:timestamp,shape:jsonb,any_number:numeric,address_of_host:inet,raw:bytea,tags:text[],"
    "took:interval,cents:numeric(4,4),happened_on:date"
)
# Every type that a stream of an API or of files may declare.
DECLARED_TYPES = (
    "line_id:text,line_no:bigint,share:double,is_paid:boolean,is_deleted:boolean,paid_on:date,local_at:timestamp,"
    "cents:decimal(4,4),total:numeric(12,2),happened_at:timestamptz,updated_at:timestamptz"
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of what `lake new` looks at, and of what linters tell our own modules by."""
    for name in ("pyproject.toml", ".sqlfluff"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("include", "tests", "dbt/models", "dbt/macros"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "tools"))
    return tmp_path


def streams(domain: str = "invented", kind: str = "postgres") -> tuple[Stream, ...]:
    """Documents of people, people, and a table of every type, keyed by two columns, without a time of changes."""
    is_postgres = kind == "postgres"
    flags = Flags(
        KINDS[kind],
        columns={
            "orders": ORDERS if is_postgres else ORDERS.replace("char(3)", "text"),
            "customers": CUSTOMERS if is_postgres else CUSTOMERS.replace("varchar(80)", "text"),
            "lines": TYPES if is_postgres else DECLARED_TYPES,
        },
        subject={"orders": "customer_id", "customers": "customer_id", "lines": "nobody: lines are an order's"},
        clear={"lines": "address_of_host"} if is_postgres else {},
        facts=("orders",),
    )
    lines = "local_at:happened_on" if is_postgres else "updated_at:happened_at"
    spelled = ("orders:order_id:updated_at", "customers", f"lines:line_id,line_no:{lines}")
    return tuple(flags.stream(domain, each if ":" in each else f"{each}:customer_id:updated_at") for each in spelled)


def invented(root: Path, kind: str = "postgres") -> Plan:
    made = streams(kind=kind)
    return new_domain(root, KINDS[kind], Domain("invented", made, (mart_of(made[0], "finance"),)))


@pytest.fixture
def written(repository: Path) -> Callable[..., Path]:
    """Writes the domain `invented` into the repository and gives its folder."""

    def write(kind: str = "postgres") -> Path:
        invented(repository, kind).write()
        return repository

    return write
