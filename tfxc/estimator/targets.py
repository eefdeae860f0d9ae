"""The forms of ``y`` that the estimator accepts, and predictions in the same form."""

import itertools
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, column_or_1d

from tfxc.core.errors import DataError
from tfxc.data.reading.parsing.label_cells import label_of
from tfxc.estimator.examples import Examples
from tfxc.labels.joined_labels import joined_labels
from tfxc.labels.label_matrix import label_matrix
from tfxc.ops.csr import bounds_of

_LISTS = (list, tuple, set, frozenset)
_MISSING = ("NAType", "NaTType")  # of pandas; the first cannot be compared


class Targets:
    """What the classes are, and the form ``y`` came in.

    Attributes:
        classes: array of the classes by label id; for an indicator matrix the column numbers.
        form: ``"single"``: one class per example, 1-D; ``"lists"``: a list of labels each;
            ``"indicator"`` and ``"sparse indicator"``: a binary (n, num_classes) matrix.
    """

    def __init__(self, form: str, classes: np.ndarray) -> None:
        self.form = form
        self.classes = classes

    @property
    def multi_label(self) -> bool:
        """Whether an example has any number of labels."""
        return self.form != "single"

    @property
    def names(self) -> list[str]:
        """The classes' names, as the readers of files have them: that of 3.0 is ``"3"``."""
        names = []
        for label in self.classes.tolist():
            whole = isinstance(label, float) and label.is_integer()
            names.append(str(label_of(label) if whole or isinstance(label, bool) else label))
        return names

    def ids_of(self, y: Examples) -> list[list[int]]:
        """Returns label ids of other examples, ``y`` in the form of these; unknown classes get
        higher ids.

        Raises:
            DataError: it has another form, or another number of columns.
        """
        y = _listed(y)
        if self.form == "single":
            rows = [[value] for value in column_or_1d(np.asarray(y)).tolist()]
        elif self.form == "lists":
            if not _is_lists(y):
                raise DataError(
                    "the labels are not lists, but those of fit were",
                    where="y",
                    fix="give a list of labels for each example",
                )
            rows = [list(dict.fromkeys(row)) for row in y]
        else:
            targets, ids = _from_matrix(y, self.form)
            if len(targets.classes) != len(self.classes):
                raise DataError(
                    f"the matrix has {len(targets.classes)} columns",
                    where="y",
                    fix=f"give the {len(self.classes)} columns of fit",
                )
            return ids
        numbers = {label: number for number, label in enumerate(self.classes.tolist())}
        return [sorted(numbers.setdefault(x, len(numbers)) for x in row) for row in rows]

    def from_ids(
        self, ids: Sequence[Sequence[int]] | np.ndarray
    ) -> list[list[Any]] | np.ndarray | scipy.sparse.csr_matrix:
        """Returns the lists of label ids in the form ``y`` had."""
        if self.form == "single":
            return self.classes[np.array([row[0] for row in ids], np.int64)]
        if self.form == "lists":
            return [[self.classes[i] for i in row] for row in ids]
        bounds = bounds_of(list(map(len, ids)))
        columns = np.fromiter(itertools.chain.from_iterable(ids), np.int32)
        shape = (len(ids), len(self.classes))
        matrix = scipy.sparse.csr_matrix((np.ones(len(columns), np.int64), columns, bounds), shape)
        matrix.sort_indices()
        return matrix if self.form == "sparse indicator" else matrix.toarray()


def read_targets(y: Examples) -> "tuple[Targets, list[list[int]]]":
    """Returns ``Targets`` and one list of label ids per example.

    Args:
        y: list of label lists, 1-D array of classes, an array of zeros and ones (n, num_classes),
            or a sparse matrix, see ``label_matrix``.

    Raises:
        DataError: the entries are of several kinds; an array holds other numbers than 0 and 1, or
            a sparse matrix NaN, infinity or −1.
        ValueError: scikit-learn's own complaints about 1-D targets.

    Example:
        >>> targets, ids = read_targets([["b", "a"], [], ["b"]])
        >>> targets.classes.tolist(), ids
        (['a', 'b'], [[0, 1], [], [1]])
    """
    y = _listed(y)
    if scipy.sparse.issparse(y):
        return _from_matrix(y, "sparse indicator")
    if _is_lists(y):
        targets, ids = _from_lists(y)
        if max(map(len, ids)) == 1:
            _warn_of_joined_labels(targets.classes, sum(map(len, ids)))
        return targets, ids
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] > 1:
        check_classification_targets(values)
        return _from_matrix(values, "indicator")
    values = column_or_1d(values, warn=True)
    if values.dtype == object:
        _refuse_missing([label] for label in values)
    # NumPy makes texts of all labels of a list where one is a text.
    given = y if isinstance(y, (list, tuple)) else values.tolist() if values.dtype == object else ()
    if len({isinstance(label, str) for label in given}) > 1:
        raise _of_several_kinds(given)
    assert_all_finite(values, input_name="y")
    check_classification_targets(values)
    classes, numbers = np.unique(values, return_inverse=True)
    _warn_of_joined_labels(classes, len(values))
    return Targets("single", classes), [[number] for number in numbers.tolist()]


