"""What the check found, in words: a Markdown page for reviewers, and a few lines for the terminal."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from rich.text import Text

from include.layers import Layer
from tools.pull_request.check import Outcome
from tools.pull_request.rows import Difference

FILES_SHOWN = 20
COLUMNS_SHOWN = 8
# Of how many marts the first rows are unfolded.
SHOWN = 2
# A file that takes this much longer than before, and more than this many seconds longer, is pointed at.
SLOWER, SLOWER_SECONDS = 1.5, 0.5


def markdown(outcome: Outcome, seconds: float) -> str:
    """The report."""
    parts = [
        f"# Pull request check: {'✅ passes' if outcome.passed else '❌ fails'}",
        _opening(outcome, seconds),
        *_reasons(outcome),
        *_notices(outcome),
        *_marts(outcome),
        *_models(outcome),
        *_dags(outcome),
        *_gates(outcome),
        *_runs(outcome),
        *_files(outcome),
    ]
    return "\n\n".join(parts) + "\n"


def summary(outcome: Outcome, seconds: float) -> Text:
    """The verdict and what led to it."""
    text = Text()
    verdict, style = ("passes", "bold green") if outcome.passed else ("fails", "bold red")
    text.append(f"The check {verdict}", style).append(f" against {outcome.base} ({seconds:.0f} s)\n")
    for reason in outcome.reasons:
        text.append("✘ ", "red").append(f"{reason}\n")
    for line in _in_short(outcome):
        text.append("· ", "dim").append(f"{line.replace('`', '').replace('**', '')}\n")
    for notice in _all_notices(outcome):
        text.append("! ", "yellow").append(f"{notice.replace('`', '')}\n")
    return text


def _opening(outcome: Outcome, seconds: float) -> str:
    files = f"{_count(outcome.changes, 'file')} differ{'s' if len(outcome.changes) == 1 else ''}"
    where = f"{files} from `{outcome.base}` at `{outcome.commit[:10]}`, {len(outcome.pipeline_changes)} of the pipeline"
    return f"{where}. Took {seconds:.0f} s.\n\n" + "\n".join(f"- {line}" for line in _in_short(outcome))


def _in_short(outcome: Outcome) -> Iterator[str]:
    """The findings, a line each."""
    if outcome.changes and not outcome.pipeline_changes:
        folders = Counter(change.folder if change.folder != "." else change.path for change in outcome.changes)
        listed = ", ".join(f"{number} in `{name}`" if number > 1 else f"`{name}`" for name, number in folders.items())
        yield (
            f"**No file of the pipeline changed** ({listed}), so no DAG, model or row can differ: nothing was run, and "
            "nothing needed to be. `make test` and `make lint` speak for these files."
        )
    differing = _differing_marts(outcome)
    compared = {table: found for tables in outcome.compared.values() for table, found in tables.items()}
    marts = [table for table in compared if _is_mart(table)]
    if marts:
        named = ", ".join(f"`{table.name}` ({_in_words(table)})" for table in differing)
        yield (
            f"{len(differing)} of {_count(marts, 'mart')} differ{'s' if len(differing) == 1 else ''} from the base"
            + (f": {named}." if named else ", on the demo's days.")
        )
    for domain, tables in outcome.repeated.items():
        if not any(tables.values()):
            yield (
                f"{domain}: the same days ({outcome.days[domain]}, the end exclusive) ran a second time and changed no "
                f"row of {len(tables)} tables in silver and gold."
            )
    gates = [gate for runs in outcome.runs.values() for run in runs for gate in run["gates"]]
    if gates and not any(run["failed"] for runs in outcome.runs.values() for run in runs):
        warned = sum(len(gate["warned"]) for gate in gates)
        checks = sum(gate["evaluated"] for gate in gates)
        yield f"All {len(gates)} gates are green ({checks} checks, {_count(warned, 'warning')})."
    if outcome.selection and not outcome.base_error:
        kinds = Counter(change.kind for change in outcome.model_changes)
        models = ", ".join(f"`{change.table}` {change.kind}" for change in outcome.model_changes[:COLUMNS_SHOWN])
        if len(outcome.model_changes) > COLUMNS_SHOWN:
            models = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        models = models or "none differs"
        dags = ", ".join(f"`{change.dag_id}` {change.kind}" for change in outcome.dag_changes) or "none differs"
        yield f"Models: {models}. DAGs: {dags}."


def _reasons(outcome: Outcome) -> Iterator[str]:
    if outcome.reasons:
        yield "## Why it fails"
        for reason in outcome.reasons:
            first, _, rest = reason.partition("\n")
            yield f"**{first}**" + (f"\n\n```text\n{rest}\n```" if rest else "")


def _all_notices(outcome: Outcome) -> list[str]:
    found = list(outcome.notices)
    if outcome.base_error:
        error = " ".join(outcome.base_error.splitlines()[-3:])
        found.insert(0, f"The base cannot be run, so nothing is compared with it: {error}")
    if any(change.path == "requirements.lock" for change in outcome.changes):
        found.append("Packages differ: both sides ran with this change's, so what only they change shows nowhere.")
    for file, (before, after) in outcome.parse_seconds.items():
        if before and after and after > SLOWER * before and after - before > SLOWER_SECONDS:
            found.append(f"`{file}` takes {after:.2f} s to parse, {before:.2f} s before.")
    for tables in outcome.repeated.values():
        empty = [
            name for name, found in tables.items() if name in outcome.affected and _is_mart(name) and not found.after
        ]
        found += [f"`{name}` has no row on the demo's days: nothing of it was compared." for name in empty]
    if outcome.reach:
        unread = outcome.reach.unread.items()
        found += [
            f"`{name}` counts as reached in all columns: its SQL is not understood ({why})." for name, why in unread
        ]
    return found


def _notices(outcome: Outcome) -> Iterator[str]:
    if found := _all_notices(outcome):
        yield "## Look at\n\n" + "\n".join(f"- {' '.join(notice.split())}" for notice in found)


def _marts(outcome: Outcome) -> Iterator[str]:
    if not outcome.compared:
        return
    yield "## Marts\n\nRows of the change against those of the base, both from the same demo sources."
    differing = _differing_marts(outcome)
    if differing:
        yield _table(
            ("Mart", "Rows", "Added", "Gone", "Changed", "Columns that differ (rows)"),
            [
                (
                    f"`{found.name}`",
                    f"{_or_none(found.before)} → {_or_none(found.after)}",
                    *(str(number) if number else "" for number in (found.added, found.gone, found.changed)),
                    _columns_of(found),
                )
                for found in differing
            ],
        )
    names = {table for tables in outcome.compared.values() for table in tables if _is_mart(table)}
    same = names - {found.table for found in differing}
    if affected := same & outcome.affected:
        yield f"**Affected, and the same on these days**: {_names(affected)}."
    if untouched := same - outcome.affected:
        yield f"**Untouched** (nothing they are made from changed, and their rows are the same): {_names(untouched)}."
    for found in differing:
        yield from _examples(found, shown=len(differing) <= SHOWN)
    silver = [found for tables in outcome.compared.values() for found in tables.values() if found]
    if silver := [found for found in silver if not _is_mart(found.table)]:
        named = "; ".join(f"`{found.table}` ({_in_words(found)})" for found in silver)
        yield f"**Upstream of the marts**, these differ as well: {named}."


def _examples(found: Difference, *, shown: bool) -> Iterator[str]:
    if not found.examples:
        return
    keys = list(found.examples[0].key)
    lines = [
        (*(_value(example.key[name]) for name in keys), f"`{column}`", _value(old), _value(new), _step(old, new))
        for example in found.examples
        for column, (old, new) in list(example.values.items())[:COLUMNS_SHOWN]
    ]
    head = (*keys, "Column", "Base", "Change", "By")
    if not any(line[-1] for line in lines):
        head, lines = head[:-1], [line[:-1] for line in lines]
    title = f"<code>{found.name}</code>: the first {len(found.examples)} of {_count(found.changed, 'row')} that changed"
    yield _folded(title, _table(head, lines), shown=shown)


def _models(outcome: Outcome) -> Iterator[str]:
    if not outcome.model_changes and not outcome.reach:
        return
    yield "## Models and columns"
    if not outcome.model_changes:
        yield "No model differs."
        return
    reached = outcome.reach.columns if outcome.reach else {}
    whole = outcome.reach.by_rows if outcome.reach else frozenset()
    lines = []
    for change in outcome.model_changes:
        why = ", ".join(change.why) if change.why else change.kind
        lines.append((f"`{change.table}`", f"**{change.kind}**: {why}", _reached(change.table, reached, whole)))
    changed = {change.table for change in outcome.model_changes}
    lines += [
        (f"`{table}`", "downstream", _reached(table, reached, whole)) for table in reached if table not in changed
    ]
    yield _table(("Model", "What", "Columns that the change reaches"), lines)


def _reached(table: str, reached: Any, whole: frozenset[str]) -> str:
    columns = reached.get(table, ())
    if table in whole:
        return f"all {len(columns)}: which rows there are depends on the change"
    return ", ".join(f"`{column}`" for column in columns) or "none"


def _dags(outcome: Outcome) -> Iterator[str]:
    if not outcome.parse_seconds:
        return
    yield "## DAGs"
    lines = []
    for change in outcome.dag_changes:
        lines.append((f"`{change.dag_id}`", f"**{change.kind}**", "; ".join(change.notes)))
        lines += [("", f"`{task}`", how) for task, how in change.tasks]
    if lines:
        yield _table(("DAG", "Task", "How"), lines)
    elif not outcome.base_error:
        yield "No DAG and no task is added, changed or gone."
    lines = [
        (f"`{file}`", _milliseconds(before), _milliseconds(after))
        for file, (before, after) in outcome.parse_seconds.items()
    ]
    yield _folded(
        "Milliseconds to parse each file",
        _table(("File", "Base", "Change"), lines),
        "The least of five, in a process that has Airflow and Cosmos imported.",
    )


def _gates(outcome: Outcome) -> Iterator[str]:
    lines = [
        (domain, layer.gate, *(_verdict(run, layer) for run in runs), *("" for _ in range(2 - len(runs))))
        for domain, runs in outcome.runs.items()
        for layer in Layer
    ]
    if lines:
        yield "## Gates"
        yield _table(("Domain", "Gate", "Run 1", "Run 2"), lines)


def _verdict(run: dict[str, Any], layer: Layer) -> str:
    passed = next((gate for gate in run["gates"] if gate["gate"] == layer.gate), None)
    if passed:
        warned = f"; warned by {', '.join(f'`{check}`' for check in passed['warned'])}" if passed["warned"] else ""
        return f"green, {_count(passed['evaluated'], 'check')}{warned}"
    return "**red**" if run["failed"] and run["failed"]["step"] == layer.gate else "not reached"


def _runs(outcome: Outcome) -> Iterator[str]:
    if not outcome.runs:
        return
    lines = []
    for domain, runs in outcome.runs.items():
        steps = [
            {step["name"]: step["seconds"] for step in run["steps"]}
            for run in [*runs, *outcome.base_runs.get(domain, [])[:1]]
        ]
        names = list(dict.fromkeys(name for each in steps for name in each))
        padded = [*steps[: len(runs)], *({} for _ in range(2 - len(runs))), *(steps[len(runs) :] or [{}])]
        lines += [(domain, name, *(_seconds(each.get(name)) for each in padded)) for name in names]
    steps_of_check = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in outcome.seconds.items())
    yield _folded(
        f"Seconds of each step ({steps_of_check})",
        _table(("Domain", "Step", "Run 1", "Run 2", "Base"), lines),
        "The change and its base run at the same time; a first run also imports dlt, dbt and Great Expectations.",
    )


def _files(outcome: Outcome) -> Iterator[str]:
    if not outcome.changes:
        return
    selected: dict[str, list[str]] = {}
    if outcome.selection:
        for chosen in (outcome.selection.domains, outcome.selection.dags):
            for name, paths in chosen.items():
                for path in paths:
                    selected.setdefault(path, []).append(name)
    lines = [
        (
            f"`{change.path}`",
            change.kind,
            ", ".join(selected.get(change.path, ())) or ("" if change.is_pipeline else "—"),
        )
        for change in sorted(outcome.changes, key=lambda change: (not change.is_pipeline, change.path))
    ]
    more = f"\n\n… and {len(lines) - FILES_SHOWN} more." if len(lines) > FILES_SHOWN else ""
    table = _table(("File", "How", "Selects"), lines[:FILES_SHOWN])
    yield _folded("Files that changed, and what they select", f"{table}{more}")


# --- words ------------------------------------------------------------------------------------------------------


def _differing_marts(outcome: Outcome) -> list[Difference]:
    return [
        found for tables in outcome.compared.values() for table, found in tables.items() if found and _is_mart(table)
    ]


def _is_mart(table: str) -> bool:
    return table.startswith(f"{Layer.GOLD}.")


def _in_words(found: Difference) -> str:
    if found.before is None:
        return f"new, {_count(found.after or 0, 'row')}"
    if found.after is None:
        return f"gone, {_count(found.before, 'row')}"
    numbers = {"added": found.added, "gone": found.gone, "changed": found.changed}
    rows = [f"{number} {word}" for word, number in numbers.items() if number]
    shape = [
        *(f"+{name}" for name in found.columns_added),
        *(f"-{name}" for name in found.columns_gone),
        *found.retyped,
    ]
    return ", ".join([*(rows and [f"{', '.join(rows)} of {_count(found.after, 'row')}"]), *shape])


def _columns_of(found: Difference) -> str:
    columns = [f"`{name}` ({number})" for name, number in (found.columns or {}).items()]
    columns += [f"**+**`{name}`" for name in found.columns_added] + [f"**−**`{name}`" for name in found.columns_gone]
    columns += [f"`{each}`" for each in found.retyped]
    if found.before is None or found.after is None:
        return "the mart is new" if found.before is None else "the mart is gone"
    return ", ".join(columns) or "no value of a row that both have"


def _folded(title: str, *parts: str, shown: bool = False) -> str:
    return "\n\n".join([f"<details{' open' if shown else ''}><summary>{title}</summary>", *parts, "</details>"])


def _names(tables: Iterable[str]) -> str:
    return ", ".join(f"`{table.partition('.')[2]}`" for table in sorted(tables))


def _count(things: Sequence[Any] | int, word: str) -> str:
    number = things if isinstance(things, int) else len(things)
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _value(value: Any) -> str:
    if value is None:
        return "*null*"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime | date):
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _step(old: Any, new: Any) -> str:
    numbers = (int, float, Decimal)
    if isinstance(old, numbers) and isinstance(new, numbers) and not isinstance(old, bool):
        return f"{float(new) - float(old):+.4g}"
    return ""


def _or_none(number: int | None) -> str:
    return "—" if number is None else f"{number:,}"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{1000 * value:.0f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    every = [head, ["---"] * len(head), *lines]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in line) + " |" for line in every
    )
