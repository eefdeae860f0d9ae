"""The sections ``tree`` and ``ranker`` of a recipe's config, checked."""

import dataclasses
import inspect

from tfxc import registry
from tfxc.errors import ConfigError
from tfxc.labels.label_embeddings import pifa, pii
from tfxc.labels.tree_building import build_tree
from tfxc.ranker.calibration import METHODS
from tfxc.ranker.settings import RankerSettings

_VECTORS = ("pifa", "pii")


class TreeSettings:
    """How the labels are clustered.

    Args:
        given: the arguments of ``labels.tree_building.build_tree`` that differ from its defaults,
            and ``label_embedding``, ``"pifa"`` or ``"pii"``.
        seed: where ``given`` has none.
        where: config key, for messages.

    Raises:
        ConfigError: an unknown key, or a value that cannot be.

    Example:
        >>> TreeSettings({"max_leaf_size": 10}).arguments
        {'seed': 0, 'max_leaf_size': 10}
    """

    def __init__(self, given=None, seed=0, where="recipe.tree"):
        parameters = inspect.signature(build_tree).parameters.values()
        known = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
        known = {"label_embedding": "pifa", **known}
        given = _checked(given, known, where)
        self.label_embedding = given.pop("label_embedding", "pifa")
        if self.label_embedding not in _VECTORS:
            raise ConfigError(
                f"one of {', '.join(_VECTORS)} expected, found {self.label_embedding!r}",
                where=f"{where}.label_embedding",
            )
        self.arguments, self._where = {"seed": seed, **given}, where

    def build(self, features, labels, threads=None):
        """The ``ClusterTree`` of label matrix Y and feature matrix X."""
        vectors = pii(labels) if self.label_embedding == "pii" else pifa(labels, features)
        return build_tree(vectors, **{"threads": threads, **self.arguments})


def ranker_settings(given=None, seed=0, where="recipe.ranker"):
    """``RankerSettings`` of a config section.

    Args:
        given: dict, keys as of ``RankerSettings``; those whose value may differ between layers may
            have a list.
        seed: where ``given`` has none.
        where: config key, for messages.

    Raises:
        ConfigError: an unknown key, or a value of another kind.

    Example:
        >>> ranker_settings({"threshold": 0.01}).threshold
        0.01
    """
    known = {field.name: field.default for field in dataclasses.fields(RankerSettings)}
    return RankerSettings(**{"seed": seed, **_checked(given, known, where)})


def check_calibrate(method):
    """Refuses an unknown way to learn probabilities.

    Raises:
        ConfigError: neither None nor one of ``ranker.calibration.METHODS``.
    """
    if method is not None and method not in METHODS:
        raise ConfigError(
            f"null or one of {', '.join(METHODS)} expected, found {method!r}",
            where="recipe.calibrate",
        )


def _checked(given, known, where):
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise ConfigError(f"a section of keys and values expected, found {given!r}", where=where)
    for key, value in given.items():
        if key not in known:
            raise ConfigError(
                f"unknown key {key!r}{registry.nearest(key, known)}",
                where=f"{where}.{key}",
                fix=f"known keys here: {', '.join(sorted(known))}",
            )
        for one in value if isinstance(value, list) else [value]:
            registry.check_kinds({key: one}, known, where)
            if one is None and known[key] is not None:
                raise ConfigError(f"{key} expects a value, found null", where=where)
    return dict(given)
