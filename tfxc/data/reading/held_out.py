"""The splits of a data set as readers, a dev split out of the training file if necessary."""

import array
import dataclasses
import functools
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.settings import DataSettings
from tfxc.data.examples.chunk import Chunk, of_size
from tfxc.data.examples.order import permutation
from tfxc.data.reading.formats import named_by_split, open_reader
from tfxc.data.reading.label_texts import read_label_texts, text_of_name
from tfxc.data.reading.source_files import NAMES, local_copy, source_path, stamps_of
from tfxc.labels.vocabulary import LabelVocabulary

if TYPE_CHECKING:
    from tfxc.data.reading.formats.base import Reader


# Of random numbers: not those of the shuffle or of the folds.
_STREAM = 7
_LABEL_STREAM = 9
# Where fewer examples are no titles, nothing could be measured on a share of them.
_ENOUGH = 100
# A title has not so many times the characters of its label's text, however many are no letters.
_LONGER = 4
_WORD = re.compile(r"[^\W_]+")
# What the training file is read by.
_READING = {"name", "train", "reader", "max_line_bytes", "skip_unlabelled"}
_READING |= {"reader_options", "split_options"}


def open_split(settings: DataSettings, split: str, dev_rows: np.ndarray | None = None) -> Any:
    """Returns the reader of one split.

    With ``dev_share`` the training split is the training file without the examples that make the
    dev split, and the dev split those. With ``held_out_labels`` the training split has neither
    these labels nor the examples that have no other.

    Args:
        settings: ``DataSettings``.
        split: ``"train"``, ``"dev"`` or ``"test"``.
        dev_rows: what ``held_out_rows`` returns; None = it is found out where it is needed.

    Returns:
        A ``Reader``, or what has a reader's attributes and ``chunks``.

    Raises:
        DataError: the file cannot be read, or holds too few examples to hold some out.
    """
    if split == "test" or settings.dev_share is None:
        reader = _reader_of(settings, split)
    else:
        chosen = held_out_rows(settings) if dev_rows is None else dev_rows
        reader = Subset(_reader_of(settings, "train"), chosen if split == "dev" else ~chosen)
    if split == "train" and settings.held_out_labels is not None:
        reader = without_labels(reader, settings.held_out_labels, settings.seed)
        if not reader.num_examples:
            raise DataError(
                f"no example is left with {settings.held_out_labels:g} of the labels held out",
                where=source_path(settings.train),
                fix="lower data.held_out_labels",
            )
    return reader


def _reader_of(settings: DataSettings, name: str) -> Any:
    """Returns the reader of a file or folder of the settings."""
    split_options: dict[Any, dict[str, Any]] = {**settings.split_options}
    options = split_options.get(name, {})
    with named_by_split(name, options):
        reader = open_reader(
            local_copy(settings.sources()[name]),
            settings.reader,
            settings.max_line_bytes,
            **{**settings.reader_options, **options},
        )
    return Subset(reader) if settings.skip_unlabelled else reader


def held_out_rows(settings: DataSettings) -> np.ndarray:
    """Reads the training file, and returns which examples make the dev split.

    Args:
        settings: ``DataSettings`` with ``dev_share``.

    Returns:
        bool (examples,), see ``held_out_examples``; examples of the same text are one group. Titles
        of labels stay in the training split, see ``titles_of``: no query is that easy.

    Raises:
        DataError: as ``open_split``.
    """
    assert settings.dev_share is not None
    groups = _text_numbers(*_key(settings))
    usable = queries_of(titles_of(settings))
    chosen = np.zeros(len(groups), bool)
    chosen[usable] = held_out_examples(
        groups[usable], settings.dev_share, settings.seed, settings.dev_part
    )
    if not 0 < np.count_nonzero(chosen) < len(chosen):
        raise DataError(
            f"{np.count_nonzero(usable):,} examples are too few to hold out "
            f"{settings.dev_share:g} of them",
            where=source_path(settings.train),
            fix="raise data.dev_share, or name a file in data.dev",
        )
    return chosen


def titles_of(settings: DataSettings) -> np.ndarray:
    """Reads training file and label texts, and returns which examples are titles of labels.

    The title of a label is one of its examples with whose words the label's text begins or ends,
    of several the longest.

    Args:
        settings: ``DataSettings``.

    Returns:
        bool (examples,), also for the other examples of the same text; False without
        ``label_texts``.

    Raises:
        DataError: a file cannot be read.
    """
    groups = _text_numbers(*_key(settings))
    if settings.label_texts is None:
        return np.zeros(len(groups), bool)
    places = _titles(*_key(settings), settings.label_texts, settings.label_names)
    return np.isin(groups, groups[places])


