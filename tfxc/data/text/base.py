"""What text features share: learning from a stream, saving, checks; the base of the bags."""

import abc
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse

from tfxc.core.arguments import COUNT, Integer, OneOf, check_values
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.progress import Progress
from tfxc.core.registry import nearest
from tfxc.core.storage.files import write_array, write_json
from tfxc.core.storage.ownership import atomic_folder
from tfxc.core.storage.reading import read_array, read_json, read_text
from tfxc.data.kinds import SPARSE
from tfxc.ops.text.token_patterns import TokenPattern
from tfxc.parallel import map_ordered

if TYPE_CHECKING:
    from tfxc.ops.text.bags import TextBag


#: Version of the saved form.
FILE_VERSION = 1
#: scikit-learn's: words of two or more word characters.
TOKEN_PATTERN = r"(?u)\b\w\w+\b"
# Below this many characters per process, or per term sent to it, another one costs more.
_MIN_CHARACTERS, _CHARACTERS_PER_TERM = 500_000, 20

# What to do where a file of saved text features is missing or damaged.
_COPY = "copy the run's text_features folder as a whole, or train again"

_CHECKS = {
    "max_features": COUNT | None,
    "max_length": COUNT | None,
    "norm": OneOf("l1", "l2", None),
    "num_features": Integer(1, 2**31 - 1),
}


class Learner(NamedTuple):
    """What learns from texts.

    Attributes:
        add: takes a list of lists of texts; each list may be counted in its own process.
        finish: called once, after the last list.
    """

    add: Callable[[Sequence[Sequence[str]]], None]
    finish: Callable[[], None]


def fitted(features: Any, text_lists: Iterable[Sequence[str]], jobs: int = 1) -> Any:
    """``features``, after they have learned from texts.

    Args:
        features: text features with ``learner(jobs)``, which returns a ``Learner``, or None if
            there is nothing to learn from texts: these are not read then.
        text_lists: iterable of lists of texts, read once, ``jobs`` lists at a time.
        jobs: processes to use at most.
    """
    learner = features.learner(jobs)
    if learner is None:
        return features
    text_lists = iter(text_lists)
    with Progress("counting terms", unit="texts") as progress:
        while window := list(itertools.islice(text_lists, jobs)):
            learner.add(window)
            progress.advance(sum(map(len, window)))
    learner.finish()
    return features


