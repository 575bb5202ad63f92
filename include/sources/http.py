"""What is the same for every source that is asked over HTTP: where it is, how long it is waited for, what it said."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import uniform
from typing import Any, TypeVar
from urllib.parse import urlsplit

import tenacity

from include.connections import Connection
from include.errors import SetupError, SourceError

Answer = TypeVar("Answer")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Patience:
    """How long a site is waited for, in seconds, and how often it is asked again."""

    attempts: int = 5
    first_wait: float = 0.5
    longest_wait: float = 30.0
    longest_retry_after: float = 120.0
    connect: float = 10.0
    read: float = 60.0


class Again(Exception):
    """An answer that may be better next time."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def patiently(
    ask: Callable[[], Answer],
    patience: Patience,
    error: Callable[[str], SourceError],
    label: str,
    note: Callable[[BaseException | None], None],
) -> Answer:
    """Ask until there is an answer, waiting longer each time, or as long as the site says (Retry-After).

    Args:
        ask: raises Again for what may be better next time.
        error: an error of this site, from what it did.
        note: called with the reason before it is asked again.

    Raises:
        SourceError: it was asked as often as patience goes, or asks to be left alone for longer.
    """

    def wait(state: tenacity.RetryCallState) -> float:
        reason = state.outcome.exception() if state.outcome else None
        asked = reason.retry_after if isinstance(reason, Again) else None
        if asked is not None:
            if asked > patience.longest_retry_after:
                raise error(f"asks to be left alone for {asked:.0f} s (Retry-After); run again later")
            return asked
        backoff = min(patience.first_wait * 2 ** (state.attempt_number - 1), patience.longest_wait)
        return backoff + uniform(0, patience.first_wait)  # noqa: S311  spreads sites, hides nothing

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(patience.attempts),
        wait=wait,
        retry=tenacity.retry_if_exception_type(Again),
        before_sleep=lambda state: note(state.outcome.exception() if state.outcome else None),
        reraise=True,
    )
    try:
        return retrying(ask)
    except Again as failure:
        raise error(f"{label} failed {patience.attempts} times; the last time: {failure}") from None


def base_url(site: str, url: str | None, connection: Connection, example: str) -> str:
    """A site's address, without a slash at its end: its own `url`, or what the connection says.

    Raises:
        SetupError: there is none, it is none, or a secret is in it.
    """
    address = url or connection.extra.get("url") or connection.host
    if not isinstance(address, str) or not address.strip():
        raise SetupError(
            f"Connection {connection.conn_id} of site {site} has no host; put the site's address into it, such as "
            f"{example}."
        )
    scheme = connection.schema if connection.schema in ("http", "https") else "https"
    address = address.strip() if "://" in address else f"{scheme}://{address.strip()}"
    try:
        parts = urlsplit(address)
        port = parts.port or connection.port
    except ValueError:
        raise SetupError(f"Connection {connection.conn_id} of site {site} has a host that is not a URL.") from None
    if parts.username or parts.password or parts.query:
        raise SetupError(
            f"Connection {connection.conn_id} of site {site} has a secret in its address; move it to the password."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SetupError(f"Connection {connection.conn_id} of site {site} needs an http or https address.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a site asks to be left alone for; None if it does not say."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds()) if moment.tzinfo else None


def is_html(content_type: str, body: bytes) -> bool:
    """Whether an answer is a page, as a login in front of a site gives, instead of data."""
    return "html" in content_type or body.lstrip()[:1] == b"<"


def shape(answer: Any) -> str:
    """What an answer is, for an error that must not quote it."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(answer), "a number")
