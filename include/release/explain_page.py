"""An explanation, for a person at a terminal."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from include.release.explain import Explanation, Row, Upstream

MOST = 12
SAMPLES = 3
# What our load added; other parts of the page tell it.
LINEAGE = {
    "_dlt_load_id",
    "api_version",
    "fetched_at",
    "interval_date",
    "interval_end",
    "interval_start",
    "load_seq",
    "record_id",
    "rules",
    "site",
    "site_time_zone",
    "site_units",
    "window_records",
}


def show(console: Console, found: Explanation, quality_dir: Path) -> None:
    """Print it, widest facts last; long lists are cut and say by how much."""
    entry = found.entry
    _title(console, f"{found.mart}, one row")
    key = set(entry.marts[found.mart]["key"])
    console.print(_pairs(found.row, strong=key))

    _title(console, "Certified by")
    back = f", a rollback to what release {entry.rolled_back_to} published" if entry.rolled_back_to else ""
    released: Row = {
        "release": f"{entry.release_id} of {entry.domain}, {entry.released_at:%Y-%m-%d %H:%M:%S} UTC{back}",
        "days": f"{entry.interval_start:%Y-%m-%d} up to {entry.interval_end:%Y-%m-%d}",
        "run": entry.dag_run_id,
        "code": entry.code_version,
        "lake snapshot": entry.snapshot_id,
        "ledger entry": entry.entry_hash,
    }
    docs = [gate["docs"] for gate in entry.gates if gate.get("docs")]
    if docs:
        released["Data Docs"] = str(quality_dir / docs[-1])
    console.print(_pairs(released))
    console.print(_gates(entry.gates))

    _title(console, "Computed from")
    console.print(Padding(_tree(found.mart, found.upstream), (0, 2)))

    _title(console, "Brought by")
    for table, asked in dict.fromkeys((request.table, request.request) for request in found.requests):
        mine = [request for request in found.requests if (request.table, request.request) == (table, asked)]
        told = [name for name, value in mine[0].columns.items() if name[0] != "_" and f"/{value}/" not in asked]
        shown = _table(f"{table}  {asked}", *told, "rows", right=("rows", "load_seq"))
        for request in mine[:MOST]:
            shown.add_row(*(_text(request.columns[name]) for name in told), f"{request.rows:,}")
        console.print(shown)
        _cut(console, len(mine))
    for each in found.upstream:
        records = [record for record in each.sample if said_by(record)][:SAMPLES]
        if records:
            console.print(Text(f"  {each.table}, {len(records)} of its {each.rows:,} rows", style="bold"))
        for record in records:
            _print_record(console, record)

    _title(console, "Set aside from the same days, so not in it")
    if not found.quarantined:
        console.print("  nothing")
        return
    for row in found.quarantined[:MOST]:
        rules = ", ".join(row["rules"] or ())
        line = Text.assemble((rules, "yellow"), f"  {row['interval_date']}  {row['table']}  {row['record_id']}")
        console.print(Padding(line, (0, 2)))
        _print_record(console, json.loads(row["payload"] or "{}"))
    _cut(console, len(found.quarantined))


def _title(console: Console, text: str) -> None:
    console.print(Rule(Text(text, style="bold"), align="left", style="dim"))


def _pairs(values: Row, strong: set[str] | frozenset[str] = frozenset()) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name, Text(_text(value), style="bold" if name in strong else ""))
    return table


def _gates(gates: list[dict[str, Any]]) -> Table:
    table = _table("", "gate", "checks", "warned", "snapshot", "evidence", right=("checks", "snapshot"))
    for gate in gates:
        passed = Text.assemble(("✔ ", "green") if gate["success"] else ("✘ ", "red"), gate["gate"])
        warned = ", ".join(gate["warned"]) or "none"
        evidence = f"{gate['results_sha256'][:12]}…"
        table.add_row(passed, str(gate["evaluated"]), warned, str(gate["snapshot_id"]), evidence)
    return table


def _tree(mart: str, upstream: tuple[Upstream, ...]) -> Tree:
    def grow(branch: Tree, name: str) -> None:
        for each in upstream:
            if name in each.through:
                label = Text.assemble(each.table, (f"  {each.rows:,} rows", "dim"))
                grow(branch.add(label), each.table.partition(".")[2])

    root = Tree(Text.assemble(f"gold.{mart}", ("  1 row", "dim")), guide_style="dim")
    grow(root, mart)
    return root


def _table(title: str, *headings: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2), title=title or None, title_justify="left")
    table.title_style = "bold"
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return table


def _print_record(console: Console, record: Row) -> None:
    console.print(Padding(Text(said_by(record), style="dim", no_wrap=True, overflow="ellipsis"), (0, 4)))


def _cut(console: Console, count: int) -> None:
    if count > MOST:
        console.print(f"  and {count - MOST:,} more; --json lists them all", style="dim")


def said_by(record: Row) -> str:
    """What a source said in a record, without what our load added; short values first, as the line may be cut."""
    said = {name: _text(value) for name, value in record.items() if value is not None and name not in LINEAGE}
    return ", ".join(f"{name}={text}" for name, text in sorted(said.items(), key=lambda item: len(item[1])))


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.15g}" if value.is_integer() else f"{value:.10g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}{' UTC' if value.tzinfo else ''}"
    return str(value)
