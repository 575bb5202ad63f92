"""How Great Expectations' Data Docs look here: one page per table that a gate checked, readable without a network.

Its own pages load their styles and scripts from other people's servers, and know neither runs nor snapshots.
"""

from typing import Any

from great_expectations.render.renderer.site_builder import SiteBuilder

from include.quality import pages


class RunSite(SiteBuilder):
    """The Data Docs of a run, without the 5 MB of fonts and pictures that Great Expectations would copy to each."""

    def build(self, resource_identifiers: Any = None, build_index: bool = True) -> tuple[str | None, None]:
        for section in self.site_section_builders.values():
            section.build(resource_identifiers=resource_identifiers)
        return self.get_resource_url(only_if_exists=False), None


class ResultsRenderer:
    """From a validation result to what its page shows."""

    def __init__(self, data_context: Any = None) -> None:
        self._context = data_context

    def render(self, validation_results: Any) -> dict[str, Any]:
        results = [_row(result) for result in validation_results.results]
        return {"about": dict(results[0]["about"]) if results else {}, "results": results}


class ResultsView:
    """From that to HTML."""

    def __init__(self, custom_styles_directory: str | None = None, custom_views_directory: str | None = None) -> None:
        self._directories = (custom_styles_directory, custom_views_directory)

    def render(self, document: dict[str, Any], **_: Any) -> str:
        return pages.table_page(document["about"], document["results"])


def _row(result: Any) -> dict[str, Any]:
    config = result.expectation_config
    meta = config.meta or {}
    return {
        "about": meta.get("about", {}),
        "check": meta.get("check", ""),
        "severity": meta.get("severity", "fail"),
        "expected": meta.get("expected", ""),
        "why": meta.get("why", ""),
        "sql": config.kwargs.get("sample_sql") or config.kwargs.get("sql") or "",
        "expectation": config.type,
        "success": bool(result.success),
        "observed": observed(result),
        "sample": (result.result or {}).get("partial_unexpected_list") or [],
    }


def observed(result: Any) -> str:
    """What was seen, in a few words; for an expectation that raised, the error's first line."""
    error = raised(result)
    if error:
        return f"an error: {error}"
    value = (result.result or {}).get("observed_value")
    return f"{value:,}" if isinstance(value, int) else str(value)


def raised(result: Any) -> str:
    """The first line of the exception that an expectation raised; empty if it raised none."""
    info = result.exception_info or {}
    # By metric if a metric raised, flat if the expectation did.
    for found in (info, *(value for value in info.values() if isinstance(value, dict))):
        if found.get("raised_exception"):
            lines = str(found.get("exception_message") or "no message").strip().splitlines()
            return next((line for line in lines if line.strip()), "no message").strip()
    return ""
