"""How a command ends when something went wrong: one red sentence on stderr and exit status 1."""

import functools
import shutil
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from rich.console import Console
from rich.text import Text

from include.errors import LakehouseError, first_line

ALMOST_FULL_BYTES = 100 * 1024**2


def in_one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose errors, where they are no bugs, are a sentence each."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LakehouseError as error:
            fail(f"{error}{full_disk()}")
        except Exception as error:
            if not _of_a_database(error):
                raise
            fail(f"{first_line(error)}{full_disk()}")

    return run


def fail(sentence: str) -> NoReturn:
    """End here."""
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("Error: ", "bold red"), (sentence, "red")))
    sys.exit(1)


def full_disk() -> str:
    """What an error of any part may come from, as a further sentence; empty if there is room."""
    from include.settings import settings

    home = settings().home
    free = shutil.disk_usage(home).free if home.is_dir() else ALMOST_FULL_BYTES
    if free >= ALMOST_FULL_BYTES:
        return ""
    return f"\nThe disk of {home} is full ({free // 1024**2} MB left): make room, then give the command again."


def _of_a_database(error: Exception) -> bool:
    # Imported where it failed already: a command that uses neither does not pay for them.
    engines = [sys.modules[name] for name in ("duckdb", "psycopg") if name in sys.modules]
    return any(isinstance(error, engine.Error) for engine in engines)
