"""One way to import Great Expectations: quiet, offline, and without the plotting and statistics it loads but we do not
use, which are a third of its import."""

import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_LAZY = frozenset({"altair", "scipy.stats"})


def great_expectations() -> ModuleType:
    """The module; the first call in a process takes 2 to 3 s of CPU."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    if "great_expectations" not in sys.modules:
        finder = _Lazily()
        sys.meta_path.insert(0, finder)
        try:
            importlib.import_module("great_expectations")
        finally:
            sys.meta_path.remove(finder)
    return sys.modules["great_expectations"]


class _Lazily(importlib.abc.MetaPathFinder):
    """Modules in `_LAZY` run when one of their attributes is first used, by the standard library's LazyLoader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _LAZY:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec
