"""Sizes of the data sets that configs name, from which stand-ins are drawn."""

import dataclasses
import math

from tfxc.core.errors import ConfigError
from tfxc.core.registry import nearest

# What is left of a set whose share is very small, where it has as much.
LEAST_EXAMPLES = 1024
LEAST_LABELS = 256


@dataclasses.dataclass(frozen=True)
class Shape:
    """How large a data set is, and what its examples look like.

    Attributes:
        train, dev, test: numbers of examples; 0 where there is no such split.
        labels: number of labels.
        labels_per_example: mean.
        features: columns of sparse rows, different words of texts, or length of the vectors.
        nonzeros: mean number of different features of an example.
        words: mean length of a text; 0 for sets without texts.
        characters: whether the words of a text are single characters without spaces.
        image: (height, width, channels) of the images; None for other sets.
        unit_norm: whether vectors have length 1.
        skew: 1 for labels that are all as frequent; with more, a few are the most frequent.
    """

    train: int
    dev: int
    test: int
    labels: int
    labels_per_example: float = 1.0
    features: int = 0
    nonzeros: float = 0.0
    words: float = 0.0
    characters: bool = False
    image: tuple[int, int, int] | None = None
    unit_norm: bool = False
    skew: float = 2.0

    def scaled(self, share: float) -> "Shape":
        """Returns the shape of a part of the set.

        Examples and labels are that share of all, at least 1,024 and 256 where there are as many.
        The different features of sparse rows and texts are its square root: of half as many texts
        the vocabulary is more than half as large (Heaps' law). Examples stay as long as they are,
        vectors and images as large.

        Example:
            >>> SHAPES["amazon670k"].scaled(0.01).labels
            6701
        """
        if share == 1:
            return self
        features = self.features
        if self.nonzeros:
            features = min(features, max(math.ceil(features * share**0.5), int(4 * self.nonzeros)))
        labels = _part(self.labels, share, LEAST_LABELS)
        return dataclasses.replace(
            self,
            train=_part(self.train, share, LEAST_EXAMPLES),
            dev=_part(self.dev, share, LEAST_EXAMPLES),
            test=_part(self.test, share, LEAST_EXAMPLES),
            labels=labels,
            features=features,
        )

    @property
    def forms(self) -> tuple[str, ...]:
        """In what its examples can be read, see ``Synthetic``; the usual one is the first."""
        if self.image is not None:
            return ("images", "files")
        return ("features", "texts", "both") if self.nonzeros else ("vectors",)

    def examples(self, split: str) -> int:
        """Returns the number of examples of a split."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[split]

    def with_examples(self, split: str, number: int) -> "Shape":
        """Returns the shape with another number of examples of a split."""
        sizes = {"train": self.train, "dev": self.dev, "test": self.test, split: number}
        return dataclasses.replace(self, **sizes)  # type: ignore[arg-type]


def _part(count: int, share: float, least: int) -> int:
    return min(count, max(round(count * share), least))


def find_shape(name: str) -> Shape:
    """Returns the shape of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in SHAPES:
        raise ConfigError(
            f"unknown shape {name!r}{nearest(name, SHAPES)}",
            where="shape",
            fix=f"choose one of: {', '.join(SHAPES)}",
        )
    return SHAPES[name]


def _faces(people: int, images: int) -> Shape:
    return Shape(images, 0, 0, people, image=(112, 112, 3), skew=1.3)


def _drawings(classes: int, drawings: tuple[int, int]) -> Shape:
    train, dev = drawings
    return Shape(train * classes, dev * classes, 0, classes, image=(105, 105, 1), skew=1.0)


