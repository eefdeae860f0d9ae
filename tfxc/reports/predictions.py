"""Metrics of predictions in a file, whoever wrote it: a matrix, as PECOS writes it, or a table."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.core.progress import Progress
from tfxc.data.examples.lists import pad_labels
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.inspection.contents import options_of
from tfxc.data.reading.parsing.column_guess import Wanted
from tfxc.inference.prediction_files import ListedLabels, read_predictions
from tfxc.labels.label_matrix import label_matrix
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.metrics.ranking import RecallOfAll
from tfxc.metrics.suite import MetricSuite, build_metrics
from tfxc.ops.csr import bounds_of, load_sparse

_BATCH = 65_536

#: Cut-offs of ``pecos.xmc.xlinear.evaluate``.
KS = tuple(range(1, 11))


def ranked(
    matrix: scipy.sparse.csr_matrix, k: int, in_order: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k entries of greatest value of each row.

    Args:
        matrix: CSR (n, num_labels), without an entry twice; explicit zeros count as entries.
        k: at least 1.
        in_order: whether of equal values the one that is stored first comes first; else the one
            with the lowest column does, whatever the order in the matrix.

    Returns:
        ids int32 and scores float32 (n, k), by descending score; where a row has fewer entries, the
        rest is id −1 with score minus infinity.

    Example:
        >>> ranked(scipy.sparse.csr_matrix([[0.0, -0.5, 2.0], [0.0, 0.0, 0.0]]), 2)[0].tolist()
        [[2, 1], [-1, -1]]
    """
    counts = np.diff(matrix.indptr)
    rows = np.repeat(np.arange(len(counts)), counts)
    ties = np.arange(len(rows)) if in_order else matrix.indices
    # Unsigned integers and booleans have no negative.
    order = np.lexsort((ties, -matrix.data.astype(np.float64), rows))
    ranks = np.arange(len(rows)) - matrix.indptr[rows]
    first = ranks < k
    ids = np.full((len(counts), k), -1, np.int32)
    scores = np.full((len(counts), k), -np.inf, np.float32)
    places = (rows[first], ranks[first])
    entries = order[first]
    ids[places] = matrix.indices[entries]
    scores[places] = matrix.data[entries]
    return ids, scores


def measure_predictions(
    predictions: str | Path,
    truth: str | Path,
    *,
    ks: Sequence[int] = KS,
    train_labels: str | Path | None = None,
    propensity: str | Sequence[float] = "default",
    label_names: str | Path | None = None,
    reader: str | None = None,
    reader_options: Mapping[str, Any] | None = None,
) -> tuple[MetricSuite, dict[str, np.ndarray]]:
    """Returns metrics of a file of predictions against the true labels.

    Args:
        predictions: see ``read_predictions``; entries of a matrix are the scores of the predicted
            labels, in any order, those of 0 and below too.
        truth: ``.npz`` of a sparse matrix (n, num_labels), see ``label_matrix``, or any readable
            data file with labels.
        ks: cut-offs.
        train_labels: the same of the training examples (any number of rows): how frequent the
            labels are, for propensity-scored metrics, slices and coverage; None for none of these.
        propensity: see ``tfxc.metrics.suite.build_metrics``.
        label_names: file of the names of a matrix's columns, one per line, where other files name
            labels; None numbers them from 0.
        reader, reader_options: format of data files, and options of their reader; None recognises
            them.

    Returns:
        ``MetricSuite``, and {name: per-example values}.

    Raises:
        DataError: a file is missing or damaged, its shape does not fit, there is no row, an entry
            is NaN, infinite or, of labels, −1, or a label that is named has no column.
        ConfigError: the cut-offs, the propensity or the reader's options are not allowed.

    Example:
        >>> suite, values = measure_predictions("P.npz", "Y.tst.npz")    # doctest: +SKIP
        >>> round(100 * suite.result()["P@1"], 2)    # doctest: +SKIP
        84.36
    """
    sources: dict[str | Path, Any] = {
        truth: _read_labels(truth, "test", reader, reader_options or {})
    }
    if train_labels is not None:
        sources[train_labels] = _read_labels(train_labels, "train", reader, reader_options or {})
    predicted: Any = read_predictions(predictions)
    by_name = isinstance(predicted, ListedLabels)
    if by_name or any(not scipy.sparse.issparse(labels) for labels in sources.values()):
        columns = _columns([predicted, *sources.values()], label_names)
        for path, labels in sources.items():
            if not scipy.sparse.issparse(labels):
                sources[path] = _matrix_of_names(labels, columns, path)
        if by_name:
            predicted = _matrix_of_predictions(predicted, columns, predictions)
        for matrix in (predicted, *sources.values()):
            matrix.resize(matrix.shape[0], len(columns))
    labels = sources[truth]
    _check_shape(predicted.shape == labels.shape, predicted, labels, predictions, truth)
    if not predicted.shape[0]:
        raise DataError(
            "the file has no rows", where=predictions, fix="give a row for each example"
        )
    counts = None
    rows = None
    if train_labels is not None:
        train = sources[train_labels]
        fits = train.shape[1] == labels.shape[1]
        _check_shape(fits, train, labels, train_labels, truth)
        counts = np.bincount(train.indices, minlength=train.shape[1])
        rows = train.shape[0]
    plain = build_metrics(ks, counts, rows, propensity)
    suite = MetricSuite([*plain.metrics, RecallOfAll(ks)])
    parts = []
    with Progress("evaluating", labels.shape[0], "examples") as progress:
        for start in range(0, labels.shape[0], _BATCH):
            true = labels[start : start + _BATCH]
            best = ranked(predicted[start : start + _BATCH], max(ks), in_order=by_name)
            batch = (*best, pad_labels(true.indptr, true.indices))
            suite.update(*batch)
            parts.append(suite.per_example(*batch))
            progress.advance(true.shape[0])
    return suite, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _read_labels(
    path: str | Path, role: str, reader: str | None, options: Mapping[str, Any]
) -> scipy.sparse.csr_matrix | list[list[str]]:
    """Returns a matrix of labels, or a list of the names of each example's labels."""
    if Path(path).suffix == ".npz" and reader is None:
        return label_matrix(load_sparse(path), path)
    wanted = Wanted(options.get("text_field"), options.get("labels_field"))
    name, usual = options_of(path, wanted, reader, role, options)
    opened = open_reader(path, name, **{**usual, **options})
    names = opened.label_names
    return [
        [names[label] if names and isinstance(label, int) else str(label) for label in labels]
        for part in opened.label_lists()
        for labels in part
    ]


