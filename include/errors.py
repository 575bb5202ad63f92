"""Errors that an operator reads: each names the thing, what was expected and the next step, and holds no secret."""

import re

# DuckDB and its postgres extension repeat the statement that failed: of a release's ledger entry, pages.
_REST = r"""(?:(?!"(?::\s+[A-Za-z]|$)).)"""
_STATEMENT = re.compile(rf"""(Failed to (?:execute|prepare)(?: query| COPY)? "{_REST}{{60}}){_REST}+""", re.DOTALL)


def without_statements(text: str) -> str:
    """An engine's message with long statements cut after their first words."""
    return _STATEMENT.sub(r"\1…", text)


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
