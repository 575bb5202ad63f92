"""Make the demo's operational database: `python -m include.local.saas --help`."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from include import settings as environment
from include.connections import Postgres
from include.errors import LakehouseError
from include.local.saas.database import State, build

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    scale: Annotated[float, typer.Option(help="1 is 20,000 users over 3 years, and about a million events.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Another seed is another company.")] = 1,
    through: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="UTC day that the data ends before; by default today.")
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="First day; by default the first of the month, three years before."),
    ] = None,
    connection: Annotated[str, typer.Option(help="Connection of the role that owns the database.")] = "saas_demo_owner",
) -> None:
    """Make the schema `app` of the demo's database hold what a subscription business had by a midnight.

    The same arguments give the same rows. A later --through adds what happened since; anything else makes it anew.
    """
    try:
        environment.load_local_environment()
        end = (through or datetime.now(UTC)).date()
        state = State.of(scale, seed, end, start.date() if start else None)
        owner = Postgres.of(environment.connection(connection))
        began, console = time.monotonic(), Console(stderr=True)
        with console.status("accounts") as status:
            build(owner, environment.settings().extensions, state, report=status.update)
        typer.echo(f"{owner.database} holds {state.start} to {state.through} ({time.monotonic() - began:.1f} s).")
    except LakehouseError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
