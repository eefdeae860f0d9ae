"""Defers the import of a part of NumPy that SciPy asks for and nobody uses."""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

_DEFERRED = "numpy.f2py"


def defer_f2py() -> None:
    """From now on, NumPy's Fortran interface is not run before something of it is used.

    SciPy copies all names of NumPy, this module among them, which takes a quarter of the time in
    which ``scipy.sparse`` is imported.
    """
    sys.meta_path.insert(0, _Finder())


class _Finder:
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's spec, with a loader that runs it later; None for all other modules."""
        if name != _DEFERRED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec
