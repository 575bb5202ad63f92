"""From values to HTML. Everything is escaped; nothing is loaded from elsewhere."""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STATIC = HERE / "static"


def render(template: str, **values: Any) -> str:
    """The page `templates/<template>.html`."""
    return _environment().get_template(f"{template}.html").render(**values)


@lru_cache(maxsize=1)
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(minute=minute, days=days, number=number, short=short, span=span)
    return environment


def minute(when: datetime | str | None) -> str:
    """A time in UTC, to the minute."""
    if when is None or when == "":
        return ""
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"


def days(interval: tuple[datetime | str, datetime | str]) -> str:
    """A half-open interval of UTC days as its first and last day."""
    first, end = (_utc_date(value) for value in interval)
    last = end - timedelta(days=1)
    return f"{first}" if last <= first else f"{first} to {last}"


def number(value: int | None) -> str:
    """A count, with thousands separated."""
    return "" if value is None else f"{value:,}"


def short(text: str | None) -> str:
    """The start of a hash."""
    return (text or "")[:12]


def span(elapsed: timedelta) -> str:
    """A length of time in the unit that says enough."""
    seconds = max(0, int(elapsed.total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _utc_date(value: datetime | str) -> date:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.astimezone(UTC).date()
