"""Metrics of predictions in a sparse matrix, whoever made it, such as those that PECOS writes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.core.progress import Progress
from tfxc.data.lists import pad_labels
from tfxc.labels.label_matrix import label_matrix
from tfxc.metrics.ranking import RecallOfAll
from tfxc.metrics.suite import MetricSuite, build_metrics
from tfxc.ops.csr import load_sparse, summed_entries

_BATCH = 65_536

#: Cut-offs of ``pecos.xmc.xlinear.evaluate``.
KS = tuple(range(1, 11))


def ranked(matrix: scipy.sparse.csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k entries of greatest value of each row, whatever their order in the matrix.

    Args:
        matrix: CSR (n, num_labels), without an entry twice; explicit zeros count as entries.
        k: at least 1.

    Returns:
        ids int32 and scores float32 (n, k), by descending score, then ascending id; where a row has
        fewer entries, the rest is id −1 with score minus infinity.

    Example:
        >>> ranked(scipy.sparse.csr_matrix([[0.0, -0.5, 2.0], [0.0, 0.0, 0.0]]), 2)[0].tolist()
        [[2, 1], [-1, -1]]
    """
    counts = np.diff(matrix.indptr)
    rows = np.repeat(np.arange(len(counts)), counts)
    # Unsigned integers and booleans have no negative.
    order = np.lexsort((matrix.indices, -matrix.data.astype(np.float64), rows))
    ranks = np.arange(len(rows)) - matrix.indptr[rows]
    kept = ranks < k
    ids = np.full((len(counts), k), -1, np.int32)
    scores = np.full((len(counts), k), -np.inf, np.float32)
    places, kept_order = (rows[kept], ranks[kept]), order[kept]
    ids[places], scores[places] = matrix.indices[kept_order], matrix.data[kept_order]
    return ids, scores


def measure_predictions(
    predictions: str | Path,
    truth: str | Path,
    *,
    ks: Sequence[int] = KS,
    train_labels: str | Path | None = None,
    propensity: str | Sequence[float] = "default",
) -> tuple[MetricSuite, dict[str, np.ndarray]]:
    """Metrics of a matrix of predictions against the true labels.

    Args:
        predictions: ``.npz`` of a sparse matrix (n, num_labels); its entries are the scores of the
            predicted labels, in any order, those of 0 and below too.
        truth: the same of the labels; entries above 0 are true, see ``label_matrix``.
        ks: cut-offs.
        train_labels: the same of the training examples (any number of rows): how frequent the
            labels are, for propensity-scored metrics, slices and coverage; None for none of these.
        propensity: see ``tfxc.metrics.suite.build_metrics``.

    Returns:
        ``MetricSuite``, and {name: per-example values}.

    Raises:
        DataError: a file is missing or damaged, its shape does not fit, there is no row, or an
            entry is NaN, infinite or, of labels, −1.
        ConfigError: the cut-offs or the propensity are not allowed.

    Example:
        >>> suite, values = measure_predictions("P.npz", "Y.tst.npz")    # doctest: +SKIP
        >>> round(100 * suite.result()["P@1"], 2)    # doctest: +SKIP
        84.36
    """
    scores = summed_entries(load_sparse(predictions), predictions)
    labels = label_matrix(load_sparse(truth), truth)
    _check_shape(scores.shape == labels.shape, scores, labels, predictions, truth)
    if not scores.shape[0]:
        raise DataError(
            "at least one row expected, found none",
            where=predictions,
            fix="give a matrix with a row for each example",
        )
    counts = rows = None
    if train_labels is not None:
        train = label_matrix(load_sparse(train_labels), train_labels)
        fits = train.shape[1] == labels.shape[1]
        _check_shape(fits, train, labels, train_labels, truth)
        counts, rows = np.bincount(train.indices, minlength=train.shape[1]), train.shape[0]
    plain = build_metrics(ks, counts, rows, propensity)
    suite = MetricSuite([*plain.metrics, RecallOfAll(ks)])
    parts = []
    for batch in _batches(scores, labels, max(ks)):
        suite.update(*batch)
        parts.append(suite.per_example(*batch))
    return suite, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _batches(scores, labels, k) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields ids, scores and labels, see ``tfxc.metrics.base``."""
    with Progress("evaluating", scores.shape[0], "examples") as progress:
        for start in range(0, scores.shape[0], _BATCH):
            some = labels[start : start + _BATCH]
            yield *ranked(scores[start : start + _BATCH], k), pad_labels(some.indptr, some.indices)
            progress.advance(some.shape[0])


def _check_shape(fits, matrix, truth, path, where_truth):
    if fits:
        return
    raise DataError(
        f"{'the shape' if matrix.shape[1] == truth.shape[1] else 'as many columns'} of "
        f"{where_truth} expected, {_shown(truth)}, found {_shown(matrix)}",
        where=path,
        fix="give matrices with a column for each label, in the same order, and a row for each "
        "example",
    )


def _shown(matrix):
    return f"{matrix.shape[0]:,} x {matrix.shape[1]:,}"
