"""What the settings of text features and of changes of images accept, and what is saved of them."""

import json
import math

import numpy as np
import pytest

from tfxc.core.declared import arguments_of, check_section
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.data.images.augmentation import METHODS
from tfxc.data.text.augmentation import TextCopies
from tfxc.data.text.names import TERMS, TEXT_FEATURES
from tfxc.data.text.registry import build_text_features

CLASSES = [*{**TEXT_FEATURES, **TERMS}.values(), *METHODS.values(), TextCopies]


@pytest.mark.parametrize("method", CLASSES, ids=lambda method: method.__name__)
@pytest.mark.parametrize("wrong", [object(), math.nan, -math.inf], ids=["object", "nan", "-inf"])
def test_every_argument_is_checked(method, wrong):
    for name in arguments_of(method):
        with pytest.raises(ConfigError, match=rf"^here\.{name}: must be "):
            check_section(method, {name: wrong}, "here", method.__name__)


@pytest.mark.parametrize(
    "section",
    [
        {"name": "tfidf", "ngram_range": (1, 2), "min_df": np.int64(2), "max_df": np.float32(0.5)},
        {"name": "hashing", "ngram_range": np.array([1, 2]), "num_features": np.int64(16)},
        {"name": "pecos_tfidf", "analyzer": ("word", "char"), "ngram_range": ((1, 2), (2, 3))},
        {"name": "words", "stop_words": np.array(["the", "a"])},
    ],
)
def test_settings_are_as_files_have_them(section):
    settings = build_text_features(section).settings()
    assert settings == json.loads(json_text(settings))
    assert build_text_features({"name": section["name"], **settings}).settings() == settings
    as_json = json.loads(json.dumps(section, default=lambda value: value.tolist()))
    assert build_text_features(as_json).settings() == settings
