"""Which names may be given, and which names of columns look as if they named or addressed a person."""

import keyword
import re
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from include.domains import domains
from include.errors import LakehouseError

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
# So that `mrt_<domain>_<stream>_daily` is a name in PostgreSQL.
LONGEST = {"Domain": 20, "Stream": 30, "Mart": 59, "Source": 20}
# A domain of these names would take a DAG, a module or a table of the lakehouse's own.
RESERVED = {"lake", "dbt", "marts", "meta", "quarantine", "bronze", "silver", "gold", "main", "test", "tests"}
PERSONAL = re.compile(
    "name|firstname|lastname|fullname|surname|forename|nickname|username|login|email|mail|phone|telephone|"
    "mobile|fax|address|addr|street|city|zip|zipcode|postcode|postal|contact|birth|birthday|birthdate|born|dob|"
    "gender|sex|ssn|passport|iban|tax|license|ip|useragent|latitude|longitude|lat|lon|lng|geo|avatar|photo|"
    "picture|signature"
)
PERSONAL_PAIRS = frozenset({("user", "agent"), ("mac", "address"), ("national", "id"), ("given", "by")})
# What people write into these may name anybody.
FREE_TEXT = re.compile(
    "note|notes|comment|comments|message|body|description|remark|remarks|feedback|memo|bio|about|text|content|"
    "payload|properties|metadata|attributes|reason"
)
FREE_TEXT_TYPES = frozenset({"json", "jsonb", "xml", "hstore"})


class ScaffoldError(LakehouseError):
    """What was asked for cannot be written; nothing was."""


def check_name(what: str, name: str) -> None:
    """Raises: ScaffoldError: the name is not snake_case, or too long."""
    if not NAME.fullmatch(name) or len(name) > LONGEST[what]:
        raise ScaffoldError(
            f"{what} {name!r} is no name; expected snake_case (lower case letters, digits and single _), at most "
            f"{LONGEST[what]} characters."
        )


def check_domain(name: str, root: Path) -> None:
    """Raises: ScaffoldError: no domain can be called so in this repository."""
    check_name("Domain", name)
    if name in RESERVED or keyword.iskeyword(name):
        raise ScaffoldError(f"Domain {name} is a word that the lakehouse or Python uses itself; choose another.")
    known = domains(root / "include/sources")
    if name in known:
        raise ScaffoldError(
            f"There is a domain {name} already. `lake new stream {name} …` adds a stream, `lake new mart {name} …` a "
            "mart."
        )
    for other in known:
        if name.startswith(f"{other}_") or other.startswith(f"{name}_"):
            raise ScaffoldError(
                f"Domain {name} could not be told from {other} by its DAGs and tables, as one name begins with the "
                "other; choose another."
            )
    for folder in ("include/sources", "include/local", "include/quality/suites"):
        taken = [path for path in (root / folder / name, root / folder / f"{name}.py") if path.exists()]
        if taken:
            raise ScaffoldError(f"Domain {name} is not free: there is {taken[0].relative_to(root)}. Choose another.")


def is_personal(column: str) -> bool:
    """Whether a column's name says that it names or addresses a person."""
    words = column.split("_")
    return any(map(PERSONAL.fullmatch, words)) or any(pair in PERSONAL_PAIRS for pair in pairwise(words))


def is_free_text(column: str, kind: str) -> bool:
    """Whether anything may be written in a column."""
    return kind.lower() in FREE_TEXT_TYPES or any(map(FREE_TEXT.fullmatch, column.split("_")))


@lru_cache(maxsize=1)
def reserved_words() -> frozenset[str]:
    """Words that DuckDB takes for a column only in quotes."""
    import duckdb

    rows = duckdb.sql("select keyword_name from duckdb_keywords() where keyword_category = 'reserved'").fetchall()
    return frozenset(name for (name,) in rows)
