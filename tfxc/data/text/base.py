"""What text features share: learning from a stream, saving, checks; the base of the bags."""

import abc
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import scipy.sparse

from tfxc.core.declared import Declared, check_section
from tfxc.core.errors import ConfigError, DataError, inside, nearest
from tfxc.core.progress import Progress
from tfxc.core.storage.files import write_array, write_json
from tfxc.core.storage.ownership import atomic_folder
from tfxc.core.storage.reading import read_array, read_json, read_text
from tfxc.data.examples.kinds import SPARSE, FeatureKind
from tfxc.data.text.terms import (
    CutTexts,
    TermCounter,
    TermCounts,
    TermCutter,
    TermMatrix,
    known_terms,
)
from tfxc.ops.csr import unit_rows
from tfxc.ops.text.token_patterns import TokenPattern

if TYPE_CHECKING:
    from tfxc.ops.text.bags import TextBag


#: What to do where saved text features are damaged.
COPY_AGAIN = "copy the run's text_features folder as a whole"
#: By what the rows of a bag are divided.
Norm = Literal["l1", "l2"] | None

_VERSION = 1  # of the saved form
_COPY_OR_TRAIN = f"{COPY_AGAIN}, or train again"  # where a file is missing
_SECTION = "data.text_features"


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
    """Returns the parts of text features that learn by themselves, by the names of their
    sections.
    """
    return getattr(features, "parts", {"": features})


def learners_of(features: Any) -> dict[str, Learner]:
    """Returns the ``Learner`` of each part that learns from texts, by the part's name.

    Raises:
        ConfigError: as the parts; ``where`` says which one.
    """
    learners = {}
    for name, part in parts_of(features).items():
        with part_errors(name):
            learner = part.learner()
        if learner is not None:
            learners[name] = learner
    return learners


def fitted(features: Any, text_lists: Iterable[Sequence[str]]) -> Any:
    """Returns ``features``, after they have learned from texts.

    Args:
        features: text features; if there is nothing to learn from texts, these are not read.
        text_lists: iterable of lists of texts, read once.
    """
    learners = learners_of(features)
    if not learners:
        return features
    parts = parts_of(features)
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
    """Lets errors name the section of a part; the name is empty where there is one part."""
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


