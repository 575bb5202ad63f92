"""Which domains there are. A domain is a package of include/sources that holds streams.py and run.py.

Its other parts follow from its name: include/quality/suites/<domain>.py, dags/<domain>_daily.py, dbt/models/*/<domain>,
include/local/<domain>/sample.py. So nothing lists domains but the folders.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from include.errors import SetupError

SOURCES = Path(__file__).parent / "sources"


def domains(sources: Path = SOURCES) -> list[str]:
    """Every domain, by name."""
    return sorted(path.parent.name for path in sources.glob("*/run.py") if (path.parent / "streams.py").is_file())


def streams(domain: str) -> Mapping[str, Any]:
    """The streams of a domain by name, as its `streams.py` has them.

    Raises:
        SetupError: there is no such domain.
    """
    if domain not in domains():
        raise SetupError(
            f"There is no domain {domain}; known are {', '.join(domains())}. One is a folder include/sources/{domain} "
            "with streams.py and run.py."
        )
    return import_module(f"include.sources.{domain}.streams").STREAMS
