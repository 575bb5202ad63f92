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
from typing import Any

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
    """Modules in `_LAZY` run when a name of theirs is first used."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _LAZY:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Deferred(spec.loader)
        return spec


class _Deferred(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _Unexecuted


class _Unexecuted(ModuleType):
    """A module whose code runs when a name is asked for that only its code can give.

    importlib's own LazyLoader runs it for `__file__` as well, and `inspect.stack()`, which dbt calls at every start,
    asks all modules for that: 2.3 s a dbt task.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType
        self.__spec__.loader.loader.exec_module(self)
        return getattr(self, name)
