"""Whether a converted model answers as the run it was made from."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfxc.core.errors import UserError
from tfxc.data.formats.held_out import open_split
from tfxc.exports.checking import checked_difference, sample_inputs, tolerance_of
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
    raw, features = _samples(loaded_run)
    expected = Searcher(loaded_run.model, k)({"features": features})
    worst, count = 0.0, len(expected[0])
    single = [(place, place + 1) for place in range(count)]
    for first, last in single if batch else [(0, count), (1, 4), *single]:
        found = model(_rows(raw, first, last))
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
        ids, scores = search({"features": tf.nest.map_structure(tf.constant, features)})
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
    except (UserError, StopIteration):  # the file has gone, or is another one
        return _drawn(loaded_run), "random features: the run's data is not there"

    encoder = loaded_run.model.encoder

    def batches(size):
        for first in range(0, len(rows), size):
            features = rows.slice(first, min(first + size, len(rows))).batch()["features"]
            features = encoder.own(features)
            yield _arguments(features, encoder.takes), features

    return batches, f"the first of {split} data {sources[split]}"


def _samples(loaded_run):
    """Arguments of the converted model as arrays, and the run's features of the same examples."""
    inputs, features = sample_inputs(loaded_run)
    encoder, raw = loaded_run.model.encoder, inputs.get("features", inputs["serving_default"])
    own = encoder.own(raw)  # of joined features, and of tokens, the tokens alone
    own = own if isinstance(own, dict) else {"tokens": own}
    return {name: tensor.numpy() for name, tensor in own.items()}, encoder.own(features)


def _drawn(loaded_run):
    raw, features = _samples(loaded_run)
    whole = features if isinstance(features, dict) else {"all": features}
    whole = {name: np.asarray(values) for name, values in whole.items()}
    count = len(raw["row_splits"]) - 1 if "row_splits" in raw else len(next(iter(raw.values())))

    def batches(size):
        for first in range(0, count, size):
            last = min(first + size, count)
            part = _rows(whole, first, last)
            yield _rows(raw, first, last), part.get("all", part)

    return batches


def _arguments(features, kind):
    if isinstance(features, dict):
        return {name: np.asarray(values) for name, values in features.items()}
    name = {"dense": "features", "image": "images"}.get(kind, kind)
    return {name: np.asarray(features)}


def _rows(arguments, first, last):
    """The arguments for some of the examples; texts are cut to the longest of these."""
    if "row_splits" in arguments:
        splits = arguments["row_splits"][first : last + 1]
        values = slice(splits[0], splits[-1])
        own = {name: arguments[name][values] for name in ("ids", "weights")}
        return {**own, "row_splits": splits - splits[0]}
    own = {name: values[first:last] for name, values in arguments.items()}
    if "tokens" in own:
        longest = int((own["tokens"] != 0).sum(axis=1).max())
        own["tokens"] = own["tokens"][:, : max(1, longest)]
    return own
