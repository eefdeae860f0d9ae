"""The config of a run: JSON in, validated settings out.

Order of precedence: defaults < ``extends`` < the file < ``--set a.b=value``. An unknown key is an
error that names the nearest known one. Nothing here imports TensorFlow.
"""

import contextlib
import copy
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pydantic

from tfxc.core import declared
from tfxc.core.errors import ConfigError, nearest
from tfxc.core.settings import SPLITS, Config, DataSettings, EarlyStopping, Method, TrainingSettings
from tfxc.core.storage.files import check_local
from tfxc.core.storage.reading import existing_file, read_errors

__all__ = [
    "SPLITS",
    "Config",
    "DataSettings",
    "EarlyStopping",
    "Method",
    "TrainingSettings",
    "changed",
    "check_given",
    "load_tree",
    "merge",
    "parse_config",
]

# Sections that name a method: with another name, the old arguments do not apply.
_METHOD_SECTIONS = {"encoder", "head", "objective", "recipe", "optimizer", "schedule"}
# Sections of which a name alone is short for ``{"name": ...}``.
_NAMED_SECTIONS = _METHOD_SECTIONS | {"text_features"}


def load_tree(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Reads a config file as a nested dict that is not validated.

    Args:
        path: JSON file, or the name of a config that comes with tfxc.
        overrides: texts ``"a.b=value"``; the value is JSON, or a plain string.

    Raises:
        ConfigError: no such file, bad JSON, or an override that cannot be made.

    Example:
        >>> load_tree("quickstart", ["training.epochs=1"])["training"]["epochs"]
        1
    """
    from tfxc.core.shipped import find_config

    return changed(_read(find_config(path), ()), overrides)


def changed(tree: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Returns a nested dict with texts ``"a.b=value"`` applied.

    Where they name another method than the dict does, the arguments of the old one go; so do those
    of a method that they name themselves, where a later one names another.

    Raises:
        ConfigError: an override cannot be made.

    Example:
        >>> changed({"seed": 1}, ["seed=2", "encoder=textcnn"])
        {'seed': 2, 'encoder': {'name': 'textcnn'}}
        >>> changed({"head": {"name": "dense", "bias": 1}}, ["head.m2=0.3", "head.name=margin"])
        {'head': {'name': 'margin', 'm2': 0.3}}
    """
    result = copy.deepcopy(dict(tree))
    changes = [_change_of(text) for text in overrides]
    methods = {
        tuple(parents): value
        for _, parents, last, value in changes
        if last == "name"
        and parents
        and (parents[-1] in _METHOD_SECTIONS or parents[0] == "techniques")
    }
    for path, name in methods.items():
        section = _existing(result, path)
        if isinstance(section, dict) and section.get("name") != name:
            section.clear()
            section["name"] = name
    given: dict[tuple[str, ...], Any] = {}
    for key, parents, last, value in changes:
        node: Any = result
        for part in parents:
            if isinstance(node, list):
                node = node[_index(node, part, key)]
            else:
                node[part] = named(part, node.get(part, {}))
                node = node[part]
            if not isinstance(node, dict | list):
                raise ConfigError(
                    f"{part!r} is a value, not a section",
                    where=f"--set {key}",
                    fix=f"leave out what follows {part!r}",
                )
        path = tuple(parents)
        if path in methods and last == "name":
            if given.get(path, value) != value:
                node.clear()
            given[path] = value
        elif isinstance(value, dict) and "name" in value:
            given[(*path, last)] = value["name"]
        if isinstance(node, list):
            node[_index(node, last, key)] = value
        else:
            node[last] = value
    return result


def _change_of(text: str) -> tuple[str, list[str], str, Any]:
    """Returns of ``"a.b=value"`` its key, the sections above it, their key, and the value."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ConfigError(
            f"{text!r} is not KEY=VALUE", where="--set", fix="write e.g. training.epochs=3"
        )
    with contextlib.suppress(json.JSONDecodeError):  # a plain string needs no quotes
        value = json.loads(value)
    *parents, last = key.split(".")
    if last in _NAMED_SECTIONS and isinstance(value, str):
        return key, [*parents, last], "name", value
    return key, parents, last, value


def _existing(tree: Any, path: Iterable[str]) -> Any:
    """Returns what is at a path of a nested dict; None if nothing is."""
    for part in path:
        if isinstance(tree, list):
            tree = tree[int(part)] if part.isdecimal() and int(part) < len(tree) else None
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def parse_config(tree: Mapping[str, Any], where: str = "config") -> Config:
    """Validates a nested dict as a ``Config``; errors name the key and the nearest known one."""
    _refuse_unwritable(tree, "", where)
    _check_paths(tree, where)
    try:
        return Config.model_validate(tree)
    except pydantic.ValidationError as error:
        raise _readable(error.errors()[0], where) from None


def check_given(tree: Mapping[str, Any], where: str = "config") -> None:
    """Refuses what ``parse_config`` would, but for keys that are missing: they may be filled in.

    Raises:
        ConfigError: as of ``parse_config``.
    """
    _refuse_unwritable(tree, "", where)
    _check_paths(tree, where)
    try:
        Config.model_validate(tree)
    except pydantic.ValidationError as error:
        wrong = [one for one in error.errors() if one["type"] != "missing"]
        if wrong:
            raise _readable(wrong[0], where) from None


def _refuse_unwritable(value, key, where):
    """Refuses what no file of tfxc could hold: NaN, infinity, and texts that are not Unicode."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(
            f"must be a number, not {value}", where=f"{where}: {key}", fix="change it"
        )
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            problem = f"{key}: {value!r} is not a text in UTF-8"
            raise ConfigError(problem, where=where, fix="rename the file or folder") from None
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for name, item in items:
        _refuse_unwritable(item, f"{key}.{name}" if key else str(name), where)


