"""The kinds of text features by their names in configs; classes are imported when asked for."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any


class Kinds(Mapping[str, type[Any]]):
    """Classes of text features by their names.

    Args:
        modules: by the name of a kind, its class and the module in ``tfxc.data.text`` that has it,
            as ``"module:Class"``.

    Example:
        >>> Kinds({"words": "tokens:WordTokens"})["words"].name
        'words'
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = dict(modules)

    def __getitem__(self, name: str) -> type[Any]:
        module, _, class_name = self._modules[name].partition(":")
        return getattr(importlib.import_module(f"tfxc.data.text.{module}"), class_name)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


_BAGS = {
    "tfidf": "bags:TfidfFeatures",
    "pecos_tfidf": "pecos:PecosTfidfFeatures",
    "hashing": "bags:HashingFeatures",
}
_TOKENS = {
    "characters": "tokens:CharacterTokens",
    "words": "tokens:WordTokens",
    "fasttext": "ngrams:FastTextTokens",
    "pretrained": "subwords:PretrainedTokens",
}
#: Bags of n-grams.
BAGS = Kinds(_BAGS)
#: What the terms of joined texts may be.
TERMS = Kinds(_BAGS | {"given": "given:GivenTerms"})
#: Lists of token ids.
TOKENS = Kinds(_TOKENS)
#: Bags of n-grams, lists of tokens, both of one text, and the mean of its tokens' vectors.
TEXT_FEATURES = Kinds(
    _BAGS | _TOKENS | {"joined": "joined:JoinedFeatures", "static": "static:StaticFeatures"}
)