# The sets of PECOS as in the table of github.com/amzn/pecos, examples/spmm; others as the Extreme
# Classification Repository or their papers have them. Estimates are the lengths of texts that are
# longer than 100 words, and the nonzeros of odp and imagenet22k. Sets that are free are counted.
SHAPES = {
    "amazon3m": Shape(1_717_899, 0, 742_507, 2_812_281, 36.04, 337_067, 49.2, 105),
    "amazon670k": Shape(490_449, 0, 153_025, 670_091, 5.45, 135_909, 75.7, 247),
    "amazoncat13k": Shape(1_186_239, 0, 306_782, 13_330, 5.04, 203_882, 71.2, 246),
    "delicious200k": Shape(196_606, 0, 100_095, 205_443, 75.54, 782_585, 302.0, skew=2.5),
    "eurlex4k": Shape(15_539, 0, 3_809, 3_993, 5.31, 5_000, 236.7),
    "eurlex4k_pecos": Shape(15_449, 0, 3_865, 3_956, 5.32, 186_104, 271.5, 1248),
    "wiki10": Shape(14_146, 0, 6_616, 30_938, 18.64, 101_938, 673.4, 2432, skew=2.5),
    "wiki500k": Shape(1_779_881, 0, 769_421, 501_070, 4.75, 2_381_304, 387.4, 808),
    "odp": Shape(1_084_404, 0, 493_014, 105_033, 1, 422_713, 50.0),
    "imagenet22k": Shape(12_777_062, 0, 1_419_674, 21_841, 1, 6_145, 400.0),
    "bibtex": Shape(4_880, 0, 2_515, 159, 2.38, 1_836, 68.5, skew=1.5),
    "delicious": Shape(12_920, 0, 3_185, 983, 19.05, 500, 18.5),
    "eurlex57k": Shape(45_000, 6_000, 0, 4_108, 5.07, 75_145, 193.3, 602),
    "wn18rr": Shape(103_509, 5_562, 0, 40_559, 1.68, 47_078, 15.3, 17, skew=1.5),
    "clinc150": Shape(15_000, 3_000, 0, 150, 1, 5_055, 8.3, 8.5, skew=1.0),
    "banking77": Shape(10_003, 0, 3_080, 77, 1, 2_341, 11.4, 12.3, skew=1.2),
    "cooking": Shape(12_404, 3_000, 0, 735, 2.31, 7_851, 8.6, 8.8),
    "debian": Shape(44_608, 2_503, 0, 14_639, 3.90, 81_237, 46.6, 68),
    "debtags": Shape(28_935, 1_365, 0, 596, 3.69, 60_308, 47.7, 69),
    "go": Shape(96_746, 5_498, 0, 27_723, 1.00, 14_203, 5.7, 6),
    "genes": Shape(16_582, 2_073, 0, 17_648, 14.45, 63_973, 10.2, 12),
    "icd10cm": Shape(53_145, 1_860, 0, 46_881, 1.00, 9_802, 6.6, 7),
    "revdict": Shape(158_274, 5_000, 0, 88_561, 1.00, 78_604, 12.2, 14),
    "duee": Shape(11_958, 0, 1_498, 65, 1.10, 3_942, 43.8, 57, characters=True, skew=1.5),
    "sentiment": Shape(8_522, 1_477, 0, 2, 1, 2_051, 23.6, 30, characters=True, skew=1.0),
    "apidocs": Shape(18_571, 2_340, 2_241, 5_069, 2.87, 24_998, 28.4, 44),
    "glint360k": Shape(17_051_657, 20_000, 20_000, 360_232, features=512, skew=1.3),
    "treeoflife": Shape(
        9_493_174, 20_000, 20_000, 160_000, features=512, unit_norm=True, skew=2.5
    ),
    "glyph_features": Shape(
        111_561, 13_649, 13_218, 4_184, features=64, unit_norm=True, skew=1.3
    ),
    "omniglot_features": Shape(
        22_722, 4_869, 0, 1_623, features=128, unit_norm=True, skew=1.0
    ),
    "casia": _faces(10_572, 490_623),
    "ms1mv3": _faces(93_431, 5_179_510),
    "webface42m": _faces(2_059_906, 42_474_557),
    "imagenet": Shape(1_281_167, 0, 50_000, 1_000, image=(375, 500, 3), skew=1.0),
    "cifar10": Shape(50_000, 0, 10_000, 10, image=(32, 32, 3), skew=1.0),
    "cifar100": Shape(50_000, 0, 10_000, 100, image=(32, 32, 3), skew=1.0),
    "omniglot": _drawings(1_623, (14, 3)),
    "omniglot_background": _drawings(964, (14, 3)),
    "glyphs": Shape(111_561, 13_649, 13_218, 4_184, image=(32, 32, 1), skew=1.3),
}  # fmt: skip
