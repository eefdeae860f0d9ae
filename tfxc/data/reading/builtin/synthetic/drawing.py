"""Draws blocks of synthetic examples: labels by a power law, and features that follow from them.

Labels belong to topics, about 32 to each. An example has a topic, some labels of it, and words: of
those that its topic prefers, of those that each of its labels prefers, and any, all of them by
Zipf's law. What a topic or a label prefers is a hash of its number, so that there is no table of
labels, and the random numbers of a block depend on its number alone: any part can be drawn alone.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse

from tfxc.data.examples.lists import bounds_of

if TYPE_CHECKING:
    from tfxc.data.reading.builtin.synthetic.shapes import Shape

_LABELS_PER_TOPIC = 32
# Shares of the words of an example: those of its topic, those of its labels; the rest is noise.
_TOPIC_SHARE = 0.4
_LABELS_SHARE = 0.45
_EXPONENT = 0.9  # of Zipf's law
_SPLITS = {"train": 0, "dev": 1, "test": 2}
_SIZES = 3  # stream of random numbers from which lengths are calibrated
_LABELS_STREAM = 0
_FEATURES_STREAM = 1
# What a hash is of.
_TOPIC = 1
_LABEL = 2
_PIXELS = 3
_PATTERN = 8  # height and width of what a class looks like, before it is enlarged
_NOISE = 1.0  # of vectors, in deviations of a value of their centres
_GRAIN = 40  # of images, of 256
#: What words are made of.
SYLLABLES = [c + v for c in "bcdfghjklmnpqrstvwxz" for v in "aeiou"]
_FIRST_CHARACTER = 0x4E00


class Labels(NamedTuple):
    """The labels of a block.

    Attributes:
        indptr: int64 (n + 1,).
        ids: int64 (total,), distinct in each example.
        topics: int64 (n,).
    """

    indptr: np.ndarray
    ids: np.ndarray
    topics: np.ndarray


class Words(NamedTuple):
    """The words of a block by their places in the order of frequency, with repetitions.

    Attributes:
        indptr: int64 (n + 1,).
        places: int64 (total,).
    """

    indptr: np.ndarray
    places: np.ndarray


class Drawing:
    """Draws the examples of a shape, block by block.

    Args:
        shape: sizes.
        seed: of all random numbers.

    Attributes:
        block: number of examples of a block.

    Example:
        >>> from tfxc.data.reading.builtin.synthetic.shapes import SHAPES
        >>> drawing = Drawing(SHAPES["cifar10"], seed=0)
        >>> drawing.labels("test", 0).ids[:3].tolist()
        [3, 0, 7]
    """

    def __init__(self, shape: "Shape", seed: int) -> None:
        self.shape = shape
        self._seed = seed
        pixels = math.prod(shape.image) if shape.image else 0
        self.block = 4096 if not pixels else max(1, min(4096, (32 << 20) // pixels))
        # A topic has more labels than an example.
        size = max(_LABELS_PER_TOPIC, round(4 * shape.labels_per_example))
        self._topics = max(1, shape.labels // size)
        # How many words a topic and a label prefer: enough for examples as long as these.
        self._topic_words = max(60, round(0.8 * shape.nonzeros))
        self._label_words = max(8, round(0.6 * shape.nonzeros / shape.labels_per_example))

    def labels(self, split: str, number: int) -> Labels:
        """Returns the labels of a block.

        Each label occurs in the training split, as far as there are enough examples: half of these,
        or as many as there are labels, have the next labels in turn.

        Args:
            split: ``"train"``, ``"dev"`` or ``"test"``.
            number: of the block, from 0.
        """
        random = self._random(_SPLITS[split], number, _LABELS_STREAM)
        turns = self._turns(number) if split == "train" or self.shape.skew == 1 else None
        return self._labels(random, self.block, self._label_draws, turns)

    def _labels(
        self,
        random: np.random.Generator,
        count: int,
        draws: float,
        turns: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Labels:
        """Returns the labels of ``count`` examples; ``turns`` are (row, rank) of labels that are
        given.
        """
        shape = self.shape
        topics = (random.random(count) ** shape.skew * self._topics).astype(np.int64)
        sizes = np.ones(count, np.int64)
        if shape.labels_per_example != 1:
            sizes += random.poisson(max(draws - 1, 0), count)
        no_turns = np.zeros(0, np.int64)
        rows, ranks = (no_turns, no_turns) if turns is None else turns
        topics[rows] = ((ranks + 1) * self._topics - 1) // shape.labels
        sizes = np.maximum(sizes - np.bincount(rows, minlength=count), 0)
        more = np.repeat(np.arange(count), sizes)
        first, end = ((topics[more] + place) * shape.labels // self._topics for place in (0, 1))
        inside = random.random(len(more)) ** shape.skew * (end - first)
        rows = np.concatenate([rows, more])
        ranks = np.concatenate([ranks, first + inside.astype(np.int64)])
        keys = np.unique(rows * shape.labels + _scattered(ranks, shape.labels))
        sizes = np.bincount(keys // shape.labels, minlength=count)
        return Labels(bounds_of(sizes), keys % shape.labels, topics)

    def _turns(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of a training block that have the next labels in turn, and the ranks of
        these.
        """
        shape = self.shape
        train = max(self.shape.train, 1)
        each = 1
        turns = train if shape.skew == 1 else min(max(train // 2, 1), shape.labels)
        if shape.labels_per_example != 1:
            most = max(1, round(shape.labels_per_example / 2))
            each = min(-(-shape.labels // turns), most)
        place = number * self.block + np.arange(self.block + 1)
        before = place * turns // train
        rows = np.flatnonzero(np.diff(before))
        ranks = before[rows][:, None] * each + np.arange(each)
        return np.repeat(rows, each), ranks.ravel() % shape.labels

    def words(self, split: str, number: int, labels: Labels) -> Words:
        """Returns the words of a block.

        Args:
            split, number: see ``labels``.
            labels: those of the block.
        """
        random = self._random(_SPLITS[split], number, _FEATURES_STREAM)
        return self._words(random, labels, self._word_draws)

    def _words(self, random: np.random.Generator, labels: Labels, draws: float) -> Words:
        count = len(labels.topics)
        width = self.shape.features
        sizes = np.maximum(1, np.rint(draws * (0.5 + random.random(count)))).astype(np.int64)
        rows = np.repeat(np.arange(count), sizes)
        kind, choice = random.random((2, len(rows)))
        uniform = random.random(len(rows))
        topic = np.flatnonzero(kind < _TOPIC_SHARE)
        which = (choice[topic] * self._topic_words).astype(np.int64)
        uniform[topic] = self._hash(_TOPIC, labels.topics[rows[topic]], which)
        of_labels = np.flatnonzero((kind >= _TOPIC_SHARE) & (kind < _TOPIC_SHARE + _LABELS_SHARE))
        several = np.diff(labels.indptr)[rows[of_labels]]
        of_labels = of_labels[several > 0]
        several = several[several > 0]
        choice = choice[of_labels] * several * self._label_words
        place, which = np.divmod(choice.astype(np.int64), self._label_words)
        uniform[of_labels] = self._hash(
            _LABEL, labels.ids[labels.indptr[rows[of_labels]] + place], which
        )
        # Places 0 .. width - 1 by Zipf's law, from uniform numbers.
        power = 1 - _EXPONENT
        places = (1 + uniform * ((width + 1.0) ** power - 1)) ** (1 / power)
        return Words(bounds_of(sizes), np.minimum(places.astype(np.int64) - 1, width - 1))

    def features(self, words: Words) -> scipy.sparse.csr_matrix:
        """Returns words as tf-idf rows of length 1, float32 (n, features)."""
        count = len(words.indptr) - 1
        width = self.shape.features
        rows = np.repeat(np.arange(count), np.diff(words.indptr))
        keys = rows * width + _scattered(words.places, width)
        keys, times = np.unique(keys, return_counts=True)
        rows, columns = np.divmod(keys, width)
        values = (1 + np.log(times)) * self._idf[columns]
        bounds = bounds_of(np.bincount(rows, minlength=count))
        lengths = np.sqrt(np.add.reduceat(values**2, bounds[:-1]))
        values = (values / lengths[rows]).astype(np.float32)
        return scipy.sparse.csr_matrix((values, columns.astype(np.int32), bounds), (count, width))

    @functools.cached_property
    def _idf(self) -> np.ndarray:
        """By the share of the examples that have a feature, if all are drawn by Zipf's law."""
        width = self.shape.features
        power = 1 - _EXPONENT
        bounds = np.arange(1.0, width + 2) ** power
        share = np.diff(bounds) / (bounds[-1] - 1)
        values = np.maximum(-np.log(-np.expm1(-self._word_draws * share)), 0.05)
        idf = np.empty(width)
        idf[_scattered(np.arange(width), width)] = values
        return idf

    def texts(self, words: Words) -> list[str]:
        """Returns words as texts; repeated until they are as long as the shape's texts."""
        numbers, inverse = np.unique(words.places, return_inverse=True)
        scattered = _scattered(numbers, self.shape.features).tolist()
        if self.shape.characters:
            names = [chr(_FIRST_CHARACTER + number) for number in scattered]
        else:
            names = [word_of(number) for number in scattered]
        written = np.array(names, object)[inverse].tolist()
        longer = max(1.0, self.shape.words / self._word_draws)
        glue = "" if self.shape.characters else " "
        bounds = words.indptr.tolist()
        texts = []
        for start, end in itertools.pairwise(bounds):
            part = written[start:end]
            length = round(len(part) * longer)
            texts.append(glue.join((part * math.ceil(longer))[:length]))
        return texts

    def vectors(self, split: str, number: int, labels: Labels) -> np.ndarray:
        """Returns a vector of each example, float32 (n, features): its class's centre, and
        noise.
        """
        random = self._random(_SPLITS[split], number, _FEATURES_STREAM)
        width = self.shape.features
        noise = np.float32(_NOISE)
        ids, inverse = np.unique(labels.ids, return_inverse=True)
        # Centres are about normal: each value is the sum of four uniform ones.
        mixed = _mixed(self._seed, _LABEL, ids[:, None], np.arange(width))
        sums = mixed.view(np.uint16).reshape(len(ids), width, 4).sum(-1, dtype=np.float32)
        centres = (sums - np.float32(2 * 65535)) / np.float32(65536 / math.sqrt(3))
        vectors = random.standard_normal((self.block, width), np.float32)
        vectors *= noise
        vectors += centres[inverse]
        if self.shape.unit_norm:
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def images(self, split: str, number: int, labels: Labels) -> np.ndarray:
        """Returns an image of each example, uint8 (n, height, width, channels).

        An enlarged pattern of 8 x 8 of its class, shifted, with grain.
        """
        assert self.shape.image is not None, "a set of images"
        height, width, channels = self.shape.image
        random = self._random(_SPLITS[split], number, _FEATURES_STREAM)
        cells = np.arange(_PATTERN * _PATTERN * channels)
        patterns = self._hash(_PIXELS, labels.ids[:, None], cells) * (256 - _GRAIN)
        patterns = patterns.astype(np.uint8).reshape(-1, _PATTERN, _PATTERN, channels)
        grain = random.integers(0, _GRAIN, (self.block, height, width, 1), np.uint8)
        shifts = random.integers(0, [height // 8 + 1, width // 8 + 1], (self.block, 2))
        images = np.empty((self.block, *self.shape.image), np.uint8)
        for number, (down, right) in enumerate(shifts):
            rows = (np.arange(height) + down) * _PATTERN // height % _PATTERN
            columns = (np.arange(width) + right) * _PATTERN // width % _PATTERN
            np.add(patterns[number][rows][:, columns], grain[number], out=images[number])
        return images

    @functools.cached_property
    def _label_draws(self) -> float:
        """How many labels to draw so that, on average, as many are distinct as there should be."""
        wanted = self.shape.labels_per_example

        def distinct(draws: float) -> float:
            random = self._random(_SIZES, 0, _LABELS_STREAM)
            return len(self._labels(random, 2048, draws).ids) / 2048

        return wanted if wanted == 1 else _calibrated(distinct, wanted)

    @functools.cached_property
    def _word_draws(self) -> float:
        """The same of words."""
        random = self._random(_SIZES, 0, _LABELS_STREAM)
        labels = self._labels(random, 256, self._label_draws)

        def distinct(draws: float) -> float:
            random = self._random(_SIZES, 0, _FEATURES_STREAM)
            words = self._words(random, labels, draws)
            rows = np.repeat(np.arange(256), np.diff(words.indptr))
            return len(np.unique(rows * self.shape.features + words.places)) / 256

        return _calibrated(distinct, self.shape.nonzeros)

    def _random(self, *parts: int) -> np.random.Generator:
        sequence = np.random.SeedSequence((self._seed, *parts))
        return np.random.Generator(np.random.SFC64(sequence))

    def _hash(self, kind: int, numbers: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Returns numbers in [0, 1), always the same for the same arguments; float64."""
        return (_mixed(self._seed, kind, numbers, which) >> np.uint64(11)) * 2.0**-53


def word_of(number: int) -> str:
    """Returns the word for a number: its digits to the base 100 as syllables, at least two.

    Example:
        >>> word_of(0), word_of(12_345)
        ('baba', 'begoma')
    """
    syllables: list[str] = []
    while number or len(syllables) < 2:
        number, digit = divmod(number, 100)
        syllables.append(SYLLABLES[digit])
    return "".join(reversed(syllables))


def _calibrated(measure: Callable[[float], float], wanted: float) -> float:
    """Returns the argument with which ``measure`` returns about ``wanted``."""
    draws = wanted
    for _ in range(6):
        draws *= min(2.0, wanted / max(measure(draws), 1e-9))
    return draws


def _scattered(places: np.ndarray, count: int) -> np.ndarray:
    """Returns another order of the numbers below ``count``, so that frequency does not follow from
    it.
    """
    step = max(1, round(count * 0.6180339887))
    while math.gcd(step, count) != 1:
        step += 1
    return (places * step + count // 3) % count


def _mixed(seed: int, kind: int, numbers: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Returns a hash of each, uint64: the last steps of SplitMix64 (Steele et al. 2014)."""
    wide = [np.asarray(part).astype(np.uint64) for part in (numbers, which)]
    start = np.uint64((seed * 0x9E3779B97F4A7C15 + kind * 0xD1B54A32D192ED03) % 2**64)
    mixed = (wide[0] * np.uint64(0xBF58476D1CE4E5B9) + start) ^ np.uint64(0x94D049BB133111EB)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15) + wide[1]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
