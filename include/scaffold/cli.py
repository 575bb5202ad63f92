"""`lake new domain`, `lake new stream`, `lake new mart`."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from include import settings as environment
from include.settings import ROOT

app = typer.Typer(no_args_is_help=True, help="Write a domain, a stream or a mart as code, which you then edit.")
console = Console(width=None if sys.stdout.isatty() else 120)

Columns = Annotated[
    list[str] | None,
    typer.Option("--columns", help="STREAM=NAME:TYPE,… where the database cannot be asked; may be repeated."),
]
Subjects = Annotated[
    list[str] | None,
    typer.Option(
        "--subject",
        help="Whose the rows are: STREAM=COLUMN that names the person, or 'STREAM=nobody: WHY'; one a stream.",
    ),
]
Personal = Annotated[
    list[str] | None,
    typer.Option("--personal", help="STREAM=COLUMN,… to hash as well, though its name does not look personal."),
]
Clear = Annotated[
    list[str] | None, typer.Option("--clear", help="STREAM=COLUMN,… that looks personal and names nobody.")
]
Facts = Annotated[
    list[str] | None,
    typer.Option("--fact", help="A stream of events or documents: its model is fct_…, not dim_…; may be repeated."),
]
Reads = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        help="STREAM=OPTION=VALUE,… of how it is read. rest: path, data, paginator, size, size_param, since, until; "
        "files: files, format, due.",
    ),
]
Owner = Annotated[str, typer.Option("--owner", help="Team that answers for the mart.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be written and write nothing.")]
Docs = Annotated[bool, typer.Option("--docs/--no-docs", help="Write docs/dags.md and docs/models.md anew as well.")]


@app.command()
def domain(
    name: Annotated[str, typer.Argument(help="Its name in snake_case, such as billing.")],
    kind: Annotated[str | None, typer.Option("--kind", help="Kind of source: postgres, rest, files.")] = None,
    streams: Annotated[
        list[str] | None,
        typer.Option(
            "--stream",
            help="NAME:KEY:CURSOR:DAY, such as orders:order_id:updated_at:created_at; may be repeated. What is left "
            "out is "
            "read from the database, or is updated_at and created_at.",
        ),
    ] = None,
    source: Annotated[
        str, typer.Option("--source", help="Id of the source in the lake; its connection is <domain>_<source>.")
    ] = "main",
    schema: Annotated[str, typer.Option("--schema", help="Schema of a database that holds the tables.")] = "public",
    columns: Columns = None,
    subject: Subjects = None,
    personal: Personal = None,
    clear: Clear = None,
    fact: Facts = None,
    read: Reads = None,
    owner: Owner = "data-platform",
    dry_run: DryRun = False,
    docs: Docs = True,
) -> None:
    """A whole domain: source, models, suites, DAGs, a sample, tests and a how-to."""
    from include.scaffold.flags import connection_of
    from include.scaffold.kinds import KINDS
    from include.scaffold.names import ScaffoldError, check_domain, check_name
    from include.scaffold.plan import new_domain
    from include.scaffold.spec import Domain, mart_of

    check_domain(name, ROOT)
    check_name("Source", source)
    ask = _ask if sys.stdin.isatty() else None
    kind = kind or (ask(f"Kind of source ({', '.join(KINDS)})", "postgres") if ask else None)
    if kind not in KINDS:
        raise ScaffoldError(f"The kind of source is {kind!r}; say --kind, one of {', '.join(KINDS)}.")
    spelled = streams or (ask("Streams, with commas between", "").replace(" ", "").split(",") if ask else [])
    if not any(spelled):
        raise ScaffoldError("There is no stream; say --stream NAME:KEY:CURSOR:DAY, such as orders:order_id:updated_at.")
    conn_id = f"{name}_{source}"
    known = connection_of(conn_id, environment.connection)
    flags = _flags(KINDS[kind], columns, subject, personal, clear, fact, read, known, conn_id, schema)
    flags.require_known(each.partition(":")[0] for each in spelled)
    made = tuple(flags.stream(name, each, ask) for each in spelled)
    counted = next((stream for stream in made if stream.is_fact), made[0])
    plan = new_domain(ROOT, KINDS[kind], Domain(name, made, (mart_of(counted, owner),), source, schema))
    _finish(plan, dry_run, docs)
    for stream in made:
        _tell_of_people(stream)
    if not dry_run:
        _next(
            f"python -m include.sources.{name} check        # once the connection {conn_id} is set",
            f"lake run {name} --from DATE --to DATE",
            f"pytest tests/include/sources/{name} tests/dbt/test_{name}.py tests/pipeline/test_{name}.py",
        )
        console.print(f"docs/how-to/{name}.md says how to connect it, and what to edit.")


@app.command()
def stream(
    domain: Annotated[str, typer.Argument(help="The domain, such as billing.")],
    spelled: Annotated[str, typer.Argument(metavar="STREAM", help="NAME:KEY:CURSOR:DAY, as of `lake new domain`.")],
    columns: Columns = None,
    subject: Subjects = None,
    personal: Personal = None,
    clear: Clear = None,
    fact: Facts = None,
    read: Reads = None,
    source: Annotated[str, typer.Option("--source", help="The source whose database says the columns.")] = "main",
    dry_run: DryRun = False,
    docs: Docs = True,
) -> None:
    """A stream of a domain: its models, and its entry in the source, the suites, the sample and the tests."""
    from include.scaffold.flags import connection_of
    from include.scaffold.plan import kind_of_domain, new_stream, schema_of

    kind = kind_of_domain(ROOT, domain)
    ask = _ask if sys.stdin.isatty() else None
    conn_id = f"{domain}_{source}"
    known = connection_of(conn_id, environment.connection)
    flags = _flags(kind, columns, subject, personal, clear, fact, read, known, conn_id, schema_of(ROOT, domain))
    flags.require_known([spelled.partition(":")[0]])
    made = flags.stream(domain, spelled, ask)
    _finish(new_stream(ROOT, made), dry_run, docs)
    _tell_of_people(made)
    if not dry_run:
        _next(
            f"python -m include.sources.{domain} load {made.name}",
            f"lake new mart {domain} {made.mart} --from {made.model}",
            f"pytest tests/include/sources/{domain} tests/dbt/test_{domain}.py tests/pipeline/test_{domain}.py",
        )


@app.command()
def mart(
    domain: Annotated[str, typer.Argument(help="The domain, such as billing.")],
    name: Annotated[str, typer.Argument(help="Its name, such as mrt_orders_daily.")],
    of: Annotated[str, typer.Option("--from", help="The silver model whose rows it counts.")],
    day: Annotated[str | None, typer.Option("--day", help="Column of days; by default the model's only date.")] = None,
    by: Annotated[list[str] | None, typer.Option("--by", help="A further column to count by; may be repeated.")] = None,
    sums: Annotated[list[str] | None, typer.Option("--sum", help="A column to sum; may be repeated.")] = None,
    owner: Owner = "data-platform",
    dry_run: DryRun = False,
    docs: Docs = True,
) -> None:
    """A mart that counts a model's rows by site and day: SQL, contract, unit test and checks to start from."""
    from include.scaffold.plan import new_mart

    plan = new_mart(ROOT, domain, name, of, day=day, by=by or (), sums=sums or (), owner=owner)
    _finish(plan, dry_run, docs)
    if not dry_run:
        # A domain that was written by hand may be tested elsewhere.
        own = [
            test
            for test in (f"tests/dbt/test_{domain}.py", f"tests/pipeline/test_{domain}.py")
            if (ROOT / test).exists()
        ]
        _next(f"lake dbt build --select +{name}", f"pytest {' '.join(own)}")


