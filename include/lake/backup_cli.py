"""The backup commands of `lake`: make, list, restore, and prove that restoring works."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from include.cli_errors import in_one_sentence

if TYPE_CHECKING:
    from include.lake.backup import Listed, Progress

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)
console = Console(width=None if sys.stdout.isatty() else 140)


@app.command()
@in_one_sentence
def backup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be copied and let go.")] = False,
) -> None:
    """Back up catalog, marts, ledger and files; then let go of backups that are too old."""
    from include import runtime
    from include.lake import backup as steps
    from include.release.code_version import code_version
    from include.settings import settings

    lake, backups, keep = runtime.lake(), runtime.backups(), settings().backup_keep
    if dry_run:
        plan = steps.plan(lake, backups, keep=keep)
        console.print(
            f"Would copy {plan.new_files:,} of {plan.files:,} files ({_size(plan.new_size)}) and the databases at "
            f"snapshot {plan.snapshot_id} to {backups.url}.",
            soft_wrap=True,
        )
        gone = ", ".join(plan.pruning.backups) or "no backup"
        console.print(
            f"Would let go of {gone} and of {len(plan.pruning.files):,} files ({_size(plan.pruning.size)}).",
            soft_wrap=True,
        )
        return
    with _progress() as progress:
        made = steps.backup(lake, runtime.marts(), backups, keep=keep, code_version=code_version(), progress=progress)
    console.print(
        f"[green]✔[/] Backup {made.backup_id} in {backups.url}: snapshot {made.snapshot_id}, "
        f"{_releases(made.releases)}, {len(made.files):,} files ({_size(made.size)}), "
        f"{made.copied['files']:,} of them new ({_size(made.copied['bytes'])}).",
        soft_wrap=True,
    )


@app.command()
@in_one_sentence
def backups() -> None:
    """List backups, the newest first, and what the last restore drill of each found."""
    from include import runtime
    from include.lake.backup import Location

    place = runtime.backups()
    listed = Location(place, runtime.lake().temp_directory).listed()
    if not listed:
        console.print(f"There is no backup in {place.url}; `lake backup` makes one.", soft_wrap=True)
        return
    table = Table(header_style="dim")
    for heading in ("backup", "made (UTC)", "snapshot", "releases", "files", "size", "new", "restore drill"):
        table.add_column(heading, justify="right" if heading in ("snapshot", "files", "size", "new") else "left")
    for each in listed:
        made = each.manifest
        if made is None:
            table.add_row(each.backup_id, "", "", "", "", "", "", Text(each.problem, style="red"))
            continue
        table.add_row(
            each.backup_id,
            made.created_at[:19].replace("T", " "),
            str(made.snapshot_id),
            _releases(made.releases),
            f"{len(made.files):,}",
            _size(made.size),
            _size(made.copied["bytes"]),
            _drilled(each),
        )
    console.print(table)


@app.command()
@in_one_sentence
def restore(
    at: Annotated[str, typer.Option(help="A release, a backup's id, or latest.")] = "latest",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be restored and lost.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Lose what catalog and marts hold now.")] = False,
    into: Annotated[
        str | None,
        typer.Option(help="Restore beside the lake instead: an empty folder, or s3:// on the lake's store."),
    ] = None,
) -> None:
    """Restore files, catalog, marts and ledger; with a release's number, readers see that release."""
    import dataclasses

    from include import dbt_project, runtime
    from include.connections import Storage
    from include.errors import SetupError
    from include.lake import restore as steps
    from include.release.code_version import code_version

    lake, marts, backups = runtime.lake(), runtime.marts(), runtime.backups()
    if dry_run:
        _print_plan(steps.plan(lake, marts, backups, at), lake.storage.url if into is None else into, into is not None)
        return
    if into is not None:
        where = dataclasses.replace(lake.storage, url=into) if into.startswith("s3://") else Storage(_absolute(into))
        with _progress() as progress:
            manifest, aside, compared = steps.restore_aside(lake, marts, backups, where, at, progress=progress)
        console.print(
            f"[green]✔[/] Backup {manifest.backup_id} restored into {where.url}, {_compared(compared)} Its catalog is "
            f"schema {aside.lake.metadata_schema} of database {lake.catalog.database}, its marts are "
            f"{aside.marts_schema} of database {marts.database}; drop them and the files when you have seen enough.",
            soft_wrap=True,
        )
        return

    def models_of(domain: str) -> list[dbt_project.Model]:
        try:
            return dbt_project.marts(domain)
        except SetupError:  # only descriptions of columns come from it, and a restore must not need dbt
            return []

    with _progress() as progress:
        done = steps.restore(
            lake,
            marts,
            backups,
            at,
            overwrite=replace,
            models_of=models_of,
            code_version=code_version(),
            progress=progress,
        )
    console.print(
        f"[green]✔[/] Backup {done.manifest.backup_id} restored: snapshot {done.manifest.snapshot_id}, {done.files:,} "
        f"files brought back, {_compared(done.compared)}",
        soft_wrap=True,
    )
    if done.release_id:
        console.print(f"Readers see what release {at} published; the ledger has it as {done.release_id}.")
    if done.erased:
        console.print(
            f"[yellow]![/] The backup brought back {len(done.erased)} people who were erased: "
            f"{', '.join(hashed[:12] for hashed in done.erased)}. Give `lake forget` for each again before anybody "
            "reads; `lake erasures` lists them.",
            soft_wrap=True,
        )


