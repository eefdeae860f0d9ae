"""Combines the best labels that several models found for the same examples.

The ways and their values are those of PECOS's ensembles, used for the published XR-Transformers
(Zhang et al., NeurIPS 2021, arXiv 2110.00685), but for ``average``: a label that a model does not
list never counts more there than a listed one, whatever the scores' sign.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import scipy.sparse

from tfxc.core.cli import ENSEMBLES
from tfxc.core.declared import check_choice
from tfxc.core.errors import ConfigError, DataError
from tfxc.ranker.fusion.fused_numpy import ordered_lists
from tfxc.ranker.fusion.trees import ListTrees

#: Lists of a model: ids and scores (N, k), or a CSR matrix (N, L) of scores.
Prediction: TypeAlias = tuple[np.ndarray, np.ndarray] | scipy.sparse.csr_matrix


def combine(
    predictions: Sequence[Prediction],
    method: str | ListTrees = "average",
    k: int | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Combines top-k lists.

    Args:
        predictions: one entry per model: ``(ids, scores)`` of shape (N, k), ids padded with −1,
            or a CSR matrix (N, L) of scores. Lists are ranked by score, at equal scores in the
            given order. Lengths may differ.
        method: what a model gives a label, and what it gives one it does not list;
            ``average``: the score, and the lowest listed score of that model for that example;
            ``rank_average``: the longest list's length minus the rank (0 is best), and 0;
            ``sigmoid_average``: the sigmoid of the score, and 0;
            ``softmax_average``: the softmax over the list, and 0; the mean over the models is
            taken of all these. ``round_robin`` takes the best of every model in turn, then the
            second of every model, and so on: the greatest over the models of
            ``(length − rank + (n − i) / (n + 1)) / n`` for model i of n, and 0. Or trees that have
            been fitted to such lists of ids and scores, which give each label a score.
        k: labels to keep; None keeps all that any model lists.
        weights: one per model, of which the mean takes account; None weights all alike. Not of
            ``round_robin``.

    Returns:
        ids int32 and scores float32 (N, k), by descending score; at equal scores the label that
        more models list comes first, then the lower id. Short rows end in id −1 with score minus
        infinity. The inputs are not changed.

    Raises:
        ConfigError: an unknown method, no model, k below 1, impossible weights.
        DataError: other numbers of examples, NaN, infinity, or a label twice in a list.

    Example:
        >>> one = np.array([[3, 5]]), np.array([[-0.5, -2.0]])
        >>> other = np.array([[5, 3]]), np.array([[0.5, 0.25]])
        >>> ids, scores = combine([one, other])
        >>> ids.tolist(), scores.tolist()
        ([[3, 5]], [[-0.125, -0.75]])
    """
    if isinstance(method, ListTrees):
        return method(predictions, k)
    check_choice("method", method, ENSEMBLES)
    if not predictions:
        raise ConfigError("there is no model to combine", fix="give at least one")
    if k is not None and k < 1:
        raise ConfigError(f"{k} is less than 1", where="k", fix="give 1 or more")
    shares = check_weights(weights, method, len(predictions))
    lists = [_Lists(prediction, number) for number, prediction in enumerate(predictions)]
    examples = lists[0].examples
    for number, model in enumerate(lists):
        if model.examples != examples:
            raise DataError(
                f"has predictions for {model.examples} examples, but model 0 for {examples}",
                where=f"model {number}",
            )
    rows = np.concatenate([model.rows for model in lists])
    labels = np.concatenate([model.labels for model in lists])
    num_labels = int(labels.max(initial=0)) + 1
    keys, places = np.unique(rows * num_labels + labels, return_inverse=True)
    rows = keys // num_labels
    labels = keys % num_labels
    listed = np.bincount(places, minlength=len(keys))
    scores = _scores(lists, method, shares, places, rows)
    order = np.lexsort((labels, -listed, -scores, rows))
    k = int(np.bincount(rows).max(initial=0)) if k is None else k
    return ordered_lists(rows[order], labels[order], scores[order], examples, k)


def label_map(names: Sequence[str], first: Sequence[str], where: str) -> np.ndarray:
    """Finds, for each label id of a model, the id of the same name in the first one.

    Args:
        names: the model's label names, by id.
        first: those of the first model.
        where: the model, for the message.

    Returns:
        int32 (labels,).

    Raises:
        ConfigError: their labels are not the same.

    Example:
        >>> label_map(["b", "a"], ["a", "b"], "other").tolist()
        [1, 0]
    """
    number = {name: place for place, name in enumerate(first)}
    unknown = [name for name in names if name not in number]
    if unknown or len(names) != len(number):
        raise ConfigError(
            f"its {len(names):,} labels are not the {len(number):,} of the first run"
            + (f", which has no {unknown[0]!r}" if unknown else ""),
            where=where,
            fix="combine runs that were trained on the same labels",
        )
    return np.array([number[name] for name in names], np.int32)