def _of_several_kinds(labels: Iterable[Any]) -> DataError:
    kinds = sorted({type(label).__name__ for label in labels})
    return DataError(
        f"the labels are of kinds that have no order: {', '.join(kinds)}",
        where="y",
        fix="make all of them texts, or all of them numbers",
    )


def _listed(y: Examples) -> Any:
    """Returns the lists of labels as a list of lists, whatever column or table of one column they
    are in.
    """
    if scipy.sparse.issparse(y) or getattr(y, "shape", ())[1:] not in ((), (1,)):
        return y
    rows = y
    if not isinstance(y, (list, tuple)):
        values = np.asarray(y)
        rows = values.ravel().tolist() if values.dtype == object else []
    if not any(isinstance(row, (*_LISTS, np.ndarray)) for row in rows):
        return y
    return [row.tolist() if isinstance(row, np.ndarray) else row for row in rows]


def _refuse_missing(rows: Iterable[Iterable[Any]]) -> None:
    """Refuses None, and what pandas has in its place."""
    for number, row in enumerate(rows):
        for label in row:
            if label is None or type(label).__name__ in _MISSING or label != label:
                raise DataError(
                    f"a label of the example at index {number} is {label!r}",
                    where="y",
                    fix="leave it out, or give each example a list of labels, which may be empty",
                )


def _is_lists(y: Examples) -> bool:
    if not isinstance(y, (list, tuple)):
        y = np.asarray(y)
        if y.ndim != 1:
            return False
    kinds = {isinstance(row, (*_LISTS, np.ndarray)) for row in y}
    if len(kinds) > 1:
        raise DataError(
            "some examples have a list of labels and others have none",
            where="y",
            fix="give each example a list, which may be empty",
        )
    return kinds == {True}


def _from_lists(y: Examples) -> tuple[Targets, list[list[int]]]:
    width = len(y[0]) if len(y) else 0
    if width > 1 and all(
        len(row) == width and all(type(x) is int and x in (0, 1) for x in row) for row in y
    ):
        # A binary matrix as lists would be label lists of the labels 0 and 1.
        warnings.warn(
            "y is taken for lists of the labels 0 and 1; if it is a binary matrix, pass "
            "np.array(y)",
            stacklevel=4,  # the line that calls fit
        )
    rows = [list(dict.fromkeys(row)) for row in y]
    _refuse_missing(rows)
    try:
        classes = sorted({label for row in rows for label in row})
    except TypeError as error:
        raise _of_several_kinds(label for row in rows for label in row) from error
    if not classes:
        raise DataError("no example has a label", where="y", fix="give labels to some")
    numbers = {label: number for number, label in enumerate(classes)}
    # Objects, so that predictions hold the labels themselves, not NumPy scalars.
    array = np.empty(len(classes), object)
    array[:] = classes
    return Targets("lists", array), [sorted(numbers[label] for label in row) for row in rows]


def _from_matrix(y: Examples, form: str) -> tuple[Targets, list[list[int]]]:
    labels = label_matrix(y, "y")
    # A dense array of other numbers may as well be several columns of classes.
    if not scipy.sparse.issparse(y) and not np.isin(y, (0, 1)).all():
        raise DataError(
            "an array of several columns contains numbers other than 0 and 1",
            where="y",
            fix="give 1 for a label and 0 elsewhere, one class each as an array of one dimension, "
            "or a list of labels for each example",
        )
    ids = [row.tolist() for row in np.split(labels.indices, labels.indptr[1:-1])]
    return Targets(form, np.arange(labels.shape[1])), ids


def _warn_of_joined_labels(classes, examples):
    """Says which classes look like several labels in one, as the preparation of files does."""
    names = [label for label in classes.tolist() if isinstance(label, str)]
    if (joined := joined_labels(names, examples)) is not None:
        warnings.warn(
            f"every example has one label, but {joined}. If they are, pass a list of labels for "
            f"each example, which makes {joined.num_labels:,} labels; tfxc.read gives such lists "
            f"with label_separator={joined.separator!r}",
            stacklevel=4,
        )
