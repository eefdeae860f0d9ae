"""Forms in which texts and labels come: columns and tables, and values that are missing."""

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tfxc.core.errors import DataError
from tfxc.estimator.classifier import XCClassifier
from tfxc.estimator.examples import listed_texts
from tfxc.estimator.targets import read_targets

TEXTS = ["red fox", "blue sea", "red rose"]
LISTS = [["red", "fox"], ["blue"], []]
CLASSES = ["fox", "sea", "fox"]
ROWS = [7, 3, 5]  # numbers that rows keep where a table is split


class Column:
    """As of polars: neither a sequence nor an array, but NumPy makes an array of it."""

    def __init__(self, values, width=()):
        self.values, self.shape = values, (len(values), *width)

    def __array__(self, dtype=None, copy=None):
        found = np.empty(len(self.values), object)
        found[:] = [np.array(v, object) if isinstance(v, list) else v for v in self.values]
        return found.reshape(self.shape)


FORMS = {
    "list": list,
    "tuple": tuple,
    "Series": lambda values: pd.Series(values, index=ROWS),
    "DataFrame": lambda values: pd.DataFrame({"column": values}, index=ROWS),
    "Arrow array": pa.array,
    "Arrow table": lambda values: pa.table({"column": values}),
    "column": Column,
    "column of a table": lambda values: Column(values, (1,)),
}


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")  # as scikit-learn's own
@pytest.mark.parametrize("form", FORMS)
def test_texts_and_labels(form):
    make = FORMS[form]
    assert listed_texts(make(TEXTS)) == TEXTS
    targets, ids = read_targets(make(LISTS))
    assert targets.form == "lists" and targets.classes.tolist() == ["blue", "fox", "red"]
    assert ids == targets.ids_of(make(LISTS)) == [[1, 2], [0], []]
    targets, ids = read_targets(make(CLASSES))
    assert targets.form == "single" and targets.classes.tolist() == ["fox", "sea"]
    assert ids == targets.ids_of(make(CLASSES)) == [[0], [1], [0]]


def test_a_split_of_a_table():
    """The rows of a part keep their numbers, and 0 may not be among them."""
    table = pd.DataFrame({"text": TEXTS * 8, "labels": LISTS * 8}).iloc[3:]
    model = XCClassifier(recipe="xr_linear").fit(table["text"], table["labels"])
    expected = XCClassifier(recipe="xr_linear").fit(TEXTS * 7, LISTS * 7)
    assert model.predict(table[["text"]]) == expected.predict(TEXTS * 7)
    assert model.score(table["text"], table["labels"]) == expected.score(TEXTS * 7, LISTS * 7)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_values_are_named(missing):
    for place, texts in ((1, ["a", missing]), (0, [missing, "a"])):
        for given in (texts, pd.Series(texts, dtype=object)):
            with pytest.raises(
                DataError, match=f"X: the example at index {place} is not a text but"
            ):
                listed_texts(given)
    with pytest.raises(DataError, match="y: a label of the example at index 1 is"):
        read_targets([["a"], ["a", missing]])
    with pytest.raises(DataError, match="y: a label of the example at index 1 is"):
        read_targets(pd.Series(["a", missing], dtype=object))


@pytest.mark.parametrize("y", [LISTS, CLASSES, np.eye(3, dtype=int)])
def test_no_text_has_no_label(y):
    model = XCClassifier(recipe="xr_linear").fit(TEXTS, y)
    for nothing in ([], np.array([], object), pd.Series([], dtype=object)):
        found = model.predict(nothing)
        assert len(found) == 0 and type(found) is type(model.predict(TEXTS))
        assert model.decision_function(nothing).shape[0] == 0


@pytest.mark.parametrize("listed", [False, True])
def test_classes_that_look_like_several_are_warned_of(listed):
    classes = ["Mode", "Mode|Oben", "Haus", "Haus|M\u00f6bel"]
    y = [[label] for label in classes] if listed else np.array(classes)
    message = (
        r"every example has one label, but 2 of 4 label names look like several, such as "
        r"'Haus\|M.bel' \('Haus', 'M.bel'\).*which makes 4 labels.*label_separator='\|'"
    )
    with pytest.warns(UserWarning, match=message) as record:
        assert len(read_targets(y)[0].classes) == 4
    assert len(record) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_targets([label.split("|") for label in classes])
        read_targets([*classes[:2], "R&D"])
        read_targets([[3], [4]])