def queries_of(titles: np.ndarray) -> np.ndarray:
    """Returns which examples may be held out, bool: those that are no titles of labels.

    Where these are fewer than 100, all may be: on a share of so few nothing could be measured.

    Args:
        titles: bool (examples,).

    Example:
        >>> queries_of(np.arange(150) < 50).sum(), queries_of(np.arange(149) < 50).sum()
        (np.int64(100), np.int64(149))
    """
    return np.ones(len(titles), bool) if np.count_nonzero(~titles) < _ENOUGH else ~titles


def note_on_titles(settings: DataSettings) -> str | None:
    """Returns a line that says how many titles there are and what was done; None without any.

    Args:
        settings: ``DataSettings`` with ``dev_share``.
    """
    if settings.label_texts is None:
        return None
    titles = titles_of(settings)
    count = np.count_nonzero(titles)
    if not count:
        return None
    line = f"titles of labels among the examples: {count:,}; "
    if not queries_of(titles).all():
        return line + "they are not held out, as no query is that easy"
    return line + (
        f"they are held out, too, as only {len(titles) - count:,} examples are none: other queries "
        "may be answered better or worse than the figures say (--dev FILE measures such)"
    )


def _key(settings: DataSettings) -> tuple[str, str]:
    """Returns by what the training file is read, which has a hash, and what changes with it."""
    return settings.model_dump_json(include=_READING), str(stamps_of(settings))


@functools.lru_cache(maxsize=1)  # one training asks several times, and each part of refit
def _text_numbers(reading: str, _stamps: str) -> np.ndarray:
    """Returns int64 (examples,): equal for equal texts; examples without a text all differ.

    Args:
        reading: the settings by which the training file is read, as JSON, which has a hash.
        _stamps: change when the file does.
    """
    reader = _reader_of(DataSettings.model_validate_json(reading), "train")
    if not any(chunk.texts for chunk in itertools.islice(reader.chunks(1), 1)):
        return np.arange(sum(len(labels) for labels in reader.label_lists()))
    # A number of 8 bytes stands for a text: two texts in a billion may share one, and a side.
    numbers = array.array("q")
    for chunk in reader.chunks():
        for text in chunk.texts or ():
            digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            numbers.append(int.from_bytes(digest, "little", signed=True))
    return np.frombuffer(numbers, np.int64)


@functools.lru_cache(maxsize=1)
def _titles(reading: str, _stamps: str, label_texts: str, label_names: str | None) -> np.ndarray:
    """Returns the places of the titles among the examples, int64.

    Args:
        reading, _stamps: as of ``_text_numbers``.
        label_texts, label_names: as in the settings.
    """
    settings = DataSettings.model_validate_json(reading)
    given = None
    if label_texts != NAMES:
        given = read_label_texts(local_copy(label_texts), settings.max_line_bytes)
    numbered = label_names and LabelVocabulary.load(source_path(label_names)).names
    titles: dict[str, tuple[int, int]] = {}
    place = 0
    for chunk in _reader_of(settings, "train").chunks():
        for text, labels in zip(chunk.texts or (), chunk.labels, strict=False):
            for label in labels:
                name = numbered[label] if numbered and not isinstance(label, str) else str(label)
                about = text_of_name(name) if given is None else given.get(name, "")
                if len(text) > _LONGER * len(about):
                    continue
                words, all_words = _words(text), _words(about)
                if words and (all_words.startswith(words) or all_words.endswith(words)):
                    titles[name] = max(titles.get(name, (0, 0)), (len(words), -place))
            place += 1
    return np.array(sorted({-behind for _, behind in titles.values()}), np.int64)


