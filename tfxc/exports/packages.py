"""Packages that only some formats need."""

import contextlib
from collections.abc import Iterator

from tfxc.core.errors import ConfigError


@contextlib.contextmanager
def missing_package(extra: str) -> Iterator[None]:
    """Turns a failed import into a ``ConfigError`` with the command that installs the extra."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"the package {error.name or error} is not installed",
            where="--format",
            fix=f"pip install 'tfxc[{extra}]'",
        ) from error
