"""Names that look like several labels in one, and names that do not."""

import itertools

import pytest

from tfxc.labels.joined_labels import joined_labels


@pytest.mark.parametrize(
    ("names", "separator", "joined", "num_labels"),
    [
        (["law", "health", "law;health"], ";", ["law;health"], 2),
        (["a|b", "b|c", "a|c"], "|", ["a|b", "b|c", "a|c"], 3),
        (["a", "b", "a/b"], "/", ["a/b"], 2),
        (["a", "b ; ", "; a ;; b"], ";", ["; a ;; b"], 2),
    ],
)
def test_certain(names, separator, joined, num_labels):
    """A part stands first in one name and later in another, so places mean nothing."""
    found = joined_labels(names)
    assert found.certain and (found.separator, found.names) == (separator, joined)
    assert found.num_labels == num_labels and found.num_names == len(names)


@pytest.mark.parametrize(
    ("names", "separator", "num_joined", "num_labels"),
    [
        (["Mode", "Mode|Oben", "Haus", "Haus|Möbel"], "|", 2, 4),
        (["Mode", "Oben;Mode", "Haus", "Möbel;Haus"], ";", 2, 4),
        (["Mode", "Mode|Neu", "Haus", "Haus|Neu"], "|", 2, 3),
        (["men|shoes", "women|shoes", "men|bags", "women|bags"], "|", 4, 4),
        (["men", "women", "men/shoes", "women/shoes"], "/", 2, 3),
        (["a", "b", "c", "a&b", "b & c"], "&", 2, 3),
        (["a", "b", "c", "a::b", "b::c"], "::", 2, 3),
        (["a", "b", "c", "a+b", "c+b", "C++"], "+", 2, 4),
        (["a", "b", "c", "a and b", "a and c"], " and ", 2, 3),
        # What is certain of a later separator comes before what is not.
        (["a", "a,x", "b", "b,y", "c;d", "d;c"], ";", 2, 6),
    ],
)
def test_that_only_the_user_can_tell(names, separator, num_joined, num_labels):
    found = joined_labels(names)
    assert found.separator == separator and len(found.names) == num_joined
    assert found.num_labels == num_labels
    assert found.certain == (separator == ";" and "d;c" in names)


@pytest.mark.parametrize(
    "names",
    [
        ["R&D", "AT&T", "law", "R", "D"],
        ["food", "drink", "food & drink", "health", "health & beauty", "arts & crafts"],
        ["C++", "C++::vector", "C++::map", "C#", "C"],
        ["Electronics", "Electronics > Phones", "Toys", "Toys > Cars"],
        ["Electronics", "Electronics/Phones", "Toys", "Toys/Cars"],
        ["HIV", "HIV/AIDS", "TCP/IP", "I/O", "I", "O"],
        ["research", "research and development", "arts and sciences", "arts"],
        ["A01B 1/00", "A01B 1/02", "A01B 3/00", "A01B 3/02"],
        ["Issue #1", "Issue #2", "Task #1", "Task #2"],
        ["Paris", "Paris, Texas", "London"],
        [],
    ],
)
def test_ordinary_names(names):
    assert joined_labels(names) is None


def test_blanks_separate_where_few_words_make_up_many_names():
    words = ["animal", "red", "water", "fast", "small", "wild"]
    names = [" ".join(chosen) for chosen in itertools.permutations(words, 3)][:60]
    found = joined_labels(names, examples=120)
    assert (found.separator, found.num_labels, found.certain) == (" ", 6, False)
    assert joined_labels(names, examples=1000) is None, "they repeat"
    assert joined_labels(names) is None and joined_labels(words, examples=6) is None


def test_the_warning_is_one_line_and_says_what_to_do():
    found = joined_labels(["Mode", "Mode\tOben", "Haus", "Haus\tMöbel"])
    assert found.warning("a.csv", splits_cells=True) == (
        "a.csv: every example has one label, but 2 of 4 label names look like several, such as "
        r"'Mode\tOben' ('Mode', 'Oben'). If they are, write lists or set "
        r"data.reader_options.label_separator to '\t', which makes 4 labels; if each is one label, "
        "set it to null, which also ends this warning"
    )
    assert "label_separator" not in found.warning("a.txt", splits_cells=False)