_MAY_BE_REMOTE = (
    "about", "run", "data.where", "data.train", "data.dev", "data.test", "data.label_names",
    "data.label_texts",
)  # fmt: skip


def _check_paths(tree, where, key=""):
    """Refuses addresses of remote storages, except of examples and in what is only shown."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if key + name not in _MAY_BE_REMOTE:
                _check_paths(value, where, f"{key}{name}.")
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            _check_paths(value, where, f"{key}{number}.")
    elif isinstance(tree, str):
        check_local(tree, f"{where}: {key[:-1]}")


def _read(path, seen):
    place = os.path.realpath(path)  # Path.resolve fails on a link that leads to itself
    if place in seen:
        raise ConfigError(
            "'extends' refers back to this file", where=path, fix="remove the circular reference"
        )
    if not path.exists() and not path.is_symlink():
        raise ConfigError("no such config file", where=path, fix=_neighbours(path))
    with read_errors(path, error=ConfigError):
        content = existing_file(path, error=ConfigError).read_bytes()
    try:
        tree = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no JSON, or not even UTF-8
        line, reason = 1, str(error)
        if isinstance(error, json.JSONDecodeError):
            line, reason = error.lineno, f"{error.msg} in column {error.colno}"
        fix = "correct the syntax"
        if path.suffix != ".json":
            fix += ", or give a data file without --config"
        raise ConfigError(f"not valid JSON: {reason}", where=f"{path}:{line}", fix=fix) from None
    if not isinstance(tree, dict):
        raise ConfigError(
            "the file does not contain a JSON object", where=path, fix="begin the file with {"
        )
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(
            f"'extends' must be a file name, not {base!r}",
            where=path,
            fix="write the path of a config, relative to this one",
        )
    return merge(_read(path.parent / base, (*seen, place)), tree)


def _neighbours(path):
    from tfxc.core.shipped import shipped_configs

    near = nearest(path.stem, shipped_configs()).lstrip(", ").rstrip("?")
    found = sorted(p.name for p in path.parent.glob("*.json")) if path.parent.is_dir() else []
    there = f"configs there: {', '.join(found[:20])}" if found else "check the path"
    return f"{there}; {near}, which comes with tfxc (see tfxc configs)?" if near else there


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Returns ``base`` with ``change`` laid over it, dict by dict.

    A method section whose ``name`` changes is replaced as a whole: the arguments of another
    method mean nothing to it.
    """
    result = dict(base)
    for key, value in change.items():
        old, value = named(key, result.get(key)), named(key, value)
        result[key] = value
        if isinstance(old, dict) and isinstance(value, dict):
            renamed = value.get("name", old.get("name")) != old.get("name")
            if not (renamed and key in _NAMED_SECTIONS):
                result[key] = merge(old, value)
    return result


def named(key: str, value: object) -> Any:
    """Returns the value of a key; of a method's section a name becomes a section.

    Example:
        >>> named("encoder", "textcnn"), named("run", "runs/my")
        ({'name': 'textcnn'}, 'runs/my')
    """
    return {"name": value} if key in _NAMED_SECTIONS and isinstance(value, str) else value


def _index(node, part, key):
    if not part.isdecimal() or int(part) >= len(node):
        problem = f"{part!r} is not the index of an item of a list of {len(node)}"
        raise ConfigError(problem, where=f"--set {key}", fix="count from 0")
    return int(part)


# Arguments of methods, of which the settings do not know.
_HOMES = {"ranker": "recipe.ranker", "tree": "recipe.tree", "calibrate": "recipe.calibrate"}


def _readable(first: Mapping[str, Any], where: str) -> ConfigError:
    """Returns the first of pydantic's errors as one of ours."""
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, ConfigError):  # of one of tfxc's validators; it says all there is to say
        return ConfigError(raised.problem, where=f"{where}: {raised.where}", fix=raised.fix)
    sections: list[type[pydantic.BaseModel]] = [Config]  # on the way to the key
    for part in path:
        settings = sections[-1].model_fields.get(part)
        kinds = declared.alternatives(settings.annotation) if settings else []
        section = next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
        if section is None:
            break
        sections.append(section)
    if first["type"] == "extra_forbidden":
        known = sorted(sections[-1].model_fields)
        home = _HOMES.get(key) or next(
            (
                f"{name}.{key}"
                for name, field in Config.model_fields.items()
                for kind in declared.alternatives(field.annotation)
                if len(path) == 1 and key in getattr(kind, "model_fields", ())
            ),
            None,
        )
        return ConfigError(
            f"unknown key {key!r}"
            + (f", did you mean {home!r}?" if home else nearest(path[-1], known)),
            where=where,
            fix=f"use one of: {', '.join(known)}",
        )
    if first["type"] == "missing":
        return ConfigError(f"{key!r} is missing", where=where, fix=f"add {key!r}")
    if first["type"] == "string_pattern_mismatch":
        problem = f"must be a name of letters, digits, '.', '_' and '-', not {first['input']!r}"
        return ConfigError(problem, where=f"{where}: {key}", fix="change it")
    place = len(sections) - 1  # of the key that is nearest to the value
    if place < len(path) and path[place] in sections[-1].model_fields:
        field = sections[-1].model_fields[path[place]]
        words = declared.describe(declared.bounded(field.annotation, field.metadata))
        hint = nearest(first["input"], declared.words(field.annotation))
    else:
        words = "a section"
        hint = ""
    return ConfigError(
        f"must be {words}, not {declared.shown(first['input'])}{hint}",
        where=f"{where}: {key}",
        fix="change it",
    )
