"""Whether an exported model answers as the run it was made from: a SavedModel, a converted one."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse

from tfxc.core.errors import UserError
from tfxc.data.examples.kinds import DENSE, ENCODED, IMAGE, KINDS, SPARSE, TEXT
from tfxc.data.examples.rows import Rows
from tfxc.data.reading.held_out import open_split
from tfxc.data.text.registry import given_terms
from tfxc.inference.protocol import RankerModel
from tfxc.inference.searcher import Searcher

if TYPE_CHECKING:
    from tfxc.decision.calibration import Calibration
    from tfxc.model import XCModel
    from tfxc.runs.loaded import LoadedRun


# Of scores, relative to the largest one. In half precision a last bit of a feature may tip the
# rounding of a hidden unit, and in a memory a branch of one of a hundred trees.
_TOLERANCE = 1e-4
_TIPPING_TOLERANCE = 2e-2
# Of a probability, in addition to what the tolerance of its score allows.
_CALIBRATED_TOLERANCE = 1e-6
_ODDS_TOLERANCE = 1e-5  # of log-odds in single precision, which are 12 at most or so
_SMALLEST = 1e-30  # probabilities below count as equal
_SAMPLES = 8
_EXAMPLES = 512
_BATCH = 64


class Expected:
    """What a run's model answers to some examples; an exported model has to answer the same.

    The model is not needed any more once this is made.

    Args:
        loaded_run: a ``LoadedRun``.
        k: labels per example.
        probabilities: whether the exported model's scores are probabilities. Calibrated ones may
            differ by what a rounding difference of the ranker's score makes of them, others
            relative to themselves.
    """

    def __init__(self, loaded_run: "LoadedRun", k: int, probabilities: bool = False) -> None:
        self._run = loaded_run
        self._rows, self._texts = sample_rows(loaded_run)
        model = loaded_run.model
        self._tolerance = tolerance_of(loaded_run)
        self._calibration = model.decision.calibration if probabilities else None
        self._relative = probabilities and self._calibration is None
        features = scaled(self._rows, loaded_run.manifest).batch()["features"]
        search = Searcher(model, k, probabilities=self._relative)
        self._values = search({"features": features})

    def largest_difference(self, answers: Callable[..., Iterator[Any]]) -> float:
        """Returns the largest difference of a score of an exported model to the run's model.

        Args:
            answers: of the exported model, ``outputs_of_savedmodel`` or ``outputs_of_function``: a
                function of the run, ``Rows`` and the texts they were made of or None, which yields
                what was asked, for the message, which rows, a slice, and NumPy (ids, scores).

        Raises:
            RuntimeError: it is not a rounding difference, or the label ids differ: a bug.
        """
        worst = 0.0
        for question, part, (ids, scores) in answers(self._run, self._rows, self._texts):
            right_ids, right = (values[part] for values in self._values)
            if self._relative:  # of logarithms it is no smaller than that of the probabilities
                # NaN stays NaN.
                scores = np.log(np.maximum(scores, _SMALLEST))
                right = np.log(np.maximum(right, _SMALLEST))
            difference = checked_difference(
                (ids, scores), (right_ids, right), self._tolerance, question, self._calibration
            )
            worst = max(worst, difference)
        return worst


def outputs_of_savedmodel(folder: str | Path) -> Callable[..., Iterator[Any]]:
    """Returns the ``answers`` of the SavedModel in ``folder``: of all examples, by every
    signature.
    """

    def answers(
        loaded_run: "LoadedRun", rows: Rows, texts: list[str] | None
    ) -> Iterator[tuple[str, slice, tuple[np.ndarray, np.ndarray]]]:
        import tensorflow as tf

        signatures = tf.saved_model.load(str(folder)).signatures
        features = tf.nest.map_structure(tf.constant, rows.kind.tensors_of(rows.arrays))
        inputs = {"serving_default": features}
        if rows.kind is IMAGE:  # PNG files lose nothing: the same pixels reach both signatures
            files = [tf.io.encode_png(image).numpy() for image in rows.images]
            inputs["encoded"] = {ENCODED.inputs[0]: tf.constant(files)}
        else:
            inputs["features"] = features
        if texts is not None:
            inputs["serving_default"] = {TEXT.name: tf.constant(texts)}
            if given_terms(loaded_run.text_features) is not None:
                inputs["serving_default"] |= {name: features[name] for name in SPARSE.inputs}
        for name, arguments in inputs.items():
            outputs = signatures[name](**arguments)
            answer = (outputs["ids"].numpy(), outputs["scores"].numpy())
            yield f"the SavedModel's signature {name!r}", slice(None), answer

    return answers


def outputs_of_function(
    model: Callable[..., Any], batch: int | None = None
) -> Callable[..., Iterator[Any]]:
    """Returns the ``answers`` of a converted model, over batches of several sizes.

    Args:
        model: function of a dict of arrays -> (ids, scores) as arrays.
        batch: 1 if the model reads single examples only.
    """

    def answers(
        loaded_run: "LoadedRun", rows: Rows, _texts: list[str] | None
    ) -> Iterator[tuple[str, slice, tuple[np.ndarray, np.ndarray]]]:
        count = len(rows)
        single = [(place, place + 1) for place in range(count)]
        for first, last in single if batch else [(0, count), (1, 4), *single]:
            features = rows.slice(first, last).batch()["features"]
            answer = model(_arguments(features, loaded_run.model))
            question = f"the converted model, asked for {last - first} examples,"
            yield question, slice(first, last), answer

    return answers


def tolerance_of(loaded_run: "LoadedRun") -> float:
    """Returns the largest difference of a score that counts as rounding, relative to the largest
    score.
    """
    model = loaded_run.model
    tips = isinstance(model, RankerModel) and model.memory is not None
    exact = loaded_run.config.training.precision == "float32" and not tips
    return _TOLERANCE if exact else _TIPPING_TOLERANCE


def _largest_difference(scores: np.ndarray, right: np.ndarray) -> float:
    """Returns the largest difference of scores; where both lists have ended there is none."""
    with np.errstate(invalid="ignore"):
        return float(np.where(scores == right, 0, np.abs(scores - right)).max())


def _with_rounded_odds(calibration: "Calibration") -> list["Calibration"]:
    """Returns a calibration, and with log-odds that rounding has made smaller or larger."""
    if calibration.weights is None:
        return [calibration]
    return [
        dataclasses.replace(calibration, weights=np.add(calibration.weights, [move, 0, 0, 0]))
        for move in (-_ODDS_TOLERANCE, 0, _ODDS_TOLERANCE)
    ]


def checked_difference(
    answer: tuple[np.ndarray, np.ndarray],
    reference: tuple[np.ndarray, np.ndarray],
    tolerance: float,
    question: str,
    calibration: "Calibration | None" = None,
) -> float:
    """Returns the largest difference of an exported model's scores to those of the run's model.

    Args:
        answer: NumPy (ids, scores) of the exported model, both (batch, k).
        reference: the same of the run's model.
        tolerance: see ``tolerance_of``.
        question: what was asked, for the message.
        calibration: ``Calibration``, if the exported model's scores are its probabilities of those
            of the run's model.

    Raises:
        RuntimeError: it is not a rounding difference, or ids differ whose scores are not a tie.
    """
    ids, scores = answer
    right_ids, raw = reference
    right = raw if calibration is None else calibration(raw)
    difference = _largest_difference(scores, right)
    with np.errstate(invalid="ignore"):
        gaps = np.abs(np.diff(raw, axis=1, append=-np.inf))  # the last may tie with the next
    finite = np.abs(raw[np.isfinite(raw)])  # lists may be short
    tolerance *= max(1.0, float(finite.max(initial=0)))
    close = np.minimum(gaps, np.roll(gaps, 1, axis=1)) <= tolerance
    close[:, -1] = True
    least = right
    most = right
    if calibration is not None:  # where its map is steep, rounding moves a probability far
        places = np.arange(raw.shape[1])
        either_way = (-tolerance, 0, tolerance)  # the label's own score, and the best of the list
        moved = [
            near.at(raw + own, places, raw[:, :1] + best)
            for near in _with_rounded_odds(calibration)
            for own, best in itertools.product(either_way, repeat=2)
        ]
        least = np.minimum.reduce(moved)
        most = np.maximum.reduce(moved)
        tolerance = _CALIBRATED_TOLERANCE
    # Not NaN either, which no comparison holds for.
    within = (scores >= least - tolerance) & (scores <= most + tolerance)
    if not within.all() or ((ids != right_ids) & ~close).any():
        raise RuntimeError(
            f"{question} does not match the trained model: scores "
            f"differ by up to {difference:g}, ids {ids[:2].tolist()} instead of "
            f"{right_ids[:2].tolist()}"
        )
    return difference


def sample_rows(loaded_run: "LoadedRun") -> tuple[Rows, list[str] | None]:
    """Returns random examples as the run's data are, except the scaling of rows.

    Args:
        loaded_run: a ``LoadedRun``.

    Returns:
        tuple: ``Rows``; the texts they were made of, or None.
    """
    kind = loaded_run.kind
    manifest = loaded_run.manifest
    draw = np.random.default_rng(0)
    features: Any = loaded_run.text_features
    width = manifest["num_features"]
    texts = None
    if features is None:
        arrays = kind.example(manifest, _SAMPLES, draw)
    else:
        parts = [getattr(features, name) for name in features.kind.components] or [features]
        terms = [term for part in parts for term in part.vocabulary() or ()]
        terms = terms or ["The", "quick", "brown", "fox", "jumps", "Über", "Straße"]
        texts = [" ".join(draw.choice(terms, 12)) for _ in range(_SAMPLES)]
        texts += [texts[0].upper(), "", "İstanbul, ΟΔΟΣ: naïve 日本語 x"]
        if given_terms(features) is None:
            arrays = kind.arrays_of(features.transform(texts))
        else:
            random = SPARSE.example(manifest, len(texts), draw)
            csr = (random["values"], random["indices"], random["indptr"])
            matrix = scipy.sparse.csr_matrix(csr, (len(texts), width))
            arrays = kind.arrays_of(features.transform(texts, features=matrix))
    count = kind.columns[0].count(arrays)
    unlabelled: dict[str, Any] = {"label_indptr": np.zeros(count + 1), "label_ids": []}
    return Rows(kind, arrays, **unlabelled, num_features=width), texts


def scaled(rows: Rows, manifest: Mapping[str, Any]) -> Rows:
    """Returns ``Rows`` as the run's model takes them: an independent path, through SciPy."""
    if manifest["row_normalise"] is None:
        return rows
    matrix = rows.kind.matrix(rows.batch()["features"], rows.num_features)
    lengths = np.sqrt(scipy.sparse.csr_matrix(matrix).power(2).sum(axis=1).A1)
    scaling = scipy.sparse.diags(1 / np.where(lengths > 0, lengths, 1), dtype=np.float32)
    arrays = rows.kind.arrays_of(scaling @ matrix)
    return Rows(rows.kind, arrays, **rows.labels, num_features=rows.num_features)


