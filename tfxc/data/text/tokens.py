"""Texts to lists of token ids, for encoders that read a text in order."""

import abc
import dataclasses
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tfxc.core.declared import Count
from tfxc.core.errors import ConfigError, DataError, missing_package
from tfxc.core.messages import NOTES
from tfxc.data.examples.kinds import TOKENS
from tfxc.data.examples.lists import pad_lists
from tfxc.data.text.base import (
    COPY_AGAIN,
    Learner,
    TextFeatures,
    check_fitted,
    read_lines,
    saving,
    write_lines,
)
from tfxc.data.text.terms import (
    CutTexts,
    TermCounter,
    WordSequences,
    cut_numbers,
    first_of_each,
)
from tfxc.ops.csr import bounds_of
from tfxc.ops.text.token_patterns import WORDS, TokenPattern

if TYPE_CHECKING:
    import jieba

    from tfxc.ops.text._terms import TermTree
    from tfxc.ops.text.tokens import TextTokens


PADDING = "[PAD]"
FILL = "[FILL]"
UNKNOWN = "[UNK]"
_CODE_POINTS = 0x110000
_LETTERS = TokenPattern(WORDS)
_LINE_BREAKS = frozenset("\n\r")  # in no line of a vocabulary's file


@dataclasses.dataclass(frozen=True)
class TokenRows:
    """Lists of token ids: row r is ``tokens[indptr[r]:indptr[r + 1]]``.

    Attributes:
        indptr: int64 (n + 1,).
        tokens: int32 (total,).
        num_features: size of the vocabulary.
    """

    indptr: np.ndarray
    tokens: np.ndarray
    num_features: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and size of the vocabulary, as that of a bag."""
        return len(self.indptr) - 1, self.num_features


class TokenFeatures(TextFeatures):
    """Base of what turns texts into token ids by a vocabulary learned from the training texts.

    Id 0 is ``[PAD]``, which no text holds, the last id ``[UNK]``, any token that is not in the
    vocabulary. Between them are the tokens from the most frequent to the rarest, and with ``fill``
    the last one of them is ``[FILL]``.

    Args:
        max_length: tokens of a text beyond that many are cut off.
        min_count: tokens that occur less often become ``[UNK]``.
        lowercase: whether to lower the case first.
        fill: whether shorter texts end with ``[FILL]`` tokens, up to ``max_length``. Encoders read
            these as words, where they leave padding out: models of other programs that pad all
            texts to one length, and read the padding, are the same with it.

    Attributes:
        num_features: size of the vocabulary with ``[PAD]`` and ``[UNK]``; None before ``fit``.
        num_truncated: texts that ``transform`` has cut so far.

    Raises:
        ConfigError: an argument has an impossible value.
    """

    kind = TOKENS

    def __init__(self) -> None:
        super().__init__()
        self._vocabulary: list[str] | None = None
        self._table: Any = None
        self.num_truncated = 0

    def vocabulary(self) -> list[str] | None:
        return self._vocabulary

    def learner(self) -> Learner:
        """Returns the ``Learner`` of ``fit``."""
        counter = TermCounter()

        def finish() -> np.ndarray:
            counts = counter.counts()
            terms = counts.terms
            totals = counts.totals.tolist()
            places = [
                place
                for place in np.flatnonzero(counts.totals >= self._settings["min_count"]).tolist()
                if _LINE_BREAKS.isdisjoint(terms[place])
            ]
            places.sort(key=lambda place: (-totals[place], terms[place]))
            if not places:
                raise DataError(
                    f"none of {len(terms):,} tokens is left",
                    fix="lower min_count or check the texts",
                )
            self.use_vocabulary([terms[place] for place in places])
            assert self.num_features is not None, "that of the vocabulary"
            return counter.ids(places, first=1, missing=self.num_features - 1)

        return Learner(counter.add, finish)

    def cut(self, texts: Sequence[str]) -> CutTexts:
        """Returns what a ``Learner`` learns from; it depends on the settings alone."""
        return self._cut([self._prepared(text) for text in texts])

    def rows_of(self, indptr: np.ndarray, ids: np.ndarray) -> "TokenRows":
        """As ``transform``, of texts that ``cut`` has cut already.

        Args:
            indptr, ids: see ``CutTexts``, but with the ids of ``Learner.finish``.
        """
        assert self.num_features is not None, "fit comes first"
        if not self._settings["fill"]:
            return TokenRows(indptr, ids, self.num_features)
        count = len(indptr) - 1
        most = self._settings["max_length"]
        filled = pad_lists(indptr, ids, most, self.num_features - 2)
        return TokenRows(np.arange(count + 1) * most, filled.ravel(), self.num_features)

    def use_vocabulary(self, tokens: Sequence[str]) -> "TokenFeatures":
        """Takes the tokens from elsewhere, instead of ``fit``.

        Args:
            tokens: those with the ids 1, 2 and so on, each once.

        Returns:
            ``self``.

        Example:
            >>> CharacterTokens().use_vocabulary(["b", "a"]).transform(["ab"]).tokens.tolist()
            [2, 1]
        """
        self._take([PADDING, *tokens, *self._after])
        return self

    def transform(self, texts: Sequence[str]) -> "TokenRows":
        """Returns the ``TokenRows`` of a list of texts."""
        check_fitted(self.num_features)
        lengths, tokens = self._ids([self._prepared(text) for text in texts])
        most = self._settings["max_length"]
        indptr, tokens, truncated = first_of_each(bounds_of(lengths), tokens, most)
        self.num_truncated += truncated
        return self.rows_of(indptr, tokens)

    def graph(self, folder: Path) -> "TextTokens":
        from tfxc.ops.text.tokens import TextTokens

        assert self.name is not None and self.num_features is not None, "fit comes first"
        vocabulary = folder / "vocabulary.txt"
        return TextTokens(self.name, self.settings(), vocabulary, self.num_features)

    def save(self, folder: str | Path) -> None:
        """Writes ``features.json`` and ``vocabulary.txt``, one token per line."""
        assert self._vocabulary is not None, "fit comes first"
        with saving(folder, self.name, self.settings()) as scratch:
            write_lines(scratch / "vocabulary.txt", self._vocabulary)

    def _load(self, folder: Path) -> None:
        path = folder / "vocabulary.txt"
        tokens = read_lines(path)
        last = len(self._after)
        if len(tokens) < 1 + last or tokens[0] != PADDING or tokens[-last:] != self._after:
            raise DataError(
                f"the vocabulary does not begin with {PADDING} and end with "
                f"{' and '.join(self._after)}",
                where=path,
                fix=COPY_AGAIN,
            )
        self._take(tokens)

    def _take(self, tokens: list[str]) -> None:
        self._vocabulary = tokens
        self.num_features = len(tokens)
        self._table = self._make_table(tokens[1 : -len(self._after)])

    @property
    def _after(self) -> list[str]:
        """The names after the tokens."""
        return [FILL, UNKNOWN] if self._settings["fill"] else [UNKNOWN]

    def _prepared(self, text: str) -> str:
        """Returns the text as it is cut into tokens."""
        return text.lower() if self._settings["lowercase"] else text

    @abc.abstractmethod
    def _cut(self, texts: Sequence[str]) -> CutTexts:
        """Returns the ``CutTexts`` of prepared texts."""

    @abc.abstractmethod
    def _make_table(self, tokens: Sequence[str]) -> Any:
        """Returns what ``_ids`` looks tokens up in, those with the ids 1, 2 and so on."""

    @abc.abstractmethod
    def _ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the number of tokens of each prepared text, int64 (n,), and the ids of all,
        int32.
        """

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._vocabulary is not None:
            self._take(self._vocabulary)


