"""Errors that an operator reads: each names the thing, what was expected and the next step, and holds no secret."""

import re

# DuckDB and its postgres extension repeat the statement that failed: of a release's ledger entry, pages.
_STATEMENT = re.compile(
    r"""(Failed to (?:execute|prepare)(?: query| COPY)? ")((?:(?!"(?::\s+[A-Za-z]|$)).)+)""", re.DOTALL
)
SHOWN = 60


def without_statements(text: str) -> str:
    """An engine's message with statements on one line, and long ones cut after their first words."""
    return _STATEMENT.sub(lambda found: found[1] + _shortened(" ".join(found[2].split())), text)


def _shortened(statement: str) -> str:
    return statement if len(statement) <= SHOWN else f"{statement[:SHOWN]}…"


def first_line(error: BaseException) -> str:
    """What an error says, without what engines add below it."""
    return without_statements(str(error).strip() or type(error).__name__).splitlines()[0]


# What libpq says, and DuckDB after it, when a server went away or is not there yet.
CONNECTION_LOST = (
    "connection refused",
    "connection to server",
    "could not connect",
    "could not receive data",
    "could not send data",
    "no connection to the server",
    "server closed the connection",
    "ssl syscall error",
    "terminating connection",
    "the connection is closed",
    "the connection is lost",
    "the database system is",
)


def is_connection_lost(error: BaseException) -> bool:
    """Whether a database's connection broke, so that nobody knows whether what was sent last was done."""
    return any(words in str(error).lower() for words in CONNECTION_LOST)


class LakehouseError(Exception):
    """Base of every error that this project raises on purpose.

    `retryable` says that trying again later can help, as when a source is away for a while: of a kind of error, or of
    one of them.
    """

    retryable = False

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable


class SetupError(LakehouseError):
    """The environment lacks something that the operator must provide."""


class SourceError(LakehouseError):
    """A source answered something that cannot be loaded."""


class GateError(LakehouseError):
    """A quality gate is red; retrying cannot help."""


class ReleaseError(LakehouseError):
    """A release could not be made, found or verified."""
