"""Several labels in a cell."""

import pytest

from tfxc.core.errors import DataError
from tfxc.data.parsing.label_cells import are_lists, split_labels


@pytest.mark.parametrize(
    ("cell", "separator", "labels"),
    [
        (" law, health ", None, ["law, health"]),
        ("law, health,,", ",", ["law", "health"]),
        ("['law', 'health']", "[]", ["law", "health"]),
        ('["it\'s", "a, b"]', "[]", ["it's", "a, b"]),
        (r'["caf\u00e9"]', "[]", ["café"]),
        ("[3, 17]", "[]", ["3", "17"]),
        ("[]", "[]", []),
        (" ", "[]", []),
    ],
)
def test_labels_of_a_cell(cell, separator, labels):
    assert split_labels(cell, separator, "a.csv:2") == labels


@pytest.mark.parametrize(
    "cell", ["law", "['law' 'health']", "['law'", "{'law': 1}", "[['law']]", "[open('x')]", "[1.5]"]
)
def test_no_list(cell):
    with pytest.raises(DataError, match=r"a\.csv:2: .* is no (list of labels|label)"):
        split_labels(cell, "[]", "a.csv:2")


def test_cells_that_look_like_lists():
    assert are_lists(["['law', 'health']", "[]", '["law"]', " [3, 4]"])
    for cells in ([], ["[draft]"], ["['law']", "law"], ["law [old]"]):
        assert not are_lists(cells)