def _words(text: str) -> str:
    """Returns the words of a text, each between blanks, whatever their case."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return f" {' '.join(words)} " if words else ""


def held_out_examples(groups: np.ndarray, share: float, seed: int, part: int = 0) -> np.ndarray:
    """Returns which examples make the dev split: a share of them, drawn at random.

    The examples are put in a random order, in which those of a group follow each other, and the
    order is cut into parts of the share. A group goes as a whole to the part it begins in.

    Args:
        groups: int64 (examples,), equal for examples that stay on one side.
        share: of the examples, between 0 and 1.
        seed: of the draw.
        part: which of the parts, from 0; each example is in one of them.

    Returns:
        bool (examples,), True in the dev split.

    Example:
        >>> groups = np.array([7, 7, 1, 2, 3, 4, 5, 6, 8, 9])
        >>> chosen = held_out_examples(groups, 0.2, seed=0)
        >>> chosen[0] == chosen[1]
        np.True_
        >>> sum(held_out_examples(groups, 0.2, 0, part).sum() for part in range(5))
        np.int64(10)
    """
    count = len(groups)
    place = np.empty(count, np.int64)
    place[permutation(count, seed, _STREAM)] = np.arange(count)
    # A group has the place of its first example, so that its size does not change its chance.
    _, firsts, group = np.unique(groups, return_index=True, return_inverse=True)
    places = place[firsts]
    sizes = np.bincount(group, minlength=len(firsts))
    order = np.argsort(places)
    begins = np.empty(len(firsts), np.int64)
    begins[order] = np.cumsum(sizes[order]) - sizes[order]
    low, high = (round(share * count * end) for end in (part, part + 1))
    return ((begins >= low) & (begins < high))[group]


def held_out_labels(labels: Iterable[Any], share: float, seed: int) -> set[Any]:
    """Returns a share of labels, drawn at random; at least one, and never all.

    Args:
        labels: names or numbers, in any order.
        share: of the labels, between 0 and 1.
        seed: of the draw.

    Example:
        >>> len(held_out_labels(range(50), 0.1, seed=0))
        5
    """
    names = sorted(set(labels))
    count = min(max(1, round(share * len(names))), len(names) - 1)
    return {names[place] for place in permutation(len(names), seed, _LABEL_STREAM)[:count]}


def without_labels(reader: "Reader", share: float, seed: int) -> "Subset":
    """Returns a reader without a share of its labels, and without the examples that have no other.

    Args:
        reader: of a training split.
        share, seed: see ``held_out_labels``.
    """
    lists = [list(labels) for part in reader.label_lists() for labels in part]
    held_out = held_out_labels(itertools.chain.from_iterable(lists), share, seed)
    chosen = np.array([bool(set(labels) - held_out) for labels in lists], bool)
    return Subset(reader, chosen, held_out)


class Subset:
    """A part of another reader's examples, in their order.

    Args:
        reader: the ``Reader``.
        chosen: bool, which of its examples belong to the part; None = those that have labels.
        held_out: labels that the part's examples do not have any more.

    Attributes:
        left_out: examples that do not belong to the part, once ``chunks`` has come to the end.
    """

    def __init__(
        self,
        reader: "Reader | Subset",
        chosen: np.ndarray | None = None,
        held_out: Set[Any] = frozenset(),
    ) -> None:
        self._reader = reader
        self._chosen = chosen
        self.held_out = held_out
        self.left_out = 0
        self.num_examples = None if chosen is None else int(np.count_nonzero(chosen))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def ranges(self, folder: Path) -> None:
        """Returns None: which examples belong to the part, every process would have to draw
        anew.
        """
        return None

    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        """Yields the part's examples as ``Chunk``s of ``size`` examples, the last smaller."""
        return of_size(self._parts(size), size)

    def _parts(self, size: int) -> Iterator[Chunk]:
        """Yields what belongs to the part of each chunk of the reader."""
        first = 0
        left_out = 0
        for chunk in self._reader.chunks(size):
            places = np.flatnonzero(self._belong(chunk.labels, first))
            first += len(chunk)
            left_out += len(chunk) - len(places)
            part = chunk.select(places)
            if self.held_out:
                labels = [self._without(row) for row in part.labels]
                part = dataclasses.replace(part, labels=labels)
            yield part
        self.left_out = left_out

    def label_lists(self, size: int = 4096) -> Iterator[list[list[Any]]]:
        """Yields the labels of the part's examples, lists as in ``Chunk.labels``."""
        first = 0
        for labels in self._reader.label_lists(size):
            rows = itertools.compress(labels, self._belong(labels, first))
            yield [self._without(row) for row in rows]
            first += len(labels)

    def _belong(self, labels: Sequence[list[Any]], first: int) -> np.ndarray:
        """Returns which of the examples with these labels belong to the part."""
        if self._chosen is None:
            return np.array([len(row) > 0 for row in labels], bool)
        return self._chosen[first : first + len(labels)]

    def _without(self, labels: Iterable[Any]) -> list[Any]:
        return [label for label in labels if label not in self.held_out]