class CharacterTokens(TokenFeatures):
    """A token per character; white space of any length counts as one space.

    Args:
        max_length, min_count, fill: see ``TokenFeatures``.
        lowercase: whether to lower the case first; None does unless the text is ``raw``.
        letters_only: whether everything but letters, their marks, digits and spaces is left out.
        raw: whether every character has its place, spaces too, also at the ends. Line breaks are
            ``[UNK]`` then, and U+0000 counts as a space.

    Raises:
        ConfigError: ``letters_only`` of a ``raw`` text.

    Example:
        >>> tokens = CharacterTokens().fit([["aab", "a"]])
        >>> tokens.vocabulary(), tokens.transform(["ba c"]).tokens.tolist()
        (['[PAD]', 'a', 'b', '[UNK]'], [2, 1, 3, 3])
    """

    name = "characters"

    def __init__(
        self,
        max_length: Count = 256,
        min_count: Count = 1,
        lowercase: bool | None = None,
        letters_only: bool = False,
        raw: bool = False,
        fill: bool = False,
    ) -> None:
        if raw and letters_only:
            raise ConfigError(
                "letters_only cannot be combined with raw",
                where="letters_only",
                fix="remove it: characters that the vocabulary lacks are [UNK]",
            )
        super().__init__()
        self._settings["lowercase"] = not raw if lowercase is None else lowercase

    def _prepared(self, text: str) -> str:
        text = super()._prepared(text)
        if self._settings["raw"]:
            return text.replace("\0", " ")
        if self._settings["letters_only"]:
            return " ".join(_LETTERS(text.replace("_", " ")))
        return " ".join(text.replace("\0", " ").split())

    def _cut(self, texts: Sequence[str]) -> CutTexts:
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        points, ids = np.unique(_code_points(texts), return_inverse=True)
        terms = [chr(point) for point in points.tolist()]
        most = self._settings["max_length"]
        return cut_numbers(bounds_of(lengths), ids.astype(np.int32), terms, most)

    def _make_table(self, tokens: Sequence[str]) -> np.ndarray:
        assert self.num_features is not None, "that of the vocabulary"
        table = np.full(_CODE_POINTS, self.num_features - 1, np.int32)
        table[[ord(token) for token in tokens]] = np.arange(1, len(tokens) + 1)
        return table

    def _ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        return lengths, self._table[_code_points(texts)]