class Agreement(NamedTuple):
    """How often a quantised model has the same best label as the run's own.

    Attributes:
        share: of the examples.
        examples: how many were compared.
        source: where they are from.
        score_difference: largest difference of the scores of a rank.
    """

    share: float
    examples: int
    source: str
    score_difference: float


def agreement_of(
    loaded_run: "LoadedRun",
    model: Callable[..., Any],
    k: int,
    batch: int | None = None,
    probabilities: bool = False,
) -> "Agreement":
    """Returns the ``Agreement`` of a quantised model on the run's dev data, see
    ``largest_difference``.

    Where the run has no dev split, its training file is read; where that is missing, features are
    drawn at random.
    """
    batches, source = examples_of(loaded_run)
    search = Searcher(loaded_run.model, k, probabilities=probabilities)
    same = 0
    count = 0
    worst = 0.0
    for arguments, features in batches(batch or _BATCH):
        right_ids, right = search({"features": features})
        ids, scores = model(arguments)
        same += int((ids[:, 0] == right_ids[:, 0]).sum())
        count += len(ids)
        worst = max(worst, _largest_difference(scores, right))
    return Agreement(same / count, count, source, worst)


def examples_of(loaded_run: "LoadedRun") -> tuple[Callable[[int], Iterator[Any]], str]:
    """Returns the examples of a run's own data, as ``agreement_of`` takes them.

    Args:
        loaded_run: a ``LoadedRun``.

    Returns:
        Function of a batch size -> iterator of pairs: the arguments of a converted model, and the
        features of the run's; and where the examples are from, in words.
    """
    data = loaded_run.config.data
    sources = data.sources()
    split = "dev" if "dev" in sources else "train"
    try:
        reader = open_split(data, split)
        rows = next(iter(loaded_run.rows(reader, size=_EXAMPLES)))
        source = f"the first of {split} data {sources[split]}"
    except (UserError, StopIteration):  # the file has gone, or is another one
        rows = scaled(sample_rows(loaded_run)[0], loaded_run.manifest)
        source = "random features: the run's data is not there"

    def batches(size: int) -> Iterator[Any]:
        for first in range(0, len(rows), size):
            features = rows.slice(first, first + size).batch()["features"]
            yield _arguments(features, loaded_run.model), features

    return batches, source


def _arguments(
    features: Mapping[str, Any] | np.ndarray, model: "XCModel | RankerModel"
) -> dict[str, np.ndarray]:
    """The arguments of a converted model: the part of the features that it reads."""
    if isinstance(model, RankerModel):
        kind = DENSE if isinstance(features, np.ndarray) else SPARSE
        return kind.unpack(kind.select_features(features))
    encoder = model.encoder
    return KINDS[encoder.input_kind].unpack(encoder.select_features(features))