class TextFeatures(abc.ABC):
    """What the kinds of bags of n-grams share.

    Attributes:
        name: the name in configs.
        kind: the ``FeatureKind`` of what they make.
        num_features: columns of the rows, or None before ``fit``.
        blocks: where blocks of columns that are scaled on their own begin, except the first.
    """

    name: str | None = None
    kind = SPARSE
    num_features: int | None = None
    blocks: Sequence[int] = ()

    def __init__(self, **settings: Any) -> None:
        settings["ngram_range"] = self._checked_range(settings["ngram_range"])
        for name in ("min_df", "max_df"):
            if name in settings:
                _check_share(settings[name], name)
        check_values(_CHECKS, settings)
        if "token_pattern" in settings:
            TokenPattern(settings["token_pattern"])
        self._settings = settings
        self._cached_vectorizer = None

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments as a dict."""
        return dict(self._settings)

    def fit(self, text_lists: Iterable[Sequence[str]], jobs: int = 1) -> "TextFeatures":
        """Learns from texts.

        Args:
            text_lists: iterable of lists of texts, read once, ``jobs`` lists at a time; a few
                thousand texts a list suit several processes.
            jobs: processes to use at most; the result does not depend on it.

        Returns:
            ``self``.

        Raises:
            DataError: nothing is left to count, see ``learner``.
        """
        return fitted(self, text_lists, jobs)

    @abc.abstractmethod
    def learner(self, jobs: int = 1) -> Learner | None:
        """The ``Learner`` of ``fit``; None if nothing is learned."""

    def transform(self, texts: Sequence[str], jobs: int = 1) -> scipy.sparse.csr_matrix:
        """One row per text, the same as scikit-learn's in float32.

        Args:
            texts: list of n strings.
            jobs: processes to use at most; the result does not depend on it.

        Returns:
            float32 ``scipy.sparse.csr_matrix`` (n, num_features) with sorted indices.

        Raises:
            ConfigError: ``fit`` has not been called.
        """
        self._check_fitted()
        if not texts:
            return scipy.sparse.csr_matrix((0, self.num_features), dtype=np.float32)
        num_terms = len(self.vocabulary() or ())
        parts = _divide(texts, jobs, num_terms)
        if len(parts) == 1:
            return self._rows(texts)
        rows = map_ordered(self._rows, [(part,) for part in parts], len(parts))
        return scipy.sparse.vstack(list(rows), format="csr")

    def graph(self, folder: Path) -> "TextBag":
        """What turns texts into the same features in a graph, padded as batches are.

        Args:
            folder: ``Path`` of the folder that ``save`` wrote.

        Returns:
            ``tf.Module``, a function of string (batch,).

        Raises:
            ConfigError: the graph cannot cut texts in that way.
        """
        # TensorFlow is imported here: preparation does without.
        from tfxc.ops.text.bags import TextBag

        assert self.num_features is not None, "fit comes first"
        vocabulary = None if self.vocabulary() is None else folder / "vocabulary.txt"
        return TextBag(self.settings(), self.num_features, vocabulary, self.idf, self.blocks)

    def vocabulary(self) -> list[str] | None:
        """The list of terms by feature id, or None if features have no terms."""
        return None

    @property
    def idf(self) -> np.ndarray | None:
        """float64 (num_features,) weights of the terms, or None if terms are not weighted."""
        return None

    def save(self, folder: str | Path) -> None:
        """Writes ``features.json``, and where there are any ``vocabulary.txt`` and ``idf.npy``.

        The folder is written atomically and replaces an existing one.

        Raises:
            ConfigError: ``fit`` has not been called.
            UserError: the folder cannot be written.
        """
        self._check_fitted()
        head = {"version": FILE_VERSION, "name": self.name, "settings": self.settings()}
        with atomic_folder(folder, "set of text features") as scratch:
            write_json(scratch / "features.json", head)
            terms = self.vocabulary()
            if terms is not None:
                lines = "".join(f"{term}\n" for term in terms)
                (scratch / "vocabulary.txt").write_bytes(lines.encode("utf-8"))
            if self.idf is not None:
                write_array(scratch / "idf.npy", self.idf)

    def _checked_range(self, value):
        return check_ngram_range(value)

    def _rows(self, texts):
        return scipy.sparse.csr_matrix(self._vectorizer()(texts))

    def _vectorizer(self):
        if self._cached_vectorizer is None:
            self._cached_vectorizer = self._build_vectorizer()
        return self._cached_vectorizer

    @abc.abstractmethod
    def _build_vectorizer(self) -> Callable[[Sequence[str]], Any]:
        """A function of texts that returns a row of counts for each."""

    def _check_fitted(self):
        if self.num_features is None:
            raise ConfigError("the text features have not been fitted", fix="call fit first")

    def __getstate__(self):
        # The vectoriser repeats the vocabulary as a dict: half of what a process would be sent.
        return self.__dict__ | {"_cached_vectorizer": None}


def _divide(texts, jobs, num_terms):
    """``texts`` in as many equal parts as are worth a process each."""
    worth = sum(map(len, texts)) // max(_MIN_CHARACTERS, _CHARACTERS_PER_TERM * num_terms)
    parts = max(1, min(jobs, worth, len(texts)))
    bounds = [len(texts) * part // parts for part in range(parts + 1)]
    return [texts[start:end] for start, end in itertools.pairwise(bounds)]


def is_positive(value: float) -> bool:
    """Whether ``value`` is an integer above 0 (and no bool)."""
    return type(value) is int and value > 0


def _check_share(value, where):
    """Refuses what is neither a count nor a share of documents.

    Raises:
        ConfigError: naming the argument ``where``.
    """
    if is_positive(value) or (type(value) is float and 0 <= value <= 1):
        return
    raise ConfigError(
        f"a positive integer or a share of 0.0 to 1.0 expected, found {value!r}", where=where
    )


def check_ngram_range(value: Sequence[int]) -> tuple[int, int]:
    """A range of n-grams as a pair.

    Raises:
        ConfigError: it is none.
    """
    if len(value) == 2 and all(map(is_positive, value)) and value[0] <= value[1]:
        return value[0], value[1]
    raise ConfigError(
        f"two positive integers, the first not above the second, expected, found {value!r}",
        where="ngram_range",
    )


def read_terms(folder: Path, with_idf: bool) -> tuple[list[str], np.ndarray | None]:
    """The terms that ``TextFeatures.save`` wrote, and their weights or None.

    Raises:
        DataError: a file is missing or damaged, or there is not a weight per term.
    """
    content = read_text(folder / "vocabulary.txt", fix=_COPY)
    terms = content.split("\n")[:-1]
    if not with_idf:
        return terms, None
    path = folder / "idf.npy"
    idf = read_array(path, fix=_COPY)
    if idf.dtype.kind != "f" or idf.shape != (len(terms),):
        raise DataError(
            f"{len(terms):,} weights, one for each term of vocabulary.txt, expected, found "
            f"{idf.size:,}",
            where=path,
        )
    return terms, idf


def build_of(kinds: Mapping[str, type[Any]], config: Mapping[str, Any]) -> Any:
    """Text features of one of several kinds, see ``tfxc.data.text.registry.build_text_features``.

    Args:
        kinds: dict of the classes by name.
        config: dict of the name and the arguments.
    """
    arguments = dict(config)
    name = arguments.pop("name", None)
    _check_known([name], kinds, "kind of text features")
    _check_known(arguments, inspect.signature(kinds[name]).parameters, f"argument of {name}")
    return kinds[name](**arguments)


def load_of(kinds: Mapping[str, type[Any]], folder: Path) -> Any:
    """Saved text features of one of several kinds, see ``load_text_features``."""
    head = read_json(path := folder / "features.json", fix=_COPY)
    try:
        version, name, settings = (head[key] for key in ("version", "name", "settings"))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("saved text features expected", where=path) from error
    if version != FILE_VERSION:
        raise DataError(f"version {FILE_VERSION} expected, found {version!r}", where=path)
    features = build_of(kinds, {"name": name, **settings})
    features._load(folder)
    return features


def _check_known(names, known, what):
    for name in names:
        if name not in known:
            raise ConfigError(
                f"unknown {what} {name!r}{nearest(name, known)}",
                fix=f"choose one of: {', '.join(known)}",
            )