@contextlib.contextmanager
def saving(folder: str | Path, name: str | None, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Makes the folder of saved text features, which holds their name and settings.

    The folder is written atomically and replaces an existing one.

    Args:
        folder: where they are saved.
        name: the name in configs.
        settings: arguments of the constructor.

    Yields:
        The ``Path`` of the folder, until it is complete.

    Raises:
        UserError: the folder cannot be written.
    """
    with atomic_folder(folder, "set of text features") as scratch:
        head = {"version": _VERSION, "name": name, "settings": settings}
        write_json(scratch / "features.json", head)
        yield scratch


def check_fitted(num_features: int | None) -> int:
    """Returns the number of features of text features that have been fitted.

    Args:
        num_features: None before ``fit``.

    Raises:
        ConfigError: it is None.
    """
    if num_features is None:
        raise ConfigError("the text features have not been fitted", fix="call fit first")
    return num_features


class TextFeatures(Declared, abc.ABC):
    """Base of what turns texts into features.

    Attributes:
        name: the name in configs.
        kind: the ``FeatureKind`` of what they make.
        num_features: columns of the rows, or None before ``fit``.
    """

    name: str | None = None
    kind: FeatureKind
    num_features: int | None = None

    def __init__(self) -> None:
        self._settings = self.get_config()  # what files hold, and what processes are sent

    def settings(self) -> dict[str, Any]:
        """Returns the constructor's arguments as a dict."""
        return dict(self._settings)

    @property
    def nested(self) -> Mapping[str, "TextFeatures"]:
        """The text features that these are made of, by the names of their folders."""
        return {}

    def fit(self, text_lists: Iterable[Sequence[str]]) -> Self:
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
        """Returns the ``Learner`` of ``fit``; None if nothing is learned."""

    @property
    def cuts_once(self) -> bool:
        """Whether ``rows_of`` makes the rows of texts from what ``cut`` has found in them."""
        return True

    def cut(self, texts: Sequence[str]) -> CutTexts:
        """Returns what a ``Learner`` learns from; it depends on the settings alone."""
        raise TypeError(f"{self.name} does not learn from texts")

    @abc.abstractmethod
    def transform(self, texts: Sequence[str]) -> Any:
        """Returns one row per text, in the form of the kind of features.

        Raises:
            ConfigError: ``fit`` has not been called.
        """

    @abc.abstractmethod
    def graph(self, folder: Path) -> Any:
        """Returns what turns texts into the same features in a graph, padded as batches are.

        Args:
            folder: ``Path`` of the folder that ``save`` wrote.

        Returns:
            ``tf.Module``, a function of string (batch,).

        Raises:
            ConfigError: the graph cannot cut texts in that way.
        """

    @abc.abstractmethod
    def save(self, folder: str | Path) -> None:
        """Writes ``features.json`` and what was learned.

        The folder is written atomically and replaces an existing one.

        Raises:
            ConfigError: ``fit`` has not been called.
            UserError: the folder cannot be written.
        """

    @abc.abstractmethod
    def _load(self, folder: Path) -> None:
        """Reads what ``save`` wrote, except for the settings."""

    def vocabulary(self) -> list[str] | None:
        """Returns the list of terms by feature id, or None if features have no terms."""
        return None

    @property
    def idf(self) -> np.ndarray | None:
        """float64 (num_features,) weights of the terms, or None if terms are not weighted."""
        return None


class BagFeatures(TextFeatures):
    """What the kinds of bags of n-grams share.

    Attributes:
        blocks: where blocks of columns that are scaled on their own begin, except the first.
    """

    kind: FeatureKind = SPARSE
    blocks: Sequence[int] = ()

    def __init__(self) -> None:
        super().__init__()
        for name in ("min_df", "max_df"):
            if self._settings.get(name) == 0 and isinstance(self._settings[name], int):
                raise ConfigError(
                    "0 is neither a count of at least 1 nor a share such as 0.0",
                    where=name,
                    fix="change it",
                )
        ranges = [("ngram_range", span) for span in self._ranges]
        if self._settings.get("characters") is not None:
            ranges.append(("characters", self._settings["characters"]))
        for name, span in ranges:
            if len(span) != 2 or span[0] > span[1]:
                raise ConfigError(
                    f"must be two integers, the first not above the second, not {span}",
                    where=name,
                    fix="change it, e.g. to [1, 2]",
                )
        if "token_pattern" in self._settings:
            TokenPattern(self._settings["token_pattern"])
        self._cached_vectorizer: Callable[[Sequence[str]], Any] | None = None

    @property
    def _ranges(self) -> list[list[int]]:
        """Smallest and largest n of the n-grams, for each vectoriser."""
        ngram_range = self._settings["ngram_range"]
        several = ngram_range and isinstance(ngram_range[0], list)
        return ngram_range if several else [ngram_range]

    def rows_of(
        self, indptr: np.ndarray, ids: np.ndarray, values: np.ndarray
    ) -> scipy.sparse.csr_matrix:
        """As ``transform``, of texts that ``cut`` has cut already.

        Args:
            indptr, ids, values: see ``CutTexts``, but with the ids of ``Learner.finish``.
        """
        raise TypeError(f"{self.name} does not learn from texts")

    def transform(self, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        """Returns one row per text, float32: scikit-learn's, where words have no marks.

        Args:
            texts: list of n strings.

        Returns:
            float32 ``scipy.sparse.csr_matrix`` (n, num_features) with sorted indices.

        Raises:
            ConfigError: ``fit`` has not been called.
        """
        num_features = check_fitted(self.num_features)
        if not texts:
            return scipy.sparse.csr_matrix((0, num_features), dtype=np.float32)
        return self._rows(texts)

    def graph(self, folder: Path) -> "TextBag":
        # TensorFlow is imported here: preparation does without.
        from tfxc.ops.text.bags import TextBag

        num_features = check_fitted(self.num_features)
        vocabulary = None if self.vocabulary() is None else folder / "vocabulary.txt"
        return TextBag(self.settings(), num_features, vocabulary, self.idf, self.blocks)

    def save(self, folder: str | Path) -> None:
        """Writes ``features.json``, and where there are any ``vocabulary.txt`` and ``idf.npy``."""
        check_fitted(self.num_features)
        with saving(folder, self.name, self.settings()) as scratch:
            terms = self.vocabulary()
            if terms is not None:
                write_lines(scratch / "vocabulary.txt", terms)
            if self.idf is not None:
                write_array(scratch / "idf.npy", self.idf)

    def _rows(self, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        if self._cached_vectorizer is None:
            self._cached_vectorizer = self._build_vectorizer()
        return scipy.sparse.csr_matrix(self._cached_vectorizer(texts))

    def _normed(self, rows: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        """Divides rows by their norm, the parts in the blocks of columns by theirs before."""
        norm = self._settings["norm"]
        if norm and self.blocks:
            starts = rows.indptr[:-1]
            bounds = [starts]
            for first in self.blocks:  # a block's entries in a row are adjacent
                before = np.concatenate([[0], np.cumsum(rows.indices < first)])
                bounds.append(starts + before[rows.indptr[1:]] - before[starts])
            splits = np.append(np.stack(bounds, axis=1), rows.indptr[-1])
            parts = (rows.data, rows.indices, splits)
            unit_rows(scipy.sparse.csr_matrix(parts, (len(splits) - 1, rows.shape[1])), norm)
        return unit_rows(rows, norm) if norm else rows

    @abc.abstractmethod
    def _build_vectorizer(self) -> Callable[[Sequence[str]], Any]:
        """Returns a function of texts that returns a row of counts for each."""

    def __getstate__(self) -> dict[str, Any]:
        # The vectoriser repeats the vocabulary as a dict: half of what a process would be sent.
        return self.__dict__ | {"_cached_vectorizer": None}


class TfidfBag(BagFeatures):
    """What bags share whose terms are learned from texts and weighted by idf."""

    _vocabulary: list[str] | None = None
    _idf: np.ndarray | None = None

    def learner(self) -> Learner:
        """Learns the vocabulary and the idf weights.

        Raises:
            DataError: at its end, no term is left, or ``max_df`` means fewer documents than
                ``min_df``.
        """
        counter = TermCounter()

        def finish() -> np.ndarray:
            return counter.ids(self._choose(counter.counts()), first=0, missing=-1)

        return Learner(counter.add, finish)

    def cut(self, texts: Sequence[str]) -> CutTexts:
        return self._terms(learning=True).cut(texts)

    def rows_of(
        self, indptr: np.ndarray, ids: np.ndarray, values: np.ndarray
    ) -> scipy.sparse.csr_matrix:
        assert self.num_features is not None, "fit comes first"
        return self._weighted(known_terms(indptr, ids, values, self.num_features))

    def vocabulary(self) -> list[str] | None:
        return self._vocabulary

    @property
    def idf(self) -> np.ndarray | None:
        return self._idf

    @abc.abstractmethod
    def _choose(self, counts: TermCounts) -> np.ndarray:
        """Chooses the vocabulary, and returns the places of its terms."""

    @abc.abstractmethod
    def _terms(self, learning: bool) -> TermCutter:
        """Returns what cuts texts, to learn from them or to make their rows."""

    def _take(self, vocabulary: list[str], idf: np.ndarray | None) -> None:
        self._vocabulary = vocabulary
        self._idf = idf if self._settings["use_idf"] else None
        self.num_features = len(vocabulary)
        self._cached_vectorizer = None

    def _build_vectorizer(self) -> TermMatrix:
        assert self._vocabulary is not None, "fit comes first"
        return TermMatrix(self._vocabulary, self._terms(learning=False))

    def _rows(self, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        return self._weighted(super()._rows(texts))

    def _weighted(self, rows: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        """Returns rows of counts as rows of weights, divided by their norm."""
        if self._settings["sublinear_tf"]:
            rows.data = np.log(rows.data) + 1
        if self._idf is not None:
            rows.data *= self._idf[rows.indices]
        return self._normed(rows)


def write_lines(path: Path, terms: Iterable[str]) -> None:
    """Writes one term per line, as UTF-8."""
    path.write_bytes("".join(f"{term}\n" for term in terms).encode("utf-8"))


def read_lines(path: Path) -> list[str]:
    """Returns the terms that ``write_lines`` wrote.

    Raises:
        DataError: there is no such file, or it is not UTF-8.
    """
    return read_text(path, fix=_COPY_OR_TRAIN).split("\n")[:-1]


def read_terms(folder: Path, with_idf: bool) -> tuple[list[str], np.ndarray | None]:
    """Returns the terms that ``BagFeatures.save`` wrote, and their weights or None.

    Raises:
        DataError: a file is missing or damaged, or there is not a weight per term.
    """
    terms = read_lines(folder / "vocabulary.txt")
    if not with_idf:
        return terms, None
    path = folder / "idf.npy"
    idf = read_array(path, fix=_COPY_OR_TRAIN)
    if idf.dtype.kind != "f" or idf.shape != (len(terms),):
        raise DataError(
            f"vocabulary.txt has {len(terms):,} terms, but there are {idf.size:,} weights",
            where=path,
            fix=_COPY_OR_TRAIN,
        )
    return terms, idf


def build_of(
    kinds: Mapping[str, type[Any]], section: Mapping[str, Any], where: str = _SECTION
) -> Any:
    """Returns text features of one of several kinds, see
    ``tfxc.data.text.registry.build_text_features``.

    Args:
        kinds: the classes by name.
        section: the name and the arguments.
        where: config key of the section, for messages.
    """
    name = section.get("name")
    if not isinstance(name, str) or name not in kinds:
        raise ConfigError(
            "the section names no kind of text features"
            if name is None
            else f"unknown kind of text features {name!r}{nearest(name, kinds)}",
            where=where,
            fix=f"choose one of: {', '.join(kinds)}",
        )
    check_section(kinds[name], section, where, f"text features {name!r}", others=["name"])
    arguments = {key: value for key, value in section.items() if key != "name"}
    with inside(where, arguments):
        return kinds[name](**arguments)


def load_of(kinds: Mapping[str, type[Any]], folder: Path) -> Any:
    """Returns saved text features of one of several kinds, see ``load_text_features``."""
    path = folder / "features.json"
    head = read_json(path, fix=_COPY_OR_TRAIN)
    try:
        version = head["version"]
        section = {"name": head["name"], **head["settings"]}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "this file does not describe text features", where=path, fix=_COPY_OR_TRAIN
        ) from error
    if version != _VERSION:
        raise DataError(
            f"the text features are of version {version!r} instead of {_VERSION}",
            where=path,
            fix="use the tfxc that wrote them, or train again",
        )
    features = build_of(kinds, section)
    features._load(folder)
    return features
