"""Errors that are not bugs. Each says where, what is wrong, and what to do.

A command prints such an error as one line and exits with the error's ``exit_code``: 2 where the
input is wrong, 1 where the machine is at fault. From Python it is a ``ValueError``. Our own bugs
are ``assert``s and ordinary exceptions, which keep their traceback.
"""

import contextlib
import difflib
import re
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from tfxc.core.escaping import one_line


class UserError(ValueError):
    """Something the user gave is wrong.

    Its text is one line, whatever the names and values in it hold.

    Args:
        problem: what is wrong, subject first.
        fix: what to do about it, as one short sentence.
        where: file, ``file:line`` or config key the problem is in.

    Example:
        >>> print(UserError("there are 4 labels, not 5", fix="repair the header", where="a.txt:1"))
        a.txt:1: there are 4 labels, not 5. Repair the header.
    """

    exit_code = 2

    def __init__(
        self, problem: str, *, fix: str | None = None, where: str | Path | None = None
    ) -> None:
        self.problem, self.fix, self.where = problem, fix, where
        text = f"{where}: {problem}" if where else problem
        if fix:
            text = f"{_ended(text)} {fix[:1].upper()}{_ended(fix[1:])}"
        super().__init__(one_line(re.sub(r"\s*\n\s*", " ", text)))


def _ended(sentence):
    """Returns the sentence with a full stop, unless it ends with a question mark or with omission
    dots.
    """
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."


class DataError(UserError):
    """A data file is malformed or missing."""


class ConfigError(UserError):
    """A config, a command line or a constructor's argument is wrong."""


class MissingPackageError(ConfigError, ModuleNotFoundError):
    """A package that tfxc needs for what is asked of it is not installed.

    Args:
        package: its name.
        installed_by: what pip installs it with.

    Example:
        >>> print(MissingPackageError("tensorflow", "tfxc"))
        the package tensorflow is not installed. Install it: pip install tfxc.
    """

    def __init__(self, package: str, installed_by: str) -> None:
        super().__init__(
            f"the package {package} is not installed", fix=f"install it: pip install {installed_by}"
        )
        self.name = package


class CheckpointError(UserError):
    """A run folder or checkpoint does not fit what is requested of it."""


class NonFiniteLossError(UserError):
    """The training loss, its gradient or the weights became NaN or infinite."""


class MachineError(UserError):
    """The machine is at fault, not the input: a full disk, a refused write, a dead worker."""

    exit_code = 1


@contextlib.contextmanager
def inside(section: str, keys: Container[str] | None = None) -> Iterator[None]:
    """Context manager: a ``ConfigError`` raised inside it gets its full config key.

    Args:
        section: config key of the section that is worked on.
        keys: of the section; an error about anything else, or with a full key already, stays as
            it is. None treats every error as one about the section.

    Example:
        >>> with inside("head"):
        ...     raise ConfigError("must be a positive number, not 0", where="scale")
        Traceback (most recent call last):
            ...
        tfxc.core.errors.ConfigError: head.scale: must be a positive number, not 0
    """
    try:
        yield
    except ConfigError as error:
        place = str(error.where or "")
        if keys is not None and place and re.split(r"[.\[]", place)[0] not in keys:
            raise
        where = f"{section}.{place}" if place else section
        raise ConfigError(error.problem, where=where, fix=error.fix) from error


def nearest(word: object, known: Iterable[object]) -> str:
    """Returns ``", did you mean 'x'?"`` for the nearest known word, or an empty text."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def number_spans(numbers: Iterable[int]) -> str:
    """Returns ascending numbers as text, for messages.

    Example:
        >>> number_spans([0, 1, 2, 5, 7, 8])
        '0-2, 5, 7-8'
    """
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(f"{g[0]}-{g[-1]}" if len(g) > 1 else f"{g[0]}" for g in groups)


def distribution() -> str:
    """Name that tfxc is installed by: ``"tfxc-light"`` if that alone is there, else ``"tfxc"``."""
    import importlib.metadata  # takes longer than all else here

    names = {"tfxc", "tfxc-light"}
    installed = {name for name in names if [*importlib.metadata.distributions(name=name)]}
    return "tfxc-light" if installed == {"tfxc-light"} else "tfxc"


@contextlib.contextmanager
def missing_package(
    extra: str, *, where: str | Path | None = None, otherwise: str | None = None
) -> Iterator[None]:
    """Turns a failed import into the command that installs what is missing.

    Args:
        extra: the extra of tfxc that installs the package.
        where: option, file or config key that needs it.
        otherwise: how to do without it.

    Raises:
        ConfigError: a package is not installed.

    Example:
        >>> with missing_package("report", otherwise="add --no-page"):
        ...     import no_such_package
        Traceback (most recent call last):
            ...
        tfxc.core.errors.ConfigError: the package no_such_package is not installed. Install \
it: pip install 'tfxc[report]', or add --no-page.
    """
    try:
        yield
    except ImportError as error:
        fix = f"install it: pip install '{distribution()}[{extra}]'"
        raise ConfigError(
            f"the package {error.name or error} is not installed",
            where=where,
            fix=f"{fix}, or {otherwise}" if otherwise else fix,
        ) from error


@contextlib.contextmanager
def as_option(argument: str) -> Iterator[None]:
    """Context manager: a ``ConfigError`` about an argument names the option that sets it.

    Example:
        >>> with as_option("k"):
        ...     raise ConfigError("must be from 1 to 3, not 4", where="k")
        Traceback (most recent call last):
            ...
        tfxc.core.errors.ConfigError: --k: must be from 1 to 3, not 4
    """
    try:
        yield
    except ConfigError as error:
        if error.where != argument:
            raise
        raise ConfigError(error.problem, where=option_of(argument), fix=error.fix) from None


def option_of(name: str) -> str:
    """Returns the option that sets an attribute of what a parser returns.

    Example:
        >>> option_of("search_buckets")
        '--search-buckets'
    """
    return f"--{name.replace('_', '-')}"
