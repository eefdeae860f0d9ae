"""Whether a converted model answers as the run it was made from."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfxc.core.errors import UserError
from tfxc.data.held_out import open_split
from tfxc.data.kinds import KINDS
from tfxc.exports.checking import checked_difference, sample_rows, scaled, tolerance_of
from tfxc.inference.searcher import Searcher

_EXAMPLES, _BATCH = 512, 64


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


def largest_difference(loaded_run, model, k, batch=None):
    """Largest difference of a score of a converted model, over batches of several sizes.

    Args:
        loaded_run: a ``LoadedRun``.
        model: function of a dict of arrays -> (ids, scores) as arrays.
        k: labels per example.
        batch: 1 if the model takes single examples only.

    Raises:
        RuntimeError: it is no rounding difference, or the label ids differ.
    """
    rows, _ = sample_rows(loaded_run)
    features = scaled(rows, loaded_run.manifest).batch()["features"]
    expected = Searcher(loaded_run.model, k)(_batch(features))
    worst, count, encoder = 0.0, len(rows), loaded_run.model.encoder
    single = [(place, place + 1) for place in range(count)]
    for first, last in single if batch else [(0, count), (1, 4), *single]:
        found = model(_arguments(rows.slice(first, last).batch()["features"], encoder))
        known = tuple(part[first:last] for part in expected)
        what = f"the converted model, asked for {last - first} examples,"
        difference = checked_difference(found, known, tolerance_of(loaded_run), what)
        worst = max(worst, difference)
    return worst


def agreement_of(loaded_run, model, k, batch=None):
    """``Agreement`` of a quantised model on the run's dev data, see ``largest_difference``.

    Where the run has no dev split, its training file is read; where that is missing, features are
    drawn at random.
    """
    rows, source = examples_of(loaded_run)
    search = Searcher(loaded_run.model, k)
    same, count, worst = 0, 0, 0.0
    for raw, features in rows(batch or _BATCH):
        ids, scores = search(_batch(features))
        found_ids, found = model(raw)
        same += int((found_ids[:, 0] == ids[:, 0]).sum())
        count += len(ids)
        worst = max(worst, float(np.abs(found - scores).max()))
    return Agreement(same / count, count, source, worst)


def examples_of(loaded_run):
    """Examples of a run's own data, as ``agreement_of`` takes them.

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
        found = f"the first of {split} data {sources[split]}"
    except (UserError, StopIteration):  # the file has gone, or is another one
        rows = scaled(sample_rows(loaded_run)[0], loaded_run.manifest)
        found = "random features: the run's data is not there"
    encoder = loaded_run.model.encoder

    def batches(size):
        for first in range(0, len(rows), size):
            features = rows.slice(first, first + size).batch()["features"]
            yield _arguments(features, encoder), features

    return batches, found


def _batch(features):
    return {"features": tf.nest.map_structure(tf.constant, features)}


def _arguments(features, encoder):
    """The arguments of a converted model: the part of the features that the encoder takes."""
    return KINDS[encoder.takes].unpack(encoder.own(features))
