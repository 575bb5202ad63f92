"""The release commands of `lake`: see, verify, reproduce and take back what was published."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from include.cli_errors import fail, in_one_sentence

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)
console = Console(width=None if sys.stdout.isatty() else 120)


@app.command()
@in_one_sentence
def releases(
    domain: Annotated[str | None, typer.Option(help="Only this domain.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, whole entries.")] = False,
) -> None:
    """List releases, rollbacks and withdrawals, the newest first."""
    from include import runtime
    from include.release import ledger

    known = ledger.entries(runtime.marts(), domain)
    if as_json:
        for entry in reversed(known):
            typer.echo(ledger.canonical(entry.as_dict()))
        return
    if not known:
        console.print(f"Nothing was released yet{f' in domain {domain}' if domain else ''}.")
        return
    current = {entry.domain: entry.release_id for entry in known}
    table = Table(header_style="dim")
    for heading in ("release", "domain", "days", "released (UTC)", "marts", "rows", "snapshot", "code", "run"):
        table.add_column(heading, justify="right" if heading in ("release", "marts", "rows", "snapshot") else "left")
    for entry in reversed(known):
        kind = "" if entry.kind == ledger.RELEASE else f" {entry.kind}"
        if entry.rolled_back_to:
            kind += f" to {entry.rolled_back_to}"
        table.add_row(
            f"{'▶ ' if current[entry.domain] == entry.release_id else ''}{entry.release_id}",
            entry.domain + kind,
            f"{entry.interval_start:%Y-%m-%d}..{entry.interval_end:%Y-%m-%d}",
            f"{entry.released_at:%Y-%m-%d %H:%M:%S}",
            str(len(entry.marts)),
            f"{sum(record['rows'] for record in entry.marts.values()):,}",
            str(entry.snapshot_id),
            _short(entry.code_version),
            Text(entry.dag_run_id),
        )
    console.print(table)
    console.print("▶ is what readers see.", style="dim")


@app.command()
@in_one_sentence
def rollback(
    release_id: Annotated[int, typer.Argument(help="The release to go back to, see `lake releases`.")],
    domain: Annotated[str | None, typer.Option(help="Refuse if the release is of another domain.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check that it can be done, show it, change nothing.")
    ] = False,
) -> None:
    """Bring every reader of a domain back to an earlier release."""
    from include import dbt_project, runtime
    from include.errors import SetupError
    from include.release import ledger
    from include.release import rollback as steps
    from include.release.code_version import code_version

    lake, marts = runtime.lake(), runtime.marts()
    of = domain or ledger.entry(marts, release_id).domain
    if dry_run:
        plan = steps.plan(lake, marts, of, release_id)
        table = Table("mart", "rows now", "rows then", "columns gained", "columns lost", header_style="dim")
        for change in plan.changes:
            now = "none" if change.rows_now is None else f"{change.rows_now:,}"
            table.add_row(
                change.mart,
                now,
                f"{change.rows_then:,}",
                ", ".join(change.gained) or "–",
                ", ".join(change.lost) or "–",
            )
        console.print(table)
        _print_kept(plan.kept)
        console.print(
            f"Readers of {of} would go from release {plan.current.release_id} to what {release_id} published."
        )
        return
    try:
        models = dbt_project.marts(of)
    except SetupError:  # only the descriptions of columns come from it, and a rollback must not need dbt
        models = []
    with console.status("Rolling back") as status:
        done = steps.rollback(
            lake, marts, of, release_id, models=models, code_version=code_version(), progress=status.update
        )
    _print_kept(done.vanished)
    console.print(f"Readers of {of} see what release {release_id} published; the ledger has it as {done.release_id}.")


@app.command()
@in_one_sentence
def reproduce(
    mart: Annotated[str, typer.Argument(help="Name of the mart.")],
    release: Annotated[int, typer.Option("--release", help="The release, see `lake releases`.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Write the rows to this .csv or .parquet file; the CSV's sha256 is the ledger's."),
    ] = None,
) -> None:
    """Read the very rows of a release again and compare their hash with the ledger's."""
    from include import runtime
    from include.release import reproduce as steps

    done = steps.reproduce(runtime.lake(), runtime.marts(), mart, release, out)
    console.print(
        f"{mart} of release {release} reproduces: {done.content.rows:,} rows at snapshot {done.snapshot_id}, "
        f"sha256 {done.content.sha256}.",
        soft_wrap=True,
    )
    if out:
        console.print(f"Written to {out}.", soft_wrap=True)


@app.command()
@in_one_sentence
def verify(
    file: Annotated[
        Path | None, typer.Option(help="An exported ledger, verified without any server; see `lake export-ledger`.")
    ] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Also hash the rows that PostgreSQL holds now.")] = False,
) -> None:
    """Walk the ledger's hash chain and compare it with what the lake remembers."""
    from include import runtime
    from include.lake import erasures
    from include.release import ledger
    from include.release import reproduce as steps

    if file:
        if rows:
            raise typer.BadParameter("--rows reads the servers and --file must not; give one of them.")
        console.print(f"[green]✔[/] {ledger.verify_chain(ledger.read_file(file))}", soft_wrap=True)
        return
    lake, marts = runtime.lake(), runtime.marts()
    console.print(f"[green]✔[/] {ledger.verify(marts, lake)}", soft_wrap=True)
    erased = erasures.verify(lake, ledger.entries(marts))
    if erased:
        console.print(f"[green]✔[/] {erased} erasures are finished, and their releases are in the ledger.")
    if rows:
        problems = steps.published_differences(lake, marts)
        if problems:
            fail(" ".join([*problems, "Release again, or `lake rollback`, to put the rows right."]))
        console.print("[green]✔[/] PostgreSQL holds the rows that the ledger certifies.", soft_wrap=True)


@app.command()
@in_one_sentence
def explain(
    mart: Annotated[str, typer.Argument(help="Name of the mart.")],
    where: Annotated[list[str], typer.Option(help="The row: key=value[,key=value…]; may be repeated.")],
    release: Annotated[int | None, typer.Option("--release", help="By default the one that readers see.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON object.")] = False,
) -> None:
    """Where one published row comes from: release, run, gates, bronze rows and the requests that brought them."""
    import json

    from include import runtime
    from include.release import explain as steps
    from include.release import explain_page
    from include.settings import settings

    found = steps.explain(runtime.lake(), runtime.marts(), mart, steps.parse_where(where), release)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), default=str, ensure_ascii=False))
        return
    explain_page.show(console, found, settings().quality_dir)


@app.command("export-ledger")
@in_one_sentence
def export_ledger(file: Annotated[Path, typer.Argument(help="Where to write JSON lines.")]) -> None:
    """Write the ledger to a file that `lake verify --file` can check anywhere."""
    from include import runtime
    from include.release import ledger

    count = ledger.export(runtime.marts(), file)
    console.print(f"{count} entries written to {file}.", soft_wrap=True)


def _print_kept(marts: tuple[str, ...]) -> None:
    if marts:
        console.print(f"Not part of it, so readers keep what they have: {', '.join(marts)}.", soft_wrap=True)


def _short(code_version: str) -> str:
    commit, _, dirty = code_version.partition("-")
    return code_version if len(commit) != 40 else commit[:10] + ("-dirty" if dirty else "")