@app.command("restore-drill")
@in_one_sentence
def restore_drill() -> None:
    """Restore the newest backup into a scratch place, compare every mart with the ledger, and clean up."""
    from include import runtime
    from include.lake import restore as steps

    with _progress() as progress:
        record = steps.drill(runtime.lake(), runtime.marts(), runtime.backups(), progress=progress)
    console.print(
        f"[green]✔[/] Backup {record['backup_id']} restores in {record['seconds']} s: {record['marts']} marts, "
        f"{record['rows']:,} rows, each as the ledger says.",
        soft_wrap=True,
    )


def _print_plan(plan, url: str, aside: bool) -> None:
    manifest = plan.manifest
    console.print(
        f"Would restore backup {manifest.backup_id} of {manifest.created_at[:19]} (snapshot {manifest.snapshot_id}, "
        f"{_releases(manifest.releases)}) to {url}"
        + ("." if aside else f", bringing back {plan.new_files:,} files ({_size(plan.new_size)})."),
        soft_wrap=True,
    )
    if aside:
        return
    for lost in plan.loses:
        console.print(f"[red]Would delete[/] {lost}.", soft_wrap=True)
    if plan.loses:
        console.print("It needs --replace. Pause the DAGs first: nobody may write meanwhile.", style="dim")
    if plan.roll_back_to:
        console.print(f"Would then roll readers back to release {plan.roll_back_to}.")


def _compared(compared) -> str:
    if not compared.marts:
        return "nothing was ever released, so no mart was compared."
    return f"{compared.marts} marts with {compared.rows:,} rows are what the ledger says."


def _drilled(listed: "Listed") -> Text:
    record = listed.drill
    if record is None:
        return Text("none", style="yellow")
    when = record["started_at"][:16].replace("T", " ")
    if record["success"]:
        return Text(f"✔ {when}, {record['marts']} marts, {record['rows']:,} rows", style="green")
    return Text(f"✘ {when}, {record.get('error', 'it was interrupted')}", style="red")


def _releases(releases: list[dict]) -> str:
    if not releases:
        return "no release"
    first, last = releases[0]["release_id"], releases[-1]["release_id"]
    return f"release {last}" if first == last else f"releases {first} to {last}"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().absolute())


@contextmanager
def _progress() -> Iterator["Progress"]:
    """A line per step, with how much of it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
            bar.update(tasks[what], completed=done, total=of)

        yield report
