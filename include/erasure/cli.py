"""Forgetting people: `lake forget` and `lake erasures`."""

import getpass
import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from include.cli_errors import in_one_sentence

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)
console = Console(width=None if sys.stdout.isatty() else 120)


@app.command()
@in_one_sentence
def forget(
    domain: Annotated[str, typer.Option(help="The domain that the person is in, such as saas.")],
    subject: Annotated[
        str, typer.Option(help="Whom: the id, or <site>/<id> where several sites have it; nightscout: the site.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: Annotated[str, typer.Option(help="Who asked for it, or the number of the request; recorded.")] = "",
) -> None:
    """Erase a person from every layer, quarantine, older snapshots and marts; stopped, give it again to go on."""
    from include import runtime
    from include.erasure import forget as steps
    from include.release.code_version import code_version
    from include.settings import settings

    lake, marts = runtime.lake(), runtime.marts()
    key = runtime.pseudonym_key(domain)
    of = steps.Domain.of(domain, key, lambda: _rebuild(domain), settings().home, settings().quality_dir)
    begun = steps.begun(of, subject)
    if begun:
        console.print("Its erasure was begun before; this goes on where it was.")
    else:
        _show(steps.plan(lake, marts, of, subject))
    if dry_run:
        console.print("Nothing was changed.")
        return
    if not yes:
        typer.confirm("Nothing brings it back. Go on?", abort=True)
    with console.status("Waiting for writers") as status:
        done = steps.forget(
            lake,
            marts,
            of,
            subject,
            by=by or getpass.getuser(),
            code_version=code_version(),
            progress=status.update,
        )
    found = done.search
    console.print(
        f"[green]✔[/] Erased as {done.erasure.subject_hash[:12]}: not found in {found.files:,} Parquet files, "
        f"{found.tables} tables of PostgreSQL and {found.pages:,} files of results. {done.files:,} files of the "
        f"lake and {done.pages} of results were deleted.",
        soft_wrap=True,
    )
    if done.erasure.release_id is not None:
        given_up = ", ".join(map(str, done.given_up)) or "none"
        console.print(f"Readers are on release {done.erasure.release_id}; given up: {given_up}.", soft_wrap=True)
    _remember_in_backups(done.erasure)
    console.print("The source must erase them too. See docs/how-to/forget-a-person.md.", style="dim")


@app.command("erasures")
@in_one_sentence
def list_erasures(
    domain: Annotated[str | None, typer.Option(help="Only this domain.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List who was erased, by a keyed hash, and when; exit status 1 if an erasure is not finished."""
    from include import runtime
    from include.lake import erasures

    with runtime.lake().open(read_only=True) as connection:
        every = erasures.listed(connection, domain)
    if as_json:
        for each in every:
            typer.echo(json.dumps(asdict(each), default=str))
    elif not every:
        console.print("Nobody was erased.")
    else:
        table = Table(header_style="dim")
        for heading in ("erased", "domain", "asked by", "begun (UTC)", "finished (UTC)", "rows", "release"):
            table.add_column(heading, justify="right" if heading in ("rows", "release") else "left")
        for each in every:
            table.add_row(
                each.subject_hash[:12],
                each.domain,
                each.requested_by,
                f"{each.requested_at:%Y-%m-%d %H:%M}",
                f"{each.finished_at:%Y-%m-%d %H:%M}" if each.finished_at else f"[red]no: {each.stage}[/]",
                f"{sum(each.counts.values()):,}",
                str(each.release_id or "–"),
            )
        console.print(table)
    raise typer.Exit(1 if any(each.finished_at is None for each in every) else 0)


def _rebuild(domain: str) -> None:
    from include.errors import LakehouseError
    from include.layers import Layer
    from include.local import stack

    select = " ".join(layer.selector(domain) for layer in Layer)
    arguments = ["run", "--full-refresh", "--quiet", "--select", *select.split()]
    if stack.run_dbt(arguments):
        raise LakehouseError(
            f"dbt could not build {domain} without the person; what it says is above. Mend it, and give the same "
            "command again: it goes on with the build."
        )


def _show(plan) -> None:
    table = Table(header_style="dim")
    table.add_column("table")
    table.add_column("rows about the person", justify="right")
    for name, rows in plan.rows.items():
        table.add_row(name, f"{rows:,}")
    console.print(table)
    console.print(
        f"{len(plan.rebuilt)} tables of silver and gold are built anew. {len(plan.snapshots)} older snapshots lose the "
        f"domain's tables. Releases that cannot be reproduced any more: "
        f"{', '.join(map(str, plan.releases)) or 'none'}. Files of results that go: {plan.pages}.",
        soft_wrap=True,
    )


def _remember_in_backups(erasure) -> None:
    """Backups made before still hold the person: which, until when; and a record beside them for who restores one."""
    from datetime import timedelta

    from include import runtime
    from include.errors import LakehouseError
    from include.lake.backup import Location
    from include.settings import settings

    try:
        location = Location(runtime.backups(), settings().home / "tmp")
        location.remember_erasure(erasure)
        ids = location.ids()
    except LakehouseError as error:
        console.print(f"Backups could not be looked at ({error}): those made before hold the person.", soft_wrap=True)
        return
    if ids:
        until = erasure.finished_at + timedelta(days=settings().backup_keep)
        console.print(
            f"[yellow]![/] {len(ids)} backups still hold the person: {ids[0]} to {ids[-1]}. Taken daily, the last of "
            f"them goes on {until:%Y-%m-%d}; deleting them is quicker. After a restore of one, give the same `lake "
            "forget` again before anybody reads.",
            soft_wrap=True,
        )
