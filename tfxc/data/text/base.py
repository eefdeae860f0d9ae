"""What text features share: learning from a stream, saving, checks; the base of the bags."""

import abc
import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from tfxc.data.text.terms import CutTexts
from tfxc.ops.csr import bounds_of
from tfxc.ops.text.token_patterns import TokenPattern

if TYPE_CHECKING:
    from tfxc.ops.text.bags import TextBag


#: Version of the saved form.
FILE_VERSION = 1
#: scikit-learn's: words of two or more word characters.
TOKEN_PATTERN = r"(?u)\b\w\w+\b"
# What to do where a file of saved text features is missing or damaged.
_COPY = "copy the run's text_features folder as a whole, or train again"

_SECTION = "data.text_features"
_CHECKS = {
    "max_features": COUNT | None,
    "max_length": COUNT | None,
    "norm": OneOf("l1", "l2", None),
    "num_features": Integer(1, 2**31 - 1),
}


class Learner(NamedTuple):
    """What learns from texts.

    Attributes:
        add: counts a ``CutTexts``; returns int32, the number of each of its terms among all.
        finish: called once, after the last texts; returns int32, the id of each of all terms, -1 of
            a term that is left out.
    """

    add: Callable[[CutTexts], np.ndarray]
    finish: Callable[[], np.ndarray]


def parts_of(features: Any) -> dict[str, Any]:
    """The parts of text features that learn by themselves, by the names of their sections."""
    return getattr(features, "parts", {"": features})


def learners_of(features: Any) -> dict[str, Learner]:
    """The ``Learner`` of each part that learns from texts, by the part's name.

    Raises:
        ConfigError: as the parts; ``where`` says which one.
    """
    found = {}
    for name, part in parts_of(features).items():
        with part_errors(name):
            found[name] = part.learner()
    return {name: learner for name, learner in found.items() if learner is not None}


def fitted(features: Any, text_lists: Iterable[Sequence[str]]) -> Any:
    """``features``, after they have learned from texts.

    Args:
        features: text features; if there is nothing to learn from texts, these are not read.
        text_lists: iterable of lists of texts, read once.
    """
    learners, parts = learners_of(features), parts_of(features)
    if not learners:
        return features
    with Progress("counting terms", unit="texts") as progress:
        for texts in text_lists:
            for name, learner in learners.items():
                learner.add(parts[name].cut(texts))
            progress.advance(len(texts))
    for name, learner in learners.items():
        with part_errors(name):
            learner.finish()
    return features


@contextlib.contextmanager
def part_errors(name: str) -> Iterator[None]:
    """Errors name a part's own section of the config; the name is empty where there is one part."""
    try:
        yield
    except (ConfigError, DataError) as error:
        if not name:
            raise
        where = str(error.where or _SECTION)
        if where.startswith(_SECTION):
            where = f"{_SECTION}.{name}{where.removeprefix(_SECTION)}"
        elif where.isidentifier():  # an argument; all else is a file
            where = f"{_SECTION}.{name}.{where}"
        raise type(error)(error.problem, where=where, fix=error.fix) from error


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

    def fit(self, text_lists: Iterable[Sequence[str]]) -> "TextFeatures":
        """Learns from texts.

        Args:
            text_lists: iterable of lists of texts, read once.

        Returns:
            ``self``.

        Raises:
            DataError: nothing is left to count, see ``learner``.
        """
        return fitted(self, text_lists)

    @abc.abstractmethod
    def learner(self) -> Learner | None:
        """The ``Learner`` of ``fit``; None if nothing is learned."""

    @property
    def cuts_once(self) -> bool:
        """Whether ``rows_of`` makes the rows of texts from what ``cut`` has found in them."""
        return True

    def cut(self, texts: Sequence[str]) -> CutTexts:
        """What a ``Learner`` learns from; it depends on the settings alone."""
        raise TypeError(f"{self.name} does not learn from texts")

    def rows_of(
        self, indptr: np.ndarray, ids: np.ndarray, values: np.ndarray
    ) -> scipy.sparse.csr_matrix:
        """As ``transform``, of texts that ``cut`` has cut already.

        Args:
            indptr, ids, values: see ``CutTexts``, but with the ids of ``Learner.finish``.
        """
        raise TypeError(f"{self.name} does not learn from texts")

    def transform(self, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        """One row per text, float32: scikit-learn's, where words have no marks.

        Args:
            texts: list of n strings.

        Returns:
            float32 ``scipy.sparse.csr_matrix`` (n, num_features) with sorted indices.

        Raises:
            ConfigError: ``fit`` has not been called.
        """
        self._check_fitted()
        if not texts:
            return scipy.sparse.csr_matrix((0, self.num_features), dtype=np.float32)
        return self._rows(texts)

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


def known_terms(
    indptr: np.ndarray, ids: np.ndarray, values: np.ndarray, num_features: int
) -> scipy.sparse.csr_matrix:
    """Bags of terms without those whose id is -1, as float32 CSR with sorted indices.

    Args:
        indptr, ids, values: CSR arrays (n, num_features).
    """
    known = ids >= 0
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))[known]
    bounds = bounds_of(np.bincount(rows, minlength=len(indptr) - 1))
    parts = (values[known], ids[known], bounds)
    found = scipy.sparse.csr_matrix(parts, (len(indptr) - 1, num_features), dtype=np.float32)
    found.sort_indices()
    return found


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
