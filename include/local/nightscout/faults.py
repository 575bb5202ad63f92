"""Answers that a real site gives on a bad day, on demand."""

from dataclasses import dataclass

KINDS = {
    "401": "unauthorised, as with a wrong secret",
    "429": "too many requests, with Retry-After",
    "500": "an internal error",
    "502": "a gateway without a site behind it",
    "503": "a site that is starting",
    "html": "status 200 and a page instead of JSON",
    "truncated": "status 200 and JSON that ends too early, the length header agreeing",
    "cut": "a connection that closes in the middle of the body",
    "reset": "a connection reset before any answer",
    "slow": "the right answer, `delay` seconds late",
    "duplicate_page": "the page that this collection answered before, again",
    "ignore_bounds": "a list whose bounds in time were not applied",
}


@dataclass(frozen=True)
class Fault:
    """What to do to the next requests of a site.

    Args:
        kind: one of `KINDS`.
        count: how many requests it befalls; None until the site is healed.
        path: befalls only requests whose path or query contains this text, such as `entries`.
        retry_after: seconds in the Retry-After header of a 429 or 503.
        delay: seconds to wait before a `slow` answer.
    """

    kind: str
    count: int | None = 1
    path: str = ""
    retry_after: int = 1
    delay: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Fault kind is {self.kind!r}; expected one of {', '.join(KINDS)}.")
        if self.count is not None and self.count < 1:
            raise ValueError(f"Fault count is {self.count}; expected at least 1, or None for every request.")
