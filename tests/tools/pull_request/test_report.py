"""What reviewers read."""

from datetime import UTC, datetime

import pytest

from tools.pull_request.changes import Change, Selection
from tools.pull_request.check import Outcome
from tools.pull_request.dags import DagChange
from tools.pull_request.lineage import Reach
from tools.pull_request.models import ModelChange
from tools.pull_request.report import markdown, summary
from tools.pull_request.rows import Difference, Example

MODEL = Change("dbt/models/gold/clinic/mrt_daily.sql", "changed")


def gate(layer: str, warned: list[str] | None = None) -> dict:
    return {"gate": f"gate_{layer}", "evaluated": 10, "warned": warned or []}


def run(*layers: str, failed: dict | None = None) -> dict:
    return {"steps": [{"name": "gold", "seconds": 1.5}], "gates": [gate(layer) for layer in layers], "failed": failed}


@pytest.fixture
def outcome() -> Outcome:
    """A model of one mart was changed; that mart differs, another is made from it, a third is not."""
    at = datetime(2026, 10, 26, 7, tzinfo=UTC)
    changed = Difference(
        "gold.mrt_daily",
        19,
        20,
        added=1,
        changed=4,
        columns={"low_pct": 4},
        columns_added=("share",),
        examples=(Example({"site": "a|b", "at": at}, {"low_pct": (1.0, 1.25)}),),
    )
    same = {name: Difference(name, 5, 5) for name in ("gold.mrt_overview", "gold.mrt_other", "silver.fct_reading")}
    every = ("bronze", "silver", "gold")
    return Outcome(
        base="origin/main",
        commit="0123456789abcdef",
        changes=[Change("docs/a.md", "changed"), MODEL],
        selection=Selection({"clinic": [MODEL.path]}, frozenset(), {}, []),
        dag_changes=[DagChange("clinic_daily", "changed", ("tags: +new",), (("gold.mrt_new.run", "added"),))],
        parse_seconds={"dags/clinic_daily.py": (0.04, 0.05)},
        model_changes=[ModelChange("gold.mrt_daily", "clinic", "changed", ("SQL",))],
        reach=Reach({"gold.mrt_daily": ("low_pct",), "gold.mrt_overview": ("worst",)}, frozenset(), {}),
        days={"clinic": "2026-10-24..2026-10-28"},
        runs={"clinic": [run(*every), run(*every)]},
        base_runs={"clinic": [run(*every)]},
        repeated={"clinic": {name: Difference(name, 5, 5) for name in (*same, "gold.mrt_daily")}},
        compared={"clinic": {"gold.mrt_daily": changed, **same}},
        affected={"gold.mrt_daily", "gold.mrt_overview"},
    )


def test_a_passing_report_says_what_differs_what_does_not_and_what_was_proved(outcome: Outcome) -> None:
    text = markdown(outcome, 61.2)
    assert text.startswith("# Pull request check: ✅ passes\n")
    assert "1 of 3 marts differs from the base: `mrt_daily` (1 added, 4 changed of 20 rows, +share)." in text
    assert "ran a second time and changed no row of 4 tables" in text
    assert "| `mrt_daily` | 19 → 20 | 1 |  | 4 | `low_pct` (4), **+**`share` |" in text
    assert "| a\\|b | 2026-10-26 07:00:00+00:00 | `low_pct` | 1 | 1.25 | +0.25 |" in text
    assert "**Affected, and the same on these days**: `mrt_overview`." in text
    assert "their rows are the same): `mrt_other`." in text
    assert "| `gold.mrt_overview` | downstream | `worst` |" in text
    assert "| clinic | gate_gold | green, 10 checks | green, 10 checks |" in text
    assert "| `clinic_daily` | **changed** | tags: +new |" in text
    assert "|  | `gold.mrt_new.run` | added |" in text
    assert "| `dags/clinic_daily.py` | 40 | 50 |" in text
    assert f"| `{MODEL.path}` | changed | clinic |" in text
    assert "Look at" not in text


def test_each_reason_stands_before_everything_else_and_keeps_its_lines(outcome: Outcome) -> None:
    outcome.reasons = ["clinic, run 1: gold failed.\nmrt_daily: no such column\nmrt_other: skipped", "Another."]
    outcome.runs = {"clinic": [run("bronze", "silver", failed={"step": "gate_gold", "error": "red"})]}
    text = markdown(outcome, 1)
    assert text.startswith("# Pull request check: ❌ fails\n")
    assert text.index("## Why it fails") < text.index("## Marts")
    assert "```text\nmrt_daily: no such column\nmrt_other: skipped\n```" in text
    assert "| clinic | gate_gold | **red** |  |" in text
    assert "gates are green" not in text
    assert "✘ Another." in summary(outcome, 1).plain


def test_documents_alone_pass_and_the_report_says_why_nothing_ran() -> None:
    outcome = Outcome("origin/main", "0" * 40, [Change("docs/a.md", "changed"), Change("README.md", "changed")])
    text = markdown(outcome, 0.2)
    assert "✅ passes" in text
    assert "**No file of the pipeline changed** (`docs`, `README.md`)" in text
    assert "## Marts" not in text
    assert "No file of the pipeline changed" in summary(outcome, 0.2).plain


def test_what_a_reviewer_must_know_is_said_without_failing(outcome: Outcome) -> None:
    outcome.notices = ["Something odd."]
    outcome.parse_seconds = {"dags/clinic_daily.py": (0.3, 1.3)}
    outcome.repeated["clinic"]["gold.mrt_overview"] = Difference("gold.mrt_overview", 0, 0)
    outcome.reach = Reach({}, frozenset({"gold.mrt_daily"}), {"gold.mrt_daily": "odd SQL"})
    outcome.changes.append(Change("requirements.lock", "changed"))
    text = markdown(outcome, 1)
    assert "✅ passes" in text
    for words in (
        "Something odd.",
        "takes 1.30 s to parse, 0.30 s before",
        "`mrt_overview` has no row".replace("mrt", "gold.mrt"),
        "is not understood (odd SQL)",
        "Packages differ",
    ):
        assert words in text


def test_without_a_base_nothing_passes_for_compared(outcome: Outcome) -> None:
    outcome.base_error, outcome.compared, outcome.reach = "it does not parse", {}, None
    outcome.model_changes, outcome.dag_changes = [], []
    text = markdown(outcome, 1)
    assert "nothing is compared with it: it does not parse" in text
    assert "No model differs" not in text
    assert "No DAG and no task" not in text
    assert "none differs" not in text


def test_a_mart_that_is_new_or_gone_is_said_to_be(outcome: Outcome) -> None:
    outcome.compared["clinic"] |= {
        "gold.mrt_new": Difference("gold.mrt_new", None, 7, added=7),
        "gold.mrt_old": Difference("gold.mrt_old", 3, None, gone=3),
    }
    text = markdown(outcome, 1)
    assert "| `mrt_new` | — → 7 | 7 |  |  | the mart is new |" in text
    assert "| `mrt_old` | 3 → — |  | 3 |  | the mart is gone |" in text