def _columns(sources: Sequence[Any], label_names: str | Path | None) -> dict[str, int]:
    """Returns {name: column} of the labels of matrices and lists; of lists alone, of all names."""
    width = next((source.shape[1] for source in sources if scipy.sparse.issparse(source)), None)
    if label_names is not None:
        names = LabelVocabulary.load(label_names).names
        if width not in (None, len(names)):
            raise DataError(
                f"there are {len(names):,} names for {width:,} columns",
                where=label_names,
                fix="give one name per line, for every column",
            )
    elif width is not None:
        names = [str(column) for column in range(width)]
    else:
        lists = (s.labels if isinstance(s, ListedLabels) else s for s in sources)
        names = sorted({name for rows in lists for row in rows for name in row})
    return {name: column for column, name in enumerate(names)}


def _matrix_of_names(
    lists: list[list[str]], columns: dict[str, int], path: str | Path
) -> scipy.sparse.csr_matrix:
    """Returns the matrix of true labels; those without a column, never predicted, get the next."""
    if any(lists) and not any(name in columns for row in lists for name in row):
        raise _no_column(next(filter(None, lists))[0], path)
    ids = [sorted({columns.setdefault(name, len(columns)) for name in row}) for row in lists]
    indices = np.fromiter(itertools.chain.from_iterable(ids), np.int32)
    ones = np.ones(len(indices), bool)
    return scipy.sparse.csr_matrix(
        (ones, indices, bounds_of(list(map(len, ids)))), (len(ids), len(columns))
    )


def _matrix_of_predictions(
    predicted: ListedLabels, columns: Mapping[str, int], path: str | Path
) -> scipy.sparse.csr_matrix:
    """Returns the matrix of scores, entries of a row in the order of the file."""
    names = list(itertools.chain.from_iterable(predicted.labels))
    wrong = next((name for name in names if name not in columns), None)
    if wrong is not None:
        raise _no_column(wrong, path)
    indices = np.fromiter((columns[name] for name in names), np.int32, len(names))
    scores = np.fromiter(itertools.chain.from_iterable(predicted.scores), np.float64, len(names))
    bounds = bounds_of(list(map(len, predicted.labels)))
    return scipy.sparse.csr_matrix((scores, indices, bounds), (len(predicted.labels), len(columns)))


def _no_column(name: str, path: str | Path) -> DataError:
    return DataError(
        f"the label {name!r} has no column in the matrices",
        where=path,
        fix="name their columns with --label-names, e.g. RUN/assets/labels.txt",
    )


def _check_shape(
    fits: bool,
    matrix: scipy.sparse.csr_matrix,
    truth: scipy.sparse.csr_matrix,
    path: str | Path,
    where_truth: str | Path,
) -> None:
    if fits:
        return
    raise DataError(
        f"it is a matrix of {_shown(matrix)}, and {where_truth} one of {_shown(truth)}",
        where=path,
        fix="give matrices with a column for each label, in the same order, and a row for each "
        "example",
    )


def _shown(matrix: scipy.sparse.csr_matrix) -> str:
    return f"{matrix.shape[0]:,} x {matrix.shape[1]:,}"