class _Lists:
    """One model's lists, flat and ranked: rows, labels, scores, ranks, and lengths by row."""

    def __init__(self, prediction: Prediction, number: int) -> None:
        where = f"model {number}"
        if scipy.sparse.issparse(prediction):
            matrix = scipy.sparse.csr_matrix(prediction)
            self.examples = matrix.shape[0]
            rows = np.repeat(np.arange(self.examples), np.diff(matrix.indptr))
            labels = matrix.indices.astype(np.int64)
            scores = matrix.data
        else:
            ids, scores = (np.asarray(array) for array in prediction)
            if ids.ndim != 2 or ids.shape != scores.shape:
                raise DataError(
                    f"the shapes of ids and scores, {ids.shape} and {scores.shape}, are not both "
                    "(examples, k)",
                    where=where,
                )
            self.examples = len(ids)
            rows, columns = np.nonzero(ids >= 0)
            labels = ids[rows, columns].astype(np.int64)
            scores = scores[rows, columns]
        scores = scores.astype(np.float64)
        if not np.isfinite(scores).all():
            raise DataError("a score is NaN or infinite", where=where)
        order = np.lexsort((-scores, rows))
        self.rows = rows
        self.labels = labels[order]
        self.scores = scores[order]
        self.lengths = np.bincount(rows, minlength=self.examples)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.ranks = np.arange(len(rows)) - np.repeat(self.starts, self.lengths)
        by_label = np.lexsort((self.labels, rows))
        again = (np.diff(rows) == 0) & (np.diff(self.labels[by_label]) == 0)
        if again.any():
            label = self.labels[by_label][1:][again][0]
            raise DataError(
                f"label {label} occurs twice in the list of example {rows[1:][again][0]}",
                where=where,
            )

    def row_sums(self, values: np.ndarray) -> np.ndarray:
        """Returns the sum of one value per entry over every row."""
        return np.bincount(self.rows, values, minlength=self.examples)

    def lowest(self) -> np.ndarray:
        """Returns the lowest score of every row; 0 where the list is empty."""
        last = np.zeros(self.examples)
        filled = self.lengths > 0
        last[filled] = self.scores[(self.starts + self.lengths - 1)[filled]]
        return last


def check_weights(
    weights: Sequence[float] | np.ndarray | None, method: str | ListTrees, count: int
) -> np.ndarray | None:
    """Returns the weights of ``count`` models as shares of 1; None if all are alike.

    Raises:
        ConfigError: ``method`` takes no mean, or the weights are not a number of at least 0 for
            each model, with one above 0 among them.

    Example:
        >>> check_weights([3, 1], "average", 2)
        array([0.75, 0.25])
    """
    if weights is None:
        return None
    weights = np.asarray(weights, np.float64)
    if method == "round_robin":
        raise ConfigError(
            "the method round_robin does not average scores, so weights do not apply",
            where="weights",
            fix="leave the weights out, or choose another method",
        )
    if weights.shape != (count,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ConfigError(
            f"{weights.tolist()} is not a number of at least 0 for each of {count} models",
            where="weights",
        )
    if not weights.any():
        raise ConfigError("all are 0", where="weights", fix="give at least one above 0")
    return weights / weights.sum()


def _scores(
    lists: list[_Lists],
    method: str,
    shares: np.ndarray | None,
    places: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    """Combines the scores of every (row, label) that is listed; ``places`` are the entries'."""
    longest = max((int(model.lengths.max(initial=0)) for model in lists), default=0)
    if method == "round_robin":
        count = len(lists)
        values = [
            (longest - model.ranks + (count - number) / (count + 1)) / count
            for number, model in enumerate(lists)
        ]
        scores = np.zeros(len(rows))
        np.maximum.at(scores, places, np.concatenate(values))
        return scores
    missing = np.zeros(lists[0].examples)  # what a label in no list would have
    values = []
    for number, model in enumerate(lists):
        value = _values(model, method, longest)
        share = 1.0 if shares is None else shares[number]
        if method == "average":
            lowest = model.lowest()
            missing += share * lowest
            value = value - lowest[model.rows]
        values.append(share * value)
    total = np.bincount(places, np.concatenate(values), minlength=len(rows))
    return (missing[rows] + total) / (len(lists) if shares is None else 1)


def _values(model: _Lists, method: str, longest: int) -> np.ndarray:
    if method == "average":
        return model.scores
    if method == "rank_average":
        return (longest - model.ranks).astype(np.float64)
    if method == "sigmoid_average":
        small = np.exp(-np.abs(model.scores))
        return np.where(model.scores < 0, small, 1) / (1 + small)
    best = np.zeros(model.examples)
    best[model.lengths > 0] = model.scores[model.starts[model.lengths > 0]]
    powers = np.exp(model.scores - best[model.rows])
    return powers / model.row_sums(powers)[model.rows]
