"""Finds a method by its name: ``tfxc/heads/mach.py`` is the head ``mach``.

A method of several files is a package whose file of the kind's name has the class:
``tfxc/recipes/xr_linear/recipe.py`` is the recipe ``xr_linear``. A method outside of tfxc is named
``"module:Class"``. Nothing is imported before it is needed, so listing names costs no TensorFlow
import.
"""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tfxc.core import declared
from tfxc.core.bounds import KINDS
from tfxc.core.errors import ConfigError, inside, nearest

# The packages of other kinds than ``tfxc.heads`` is of heads.
_PACKAGES = {
    "reader": "tfxc.data.reading.formats",
    "tracker": "tfxc.training.trackers",
    "probabilities": "tfxc.decision.probabilities",
    "labels": "tfxc.decision.labels",
}
# The config key, and the argument of ``XCClassifier``, that names a method.
_KEYS = {kind: "techniques" if kind == "technique" else kind for kind in KINDS}
_KEYS |= {part: f"decision.{part}" for part in ("probabilities", "labels")}
_CONTRACT = "base"  # the file of the base class
_NAMING = ("name", "reader")  # keys of a config whose values name a class
_ROOT = Path(__file__).parents[2]


def names(kind: str) -> list[str]:
    """Returns the names of all methods of a kind, or of all readers, sorted.

    Example:
        >>> "mach" in names("head")
        True
    """
    return sorted(modules(_package(kind), kind))


def get(kind: str, name: str) -> type[Any]:
    """Returns the class of a method, reader or tracker.

    Args:
        kind: one of ``KINDS``, ``"reader"`` or ``"tracker"``.
        name: file name without ``.py``, or ``"module:Class"``.

    Raises:
        ConfigError: there is no such method; the nearest name is given.
    """
    if ":" in name:
        module_name, class_name = name.split(":", 1)
        try:
            method = getattr(importlib.import_module(module_name), class_name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"cannot load {kind} {name!r}: {error}", fix="check the name"
            ) from error
        if not (inspect.isclass(method) and issubclass(method, base_class(kind))):
            raise ConfigError(
                f"{name!r} is not a class of this kind ({kind})",
                fix=f"derive it from {_package(kind)}.base.{kind.capitalize()}",
            )
        return method
    known = modules(_package(kind), kind)
    if name not in known:
        raise ConfigError(
            f"unknown {kind} {name!r}{nearest(name, known)}",
            where=_KEYS.get(kind),
            fix=f"choose one of: {', '.join(sorted(known))}",
        )
    return class_in(known[name], base_class(kind))


def modules(package: str, kind: str) -> dict[str, str]:
    """Returns the modules of a package that have a class each, found by their files, not imported.

    Args:
        package: e.g. ``"tfxc.heads"``.
        kind: the name of the file with the class if the method is a package.

    Returns:
        Dict of the modules by the names of what they define.

    Example:
        >>> modules("tfxc.heads", "head")["tree"]
        'tfxc.heads.tree.head'
    """
    folder = _ROOT.joinpath(*package.split("."))
    files = (path.stem for path in folder.glob("[a-z]*.py"))
    found = {name: f"{package}.{name}" for name in files if name != _CONTRACT}
    folders = (path.parent.name for path in folder.glob(f"*/{kind}.py"))
    return found | {name: f"{package}.{name}.{kind}" for name in folders}


def _package(kind):
    return _PACKAGES.get(kind, f"tfxc.{kind}s")


def modules_of(tree: Mapping[str, Any] | list[Any], where: str = "") -> dict[str, str]:
    """Returns the methods and readers of a config that are outside of tfxc: what it would import.

    Args:
        tree: a config as a nested dict, or a part of one.
        where: key of that part.

    Returns:
        Dict of the names by their keys.

    Example:
        >>> modules_of({"encoder": {"name": "helper:E"}, "head": {"name": "dense"}})
        {'encoder.name': 'helper:E'}
    """
    found: dict[str, str] = {}
    items = enumerate(tree) if isinstance(tree, list) else tree.items()
    for key, value in items:
        place = f"{where}.{key}" if where else str(key)
        if isinstance(value, dict | list):
            found |= modules_of(value, place)
        elif key in _NAMING and isinstance(value, str) and ":" in value:
            found[place] = value
    return found