def _flags(kind, columns, subject, personal, clear, fact, read, connection, conn_id, schema):
    from include.scaffold.flags import Flags, by_stream

    return Flags(
        kind,
        by_stream("columns", columns or ()),
        by_stream("subject", subject or ()),
        by_stream("personal", personal or ()),
        by_stream("clear", clear or ()),
        tuple(fact or ()),
        by_stream("read", read or ()),
        connection,
        conn_id,
        schema,
    )


def _ask(question: str, likely: str) -> str:
    return typer.prompt(question, default=likely, show_default=bool(likely)).strip()


def _finish(plan, dry_run: bool, docs: bool) -> None:
    if not dry_run:
        plan.write()
    word = "Would be" if dry_run else "Is"
    for paths, done in ((plan.new, "written"), (plan.changed, "changed")):
        if paths:
            console.print(f"[bold]{word} {done}[/]")
            for path in sorted(paths):
                console.print(f"  {path}", highlight=False)
    if docs and not dry_run:
        with console.status("Writing docs/dags.md and docs/models.md anew"):
            _write_documents(plan.root)


def _write_documents(root: Path) -> None:
    """What `make docs` does, in processes that see the new files."""
    from include.errors import LakehouseError
    from include.local import stack

    home = {"AIRFLOW_HOME": str(environment.settings().home / "airflow"), "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
    stack.build_manifest()
    done = subprocess.run(
        [sys.executable, "-m", "include.orchestration.catalogue"],
        cwd=root,
        env=environment.os.environ | home,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise LakehouseError(f"All was written, but `make docs` failed:\n{(done.stdout + done.stderr)[-2000:]}")


def _tell_of_people(stream) -> None:
    """What becomes of personal columns, so that nobody has to guess."""
    told = (
        ("keyed hashes in silver", [column.name for column in stream.hashed]),
        ("stays in bronze", [column.name for column in stream.left]),
        ("in the clear, as you said", list(stream.whose.clear)),
    )
    for what, names in told:
        if names:
            console.print(f"{stream.name}: {', '.join(names)}: {what}", highlight=False)


def _next(*commands: str) -> None:
    console.print("[bold]Next[/]")
    for command in commands:
        console.print(f"  .venv/bin/{escape(command)}", highlight=False)
