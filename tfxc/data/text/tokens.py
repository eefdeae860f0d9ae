"""Texts to lists of token ids, for encoders that read a text in order."""

import re

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.data.text.subwords import PretrainedTokens
from tfxc.data.text.terms import TermCounter
from tfxc.data.text.tokens_base import TokenFeatures
from tfxc.ops.text.token_patterns import TokenPattern

WORD_PATTERN = r"(?u)\w+"
_CODE_POINTS = 0x110000
_JIEBA = "pip install 'tfxc[zh]'"


class CharacterTokens(TokenFeatures):
    """A token per character; white space of any length counts as one blank.

    Args:
        max_length, min_count, lowercase: see ``TokenFeatures``.
        letters_only: whether all that is no letter, digit or blank is left out.

    Example:
        >>> tokens = CharacterTokens().fit([["aab", "a"]])
        >>> tokens.vocabulary(), tokens.transform(["ba c"]).tokens.tolist()
        (['[PAD]', 'a', 'b', '[UNK]'], [2, 1, 3, 3])
    """

    name = "characters"

    def __init__(self, max_length=256, min_count=1, lowercase=True, letters_only=False):
        super().__init__(
            max_length=max_length,
            min_count=min_count,
            lowercase=lowercase,
            letters_only=letters_only,
        )

    def _prepared(self, text):
        text = super()._prepared(text)
        if self._settings["letters_only"]:
            text = re.sub(r"[\W_]+", " ", text)
        return " ".join(text.replace("\0", " ").split())

    def _counter(self, jobs):
        total = np.zeros(_CODE_POINTS, np.int64)

        def add(text_lists):
            for texts in text_lists:
                points = _code_points([self._prepared(text) for text in texts])
                np.add(total, np.bincount(points, minlength=_CODE_POINTS), out=total)

        def counted():
            found = np.flatnonzero(total)
            return [chr(point) for point in found], total[found]

        return add, counted

    def _make_table(self, tokens):
        table = np.full(_CODE_POINTS, len(tokens) - 1, np.int32)
        table[[ord(token) for token in tokens[1:-1]]] = np.arange(1, len(tokens) - 1)
        return table

    def _ids(self, texts):
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        return lengths, self._table[_code_points(texts)]

    def __getstate__(self):
        return self.__dict__ | {"_table": None}

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self._vocabulary is not None:
            self._table = self._make_table(self._vocabulary)


class WordTokens(TokenFeatures):
    r"""A token per word.

    Args:
        max_length, min_count, lowercase: see ``TokenFeatures``.
        token_pattern: regular expression of a word.
        stop_words: words that are left out, a list or the path of a file with one a line.
        segmenter: ``"jieba"`` cuts Chinese text into words first (extra ``zh``), None takes the
            words as the pattern finds them.

    Example:
        >>> words = WordTokens(min_count=1, stop_words=["the"]).fit([["The red fox", "red"]])
        >>> words.vocabulary(), words.transform(["fox, the hen"]).tokens.tolist()
        (['[PAD]', 'red', 'fox', '[UNK]'], [2, 3])
    """

    name = "words"

    def __init__(
        self,
        max_length=256,
        min_count=2,
        lowercase=True,
        token_pattern=WORD_PATTERN,
        stop_words=(),
        segmenter=None,
    ):
        TokenPattern(token_pattern)
        if segmenter not in (None, "jieba"):
            raise ConfigError(f"'jieba' or null expected, found {segmenter!r}", where="segmenter")
        super().__init__(
            max_length=max_length,
            min_count=min_count,
            lowercase=lowercase,
            token_pattern=token_pattern,
            stop_words=_stop_words(stop_words),
            segmenter=segmenter,
        )
        self._stop_words = frozenset(self._settings["stop_words"])

    def _prepared(self, text):
        text = super()._prepared(text)
        return text if self._settings["segmenter"] is None else " ".join(_jieba().cut(text))

    def _counter(self, jobs):
        words = TokenPattern(self._settings["token_pattern"]).analysis()
        analysis = {**words, "ngram_range": (1, 1), "lowercase": False}
        counter = TermCounter(analysis, jobs)

        def add(text_lists):
            counter.add([[self._prepared(text) for text in texts] for texts in text_lists])

        def counted():
            counts = counter.counts()
            kept = [i for i, term in enumerate(counts.terms) if term not in self._stop_words]
            return [counts.terms[i] for i in kept], counts.totals[kept]

        return add, counted

    def _make_table(self, tokens):
        return {token: number for number, token in enumerate(tokens[1:-1], 1)}

    def _ids(self, texts):
        words, table = TokenPattern(self._settings["token_pattern"]).of(texts), self._table
        unknown, left_out = self.num_features - 1, self._stop_words
        rows = [
            [table.get(word, unknown) for word in found if word not in left_out] for found in words
        ]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return lengths, np.fromiter((i for row in rows for i in row), np.int32, lengths.sum())


#: The kinds of tokens by their names in configs.
TOKENS = {kind.name: kind for kind in (CharacterTokens, WordTokens, PretrainedTokens)}


def _code_points(texts):
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)


def _stop_words(given):
    if isinstance(given, str):
        try:
            with open(given, encoding="utf-8") as stream:
                given = stream.read().split()
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"a file with one word a line expected ({error})", where="stop_words"
            ) from None
    if not all(isinstance(word, str) for word in given):
        raise ConfigError("a list of words or a file's path expected", where="stop_words")
    return sorted(set(given))


def _jieba():
    try:
        import jieba
    except ImportError:
        raise ConfigError(
            "segmenter 'jieba' needs the package jieba", where="segmenter", fix=_JIEBA
        ) from None
    jieba.setLogLevel("WARNING")
    return jieba
