"""Says what to install where tfxc imports a package that ``tfxc-light`` comes without."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

_INSTALLED_BY = {
    "google.protobuf": "tfxc",
    "h5py": "tfxc",
    "keras": "tfxc",
    "sklearn": "scikit-learn",
    "tensorflow": "tfxc",
}
_IMPORT_SYSTEM = ("importlib", "importlib._bootstrap", "_frozen_importlib")


def explain_missing_packages() -> None:
    """From now on, such an import by a module of tfxc raises a ``ConfigError`` as well."""
    sys.meta_path.append(_Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Is asked last, when no other has found the module."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """None, or an error: others may do without the package, or only ask whether it is there."""
        # Without any package of Google's, already "google" is not found.
        package = "google.protobuf" if name == "google" else name
        if package not in _INSTALLED_BY or not _importer().startswith("tfxc."):
            return None
        from tfxc.core.errors import MissingPackageError

        raise MissingPackageError(package, _INSTALLED_BY[package])


def _importer() -> str:
    """Name of the module with the import statement; of ``importlib.util`` where one asks only."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _IMPORT_SYSTEM:
        frame = frame.f_back
    return frame.f_globals.get("__name__") or ""
