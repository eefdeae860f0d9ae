"""Keeps TensorFlow's start-up lines away from users of commands; TFXC_VERBOSE=1 shows them.

``TF_CPP_MIN_LOG_LEVEL``, which ``import tfxc`` sets, covers what TensorFlow logs once it has
started. While it is imported its C++ code writes to file descriptor 2 whatever the level, so what
is written there is held back, and all that is no such line is passed on.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Sequence
from types import ModuleType

from tfxc.core.storage.files import captured_standard_error

_PACKAGE = "tensorflow"
_local = threading.local()
_START_LINE = re.compile(rb"WARNING: All log messages before absl::InitializeLog|[IWE]\d{4} ")


def is_verbose() -> bool:
    """Tells whether the user wants to see what TensorFlow writes."""
    return os.environ.get("TFXC_VERBOSE", "") not in ("", "0")


def hide_start_lines() -> None:
    """Lets TensorFlow write nothing about its start when it is imported; may be called again."""
    if is_verbose() or _PACKAGE in sys.modules:
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as the other finders do, to be imported quietly."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns the module's spec with a quiet loader; None for all other modules."""
        if name != _PACKAGE or getattr(_local, "asks", False):
            return None
        _local.asks = True  # the others; the list of finders stays, as another thread may read it
        try:
            spec = importlib.util.find_spec(name)
        finally:
            _local.asks = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module by another loader while standard error is held back."""

    def __init__(self, inner: importlib.abc.Loader) -> None:
        self.inner = inner

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As of the other loader."""
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As of the other loader; the module then has that one."""
        assert module.__spec__ is not None, "made from one"
        module.__spec__.loader = module.__loader__ = self.inner
        rest = b""
        try:
            with captured_standard_error() as held:
                try:
                    self.inner.exec_module(module)
                finally:
                    sys.stderr.flush()
                    held.seek(0)
                    rest = b"".join(line for line in held if not _START_LINE.match(line))
        finally:
            os.write(2, rest)
