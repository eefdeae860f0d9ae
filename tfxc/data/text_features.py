"""Text features by their names in configs: built from a config section, loaded from a folder.

Bags of n-grams are in ``tfxc.data.bags`` and ``tfxc.data.pecos_tfidf``, lists of tokens in
``tfxc.data.tokens`` and ``tfxc.data.subwords``, both of one text in ``tfxc.data.joined_features``.
"""

from pathlib import Path

from tfxc.data.bags import BAGS
from tfxc.data.joined_features import JoinedFeatures
from tfxc.data.text_features_base import build_of, load_of
from tfxc.data.tokens import TOKENS

#: The kinds of text features by their names in configs.
TEXT_FEATURES = BAGS | TOKENS | {JoinedFeatures.name: JoinedFeatures}


def build_text_features(config):
    """Text features from a config section: the kind's ``name`` and its arguments.

    Raises:
        ConfigError: the name or an argument is unknown, or an argument has an impossible value.

    Example:
        >>> build_text_features({"name": "tfidf", "min_df": 3}).settings()["min_df"]
        3
    """
    return build_of(TEXT_FEATURES, config)


def load_text_features(folder):
    """Text features as their ``save`` wrote them.

    Raises:
        DataError: a file is missing or does not fit the others.
    """
    return load_of(TEXT_FEATURES, Path(folder))