class WordTokens(TokenFeatures):
    r"""A token per word.

    Args:
        max_length, min_count, lowercase, fill: see ``TokenFeatures``.
        token_pattern: regular expression of a word.
        stop_words: words that are left out, a list or the path of a file with one per line.
        segmenter: ``"jieba"`` cuts Chinese text into words first (extra ``zh``), None means the
            words as the pattern finds them.
        dictionary: words that jieba knows in addition, a list or the path of a file with one per
            line: the word, and if wanted its frequency and its part of speech, e.g. ``"云计算 5"``.

    Raises:
        ConfigError: a dictionary without a segmenter, or a file that cannot be read.

    Example:
        >>> words = WordTokens(min_count=1, stop_words=["the"]).fit([["The red fox", "red"]])
        >>> words.vocabulary(), words.transform(["fox, the hen"]).tokens.tolist()
        (['[PAD]', 'red', 'fox', '[UNK]'], [2, 3])
    """

    name = "words"

    def __init__(
        self,
        max_length: Count = 256,
        min_count: Count = 2,
        lowercase: bool = True,
        token_pattern: str = WORDS,
        stop_words: str | Sequence[str] = (),
        segmenter: Literal["jieba"] | None = None,
        dictionary: str | Sequence[str] = (),
        fill: bool = False,
    ) -> None:
        super().__init__()
        if self._settings["dictionary"] and segmenter is None:
            raise ConfigError(
                "a dictionary has no effect without a segmenter",
                where="dictionary",
                fix="add segmenter 'jieba', or remove the dictionary",
            )
        left_out = frozenset(self._listed("stop_words", str.split))
        self._words = WordSequences(token_pattern, left_out)
        self._settings["stop_words"] = sorted(left_out)
        self._settings["dictionary"] = self._listed("dictionary", str.splitlines)

    def _listed(self, name: str, words_in: Callable[[str], list[str]]) -> list[str]:
        """Returns the words of an argument or, by ``words_in`` of its content, of the file it
        names.
        """
        words = self._settings[name]
        if isinstance(words, str):
            try:
                with open(words, encoding="utf-8-sig") as stream:
                    return [word for word in words_in(stream.read()) if word.strip()]
            except (OSError, UnicodeError) as error:
                raise ConfigError(
                    f"{words!r} cannot be read as a file of words ({error})",
                    where=name,
                    fix="give a list of words, or a file with one per line",
                ) from None
        if not all(word.strip() for word in words):
            raise ConfigError("a word of the list is blank", where=name, fix="remove it")
        return words

    def _prepared(self, text: str) -> str:
        text = super()._prepared(text)
        if self._settings["segmenter"] is None:
            return text
        # Other white space at the ends is a token of its own, as in text_classifier_torch.
        return " ".join(_jieba(tuple(self._settings["dictionary"])).cut(text.strip(" ")))

    def _cut(self, texts: Sequence[str]) -> CutTexts:
        return cut_numbers(*self._words.cut(texts), self._settings["max_length"])

    def _make_table(self, tokens: Sequence[str]) -> "TermTree | dict[str, int]":
        tree = self._words.tree(tokens)
        if tree is not None:
            return tree
        return {token: number for number, token in enumerate(tokens)}

    def _ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        assert self.num_features is not None, "fit comes first"
        table = self._table
        if isinstance(table, dict):
            rows = [[table.get(word, -1) for word in words] for words in self._words(texts)]
            lengths = np.fromiter(map(len, rows), np.int64, len(rows))
            places = np.fromiter((i for row in rows for i in row), np.int32, lengths.sum())
        else:
            indptr, places = table.sequences(texts)
            lengths = np.diff(indptr)
        return lengths, np.where(places < 0, self.num_features - 1, places + 1).astype(np.int32)


def report_truncated(features: Any, cut: int, count: int, split: str) -> None:
    """Reports how many texts of a split were too long.

    Args:
        features: text features.
        cut: how many.
        count: texts of the split.
        split: its name.
    """
    if cut:
        part = features.kind.component_named(TOKENS.name)
        settings = features.settings() if part is None else features.settings()[part]
        NOTES.info(
            f"{split}: {cut:,} of {count:,} texts were cut off after {settings['max_length']:,} "
            f"tokens (data.text_features.{'' if part is None else f'{part}.'}max_length)"
        )


def _code_points(texts: Sequence[str]) -> np.ndarray:
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)


@functools.lru_cache(maxsize=4)
def _jieba(dictionary: tuple[str, ...]) -> "jieba.Tokenizer":
    """Returns a segmenter of its own, so that no other one learns the words."""
    with missing_package("zh", where="segmenter"):
        import jieba
    jieba.setLogLevel("WARNING")
    segmenter = jieba.Tokenizer()
    if dictionary:
        segmenter.load_userdict(io.StringIO("\n".join(dictionary)))
    return segmenter
