"""Label names that look alike, and what stands for a missing value."""

import pytest

from tfxc.labels.look_alikes import (
    difference,
    first_twins,
    look_alikes,
    missing_words,
    plain_form,
    warnings_of_names,
)


@pytest.mark.parametrize(
    ("name", "other", "words"),
    [
        ("3", "3.0", "the format of a number"),
        ("3", "03", "the format of a number"),
        ("0", "00.", "the format of a number"),
        ("Topic", "topic", "upper and lower case"),
        ("Straße", "STRASSE", "upper and lower case"),
        ("caf\u00e9", "cafe\u0301", "Unicode form"),
        ("\uff33\uff11", "S1", "Unicode form"),
        ("topic", "topic\u200b", "blanks or invisible characters"),
        ("two words", "two  words", "blanks or invisible characters"),
        ("\u2764\ufe0f", "\u2764", "blanks or invisible characters"),
        ("two words", "two\u00a0words", "characters that look alike"),
        ("A\u200b", "a", "blanks or invisible characters and upper and lower case"),
    ],
)
def test_names_that_look_alike(name, other, words):
    assert plain_form(name) == plain_form(other)
    assert difference(name, other) == words
    assert look_alikes(["one", name, "another", other]) == [[name, other]]
    assert first_twins(["one", name], ["another", other]) == (name, other)


@pytest.mark.parametrize(
    ("name", "other"),
    [("3.1", "3.10"), ("10", "100"), ("3", "3a"), ("-3", "3"), ("cafe", "caf\u00e9"), ("a", "b")],
)
def test_names_that_do_not(name, other):
    assert look_alikes([name, other]) == [] and first_twins([name], [other]) is None


def test_words_for_a_missing_value():
    words = ["nan", "NaN", "null", "None", "N/A", "<NA>", "NA", "NaT", "#N/A"]
    assert missing_words(["nancy", *words, "annul"]) == words


def test_one_line_for_each():
    names = ["1", "1.0", "2", "2.0", "2.00", "law", "nan"]
    alike, missing = warnings_of_names(names)
    assert alike.startswith("5 of 7 label names look like another: '1' and '1.0' differ only in ")
    assert missing == "'nan' is a label. If a missing value is meant, leave it empty"
    assert (
        "'caf\\xe9' and 'cafe\\u0301' differ" in warnings_of_names(["caf\u00e9", "cafe\u0301"])[0]
    )
    assert warnings_of_names(["law", "health", *map(str, range(30))]) == []


def test_what_was_told_is_not_told_again():
    """Of names of which the user knows, only those that look like another name are left."""
    names = ["1", "1.0", "law", "nan", "Law"]
    alike, missing = warnings_of_names(names, told=4)
    assert alike.startswith("2 of 5 label names look like another: 'law' and 'Law' differ only in ")
    assert missing.startswith("'nan'"), "which no inspection tells"
    assert warnings_of_names(["1", "1.0", "law"], told=3) == []
