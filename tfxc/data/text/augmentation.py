"""Changed copies of texts, for a teacher to label."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tfxc.core.declared import Natural, Share, checked

# Units that are left of a text that is cut.
SHORTEST = 1
LONGEST = 5
# Thai, Lao, Burmese, Khmer; kana, Chinese characters, also compatible and rare ones.
_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORDS = re.compile(rf"\s*(?:[{_WITHOUT_SPACES}]|[^\s{_WITHOUT_SPACES}]+)")


class TextCopies:
    """Makes copies of texts with units left out and replaced, or cut to a few in a row.

    A unit is left out with probability ``drop`` or else replaced with probability ``replace``, by
    one drawn as often as it occurs in the texts. Then, with probability ``cut``, only 1 to 5 units
    in a row stay. A copy has one unit at least.

    Args:
        texts: list of texts that the units are counted in.
        drop, replace, cut: probabilities.
        unit: ``"word"``, what is between spaces, and each character where a script puts no
            spaces between words (Chinese, Japanese, Thai, ...); or ``"character"``.
        seed: of all draws.

    Raises:
        ValueError: a probability outside 0 to 1, another unit, or texts without any.

    Example:
        >>> make = TextCopies(["how do I get a card", "card lost"], drop=0.5, replace=0, cut=0)
        >>> set(make("how do I get a card").split()) <= set("how do I get a card".split())
        True

    Reference: Tang et al. 2019, arXiv 1903.12136, section 3.3, with dropped words instead of mask
    tokens, which only some models know, and without their tagger of parts of speech.
    """

    @checked
    def __init__(
        self,
        texts: Sequence[str],
        *,
        drop: Share = 0.1,
        replace: Share = 0.1,
        cut: Share = 0.25,
        unit: Literal["word", "character"] = "word",
        seed: Natural = 0,
    ) -> None:
        self._drop = drop
        self._replace = replace
        self._cut = cut
        self._unit = unit
        self._rng = np.random.default_rng(seed)
        units = (part for text in texts for part in self._units(text))
        counts = Counter(part.strip() if unit == "word" else part for part in units)
        if not counts:
            raise ValueError("the texts contain no words")
        self._known = list(counts)
        self._below = np.cumsum(list(counts.values()))

    def __call__(self, text: str) -> str:
        """Returns a changed copy of a text; an empty text stays as it is."""
        units = self._units(text)
        if not units:
            return text
        chances = self._rng.random(len(units))
        if (chances < self._drop).all():
            chances[self._rng.integers(len(units))] = 1
        changed = [
            self._drawn(unit) if chance < self._drop + (1 - self._drop) * self._replace else unit
            for unit, chance in zip(units, chances, strict=True)
            if chance >= self._drop
        ]
        if self._rng.random() < self._cut:
            length = int(self._rng.integers(SHORTEST, LONGEST + 1))
            start = self._rng.integers(max(len(changed) - length, 0) + 1)
            changed = changed[start : start + length]
        copy = "".join(changed)
        return copy.strip() if self._unit == "word" else copy

    def _units(self, text: str) -> list[str]:
        """Units in order; a word includes the space before it."""
        if self._unit == "character":
            return list(text)
        parts = _WORDS.findall(text)
        return [f" {part.strip()}" if part[0].isspace() else part for part in parts]

    def _drawn(self, unit: str) -> str:
        """Returns another unit in the place of this one, with the space that it had."""
        place = self._rng.integers(self._below[-1])
        drawn = self._known[np.searchsorted(self._below, place, side="right")]
        return f" {drawn}" if self._unit == "word" and unit.startswith(" ") else drawn
