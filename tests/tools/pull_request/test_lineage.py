"""Columns that a change reaches, by the SQL of both sides."""

from typing import Any

from tools.pull_request.lineage import Compiled, Reach, reach
from tools.pull_request.models import ModelChange, Project

DAILY = """
with readings as (select * from "dl"."silver"."readings" where glucose > 20),
measured as (
    select site, day, count(*) as readings, avg(glucose order by at) as mean,
        100.0 * count(*) filter (where glucose < 54) / count(*) as low
    from readings group by site, day
),
final as (select *, 3.31 + 0.02 * mean as gmi from measured)
select * from final
"""
OVERVIEW = """
with days as (select * from "dl"."gold"."daily" where readings > 10)
select site, max(gmi) as worst_gmi, max(low) as worst_low from days group by site
"""
UNION = """
select site, low as share, 'low' as kind from "dl"."gold"."daily"
union all
select site, gmi as share, 'gmi' as kind from "dl"."gold"."daily"
"""
SQL = {"daily": DAILY, "overview": OVERVIEW, "both": UNION}
DOUBLES = dict.fromkeys(("mean", "low", "gmi"), "DOUBLE")
COLUMNS = {
    "silver": {"readings": {"site": "VARCHAR", "day": "DATE", "at": "TIMESTAMP", "glucose": "DOUBLE"}},
    "gold": {
        "daily": {"site": "VARCHAR", "day": "DATE", "readings": "BIGINT"} | DOUBLES,
        "overview": {"site": "VARCHAR", "worst_gmi": "DOUBLE", "worst_low": "DOUBLE"},
        "both": {"site": "VARCHAR", "share": "DOUBLE", "kind": "VARCHAR"},
    },
}


def project() -> Project:
    def node(schema: str, name: str, *parents: str) -> dict[str, Any]:
        return {
            "resource_type": "model",
            "schema": schema,
            "name": name,
            "alias": name,
            "columns": {},
            "depends_on": {"nodes": [f"model.{parent}" for parent in parents], "macros": []},
        }

    nodes = {
        "model.readings": node("silver", "readings"),
        "model.daily": node("gold", "daily", "readings"),
        "model.overview": node("gold", "overview", "daily"),
        "model.both": node("gold", "both", "daily"),
    }
    return Project({"nodes": nodes, "sources": {}, "macros": {}})


def reached(after: dict[str, str], *changed: str, kind: str = "changed") -> Reach:
    changes = [ModelChange(table, "clinic", kind, ("SQL",)) for table in changed]
    return reach(project(), changes, Compiled(SQL, COLUMNS), Compiled(SQL | after, COLUMNS))


def test_a_threshold_reaches_its_column_and_what_is_made_of_it() -> None:
    found = reached({"daily": DAILY.replace("< 54", "< 60")}, "gold.daily")
    assert found == Reach(
        {"gold.daily": ("low",), "gold.overview": ("worst_low",), "gold.both": ("share",)}, frozenset(), {}
    )


def test_a_column_that_is_made_of_a_changed_one_in_the_same_model_is_reached() -> None:
    found = reached({"daily": DAILY.replace("avg(glucose order by at)", "median(glucose)")}, "gold.daily")
    assert found.columns["gold.daily"] == ("mean", "gmi")
    assert found.columns["gold.overview"] == ("worst_gmi",)


def test_another_choice_of_rows_reaches_every_column_however_far() -> None:
    found = reached({"daily": DAILY.replace("glucose > 20", "glucose > 30")}, "gold.daily")
    assert found.by_rows == {"gold.daily", "gold.overview", "gold.both"}
    assert found.columns["gold.overview"] == ("site", "worst_gmi", "worst_low")


def test_a_column_that_chooses_rows_downstream_reaches_every_column_there() -> None:
    found = reached({"daily": DAILY.replace("count(*) as readings", "count(at) as readings")}, "gold.daily")
    assert found.columns["gold.daily"] == ("readings",)
    assert found.by_rows == {"gold.overview"}
    assert "gold.both" not in found.columns


def test_formatting_comments_and_words_reach_nothing() -> None:
    text = "-- a comment\n" + DAILY.replace("\n", "\n  ").replace("< 54", "<    54")
    assert reached({"daily": text}, "gold.daily").columns == {}


def test_sql_that_cannot_be_read_counts_as_reached_whole_and_is_named() -> None:
    found = reached({"daily": "select from where ((("}, "gold.daily")
    assert found.by_rows >= {"gold.daily"}
    assert list(found.unread) == ["gold.daily"]


def test_a_new_model_is_reached_whole() -> None:
    assert reached({}, "gold.both", kind="added").columns == {"gold.both": ("site", "share", "kind")}