def refuse_modules(tree: Mapping[str, Any], where: str | Path) -> None:
    """Refuses the config of a run that names classes outside of tfxc: nothing was imported yet.

    Args:
        tree: the config as a nested dict.
        where: its file.

    Raises:
        ConfigError: the first one is named.
    """
    for key, name in modules_of(tree).items():
        raise ConfigError(
            f"{key} is {name!r}: opening this run would import {name.split(':')[0]!r} and run its "
            "code",
            where=where,
            fix="give --trust (trust=True in Python) if you trust the run and that module",
        )


def base_class(kind: str) -> type[Any]:
    """Returns the base class of a kind, e.g. ``tfxc.heads.base.Head``."""
    module = importlib.import_module(f"{_package(kind)}.base")
    return getattr(module, kind.capitalize())


def register_all() -> dict[str, dict[str, type[Any]]]:
    """Imports every method, so that Keras finds the classes of a saved model."""
    return {kind: {name: get(kind, name) for name in names(kind)} for kind in KINDS}


#: Names of random starts, see ``tfxc.encoders.bases.starts``.
STARTS = ("uniform", "normal", "xavier", "kaiming")
#: A start of a head: the vectors of the labels' texts.
LABEL_TEXTS = "label_texts"
#: Keys that a section of each kind may have in addition to its constructor's arguments; a
#: constructor may have one of its own.
COMMON_KEYS: dict[str, tuple[str, ...]] = {"encoder": ("start", "vectors"), "head": ("start",)}


def arguments(method: type[Any]) -> dict[str, Any]:
    """Returns the arguments a config may set, ``{name: default}``; ``inspect.Parameter.empty`` if
    none.
    """
    declared_arguments = declared.arguments_of(method).items()
    return {name: one.default for name, one in declared_arguments if not one.from_data}


def check_section(kind: str, section: Mapping[str, Any], where: str) -> None:
    """Checks a config section against the constructor of its method.

    Args:
        section: ``{"name": ..., argument: value}``.
        where: config key of the section, for messages.

    Raises:
        ConfigError: unknown or missing argument, one that depends on the data, or a value that is
            not as the constructor declares.
    """
    method = get(kind, section["name"])
    known = arguments(method)
    common = [key for key in COMMON_KEYS.get(kind, ()) if key not in known]
    if "start" in common and "start" in section:
        start = (*STARTS, LABEL_TEXTS) if kind == "head" else STARTS
        declared.check(Literal[(None, *start)], f"{where}.start", section["start"])
    if "vectors" in common and "vectors" in section:
        declared.check(str | None, f"{where}.vectors", section["vectors"])
    what = f"{kind} {section['name']!r}"
    declared.check_section(method, section, where, what, ["name", *common])


def create(
    kind: str, section: Mapping[str, Any], where: str | None = None, **data_dependent: object
) -> Any:
    """Makes the method of a config section.

    Args:
        section: ``{"name": ..., argument: value}``.
        where: config key of the section, for messages; None means the kind.
        data_dependent: values of what depends on the data; the method takes those that its class
            lists in ``data_dependent_arguments``.

    Raises:
        ConfigError: as ``check_section``, or the constructor refuses the arguments.

    Example:
        >>> create("head", {"name": "dense", "seed": 3}, num_labels=7, num_features=5).num_labels
        7
    """
    where = where or kind
    check_section(kind, section, where)
    method = get(kind, section["name"])
    common = set(COMMON_KEYS.get(kind, ())) - arguments(method).keys()
    given = {key: value for key, value in section.items() if key not in {"name", *common}}
    for key in method.data_dependent_arguments:
        if key in data_dependent:
            given[key] = data_dependent[key]
    try:
        with inside(where, inspect.signature(method.__init__).parameters):
            return method(**given)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error), where=where, fix="change that argument") from error


def class_in(module: str, base: type[Any]) -> type[Any]:
    """Returns the one class of a module that is derived from ``base``.

    Args:
        module: its name, as ``modules`` returns it.
    """
    found = [
        item
        for item in vars(importlib.import_module(module)).values()
        if inspect.isclass(item) and issubclass(item, base) and item.__module__ == module
    ]
    assert len(found) == 1, f"{module} must define one {base.__name__}, has {found}"
    return found[0]
