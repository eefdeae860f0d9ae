"""Text features by their names in configs: built from a config section, loaded from a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.data.examples.kinds import JOINED
from tfxc.data.text.base import build_of, load_of
from tfxc.data.text.names import TEXT_FEATURES

if TYPE_CHECKING:
    from tfxc.data.text.given import GivenTerms


def build_text_features(config: Mapping[str, Any]) -> Any:
    """Returns text features from a config section: the kind's ``name`` and its arguments.

    Raises:
        ConfigError: the name or an argument is unknown, or an argument has an impossible value.

    Example:
        >>> build_text_features({"name": "tfidf", "min_df": 3}).settings()["min_df"]
        3
    """
    return build_of(TEXT_FEATURES, config)


def load_text_features(folder: str | Path) -> Any:
    """Returns text features as their ``save`` wrote them.

    Raises:
        DataError: a file is missing or does not fit the others.
    """
    return load_of(TEXT_FEATURES, Path(folder))


def given_terms(features: Any) -> "GivenTerms | None":
    """The ``GivenTerms`` of text features; None if these are made of the texts alone.

    Args:
        features: any text features, or None.
    """
    return features.given if features is not None and features.kind is JOINED else None
