"""Suites as code: one module per domain, which holds SUITES, one per layer. A module that names no domain is a part."""

from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules

from include.errors import SetupError
from include.layers import Layer
from include.quality.checks import Suite


def suite(domain: str, layer: Layer) -> Suite:
    """The suite of a domain on a layer.

    Raises:
        SetupError: the domain has no suites, or none for this layer.
    """
    suites = _suites(domain)
    if suites is None:
        raise SetupError(f"There are no suites for the domain {domain!r}; write include/quality/suites/{domain}.py.")
    if layer not in suites:
        raise SetupError(f"include/quality/suites/{domain}.py has no suite for {layer}; add one to SUITES.")
    return suites[layer]


def domains() -> list[str]:
    """Every domain that has suites, by name."""
    return sorted(module.name for module in iter_modules(__path__) if _suites(module.name) is not None)


def _suites(domain: str) -> dict[Layer, Suite] | None:
    name = f"{__name__}.{domain}"
    if not domain.isidentifier() or find_spec(name) is None:
        return None
    return getattr(import_module(name), "SUITES", None)
