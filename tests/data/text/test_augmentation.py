import json
from collections import Counter

import numpy as np
import pytest

from tfxc.commands import copy_texts
from tfxc.core.errors import DataError
from tfxc.data.text.augmentation import TextCopies

TEXTS = ["a b c d e f g h i j", "a a a b", "k"]


def test_nothing_changes_without_chances():
    same = TextCopies(TEXTS, drop=0, replace=0, cut=0)
    assert [same(text) for text in TEXTS] == TEXTS


def test_seeds():
    first, again, other = (TextCopies(TEXTS, seed=seed) for seed in (1, 1, 2))
    text = TEXTS[0]
    copies = [[make(text) for _ in range(20)] for make in (first, again, other)]
    assert copies[0] == copies[1] != copies[2]


def test_share_of_words_dropped():
    make = TextCopies(TEXTS, drop=0.3, replace=0, cut=0)
    kept = [make(TEXTS[0]).split() for _ in range(3000)]
    assert all(words == sorted(words) and words for words in kept)
    assert np.mean([len(words) for words in kept]) == pytest.approx(7, abs=0.1)


def test_words_come_in_as_often_as_they_occur():
    make = TextCopies(TEXTS, drop=0, replace=1, cut=0)
    counts = Counter(word for _ in range(2000) for word in make(TEXTS[0]).split())
    assert set(counts) == set("abcdefghijk")
    assert counts["a"] / counts.total() == pytest.approx(4 / 15, abs=0.01)
    assert counts["k"] / counts.total() == pytest.approx(1 / 15, abs=0.01)


def test_share_replaced_is_of_what_is_kept():
    make = TextCopies(["x"] * 9 + ["y"], drop=0.5, replace=0.5, cut=0)
    words = [word for _ in range(4000) for word in make("y y y y y y y y").split()]
    # Half of what is left is drawn, and 0.9 of that is x.
    assert words.count("x") / len(words) == pytest.approx(0.45, abs=0.02)


def test_cut_keeps_words_in_a_row():
    make = TextCopies(TEXTS, drop=0, replace=0, cut=1)
    copies = [make(TEXTS[0]) for _ in range(500)]
    assert all(copy in TEXTS[0] for copy in copies)
    assert {len(copy.split()) for copy in copies} == {1, 2, 3, 4, 5}
    assert {copy.split()[0] for copy in copies} == set("abcdefghij")


def test_at_least_one_word_stays():
    make = TextCopies(TEXTS, drop=1, replace=0, cut=0)
    assert {len(make(text).split()) for text in TEXTS * 20} == {1}
    assert make("") == ""


def test_characters():
    make = TextCopies(["雀巢裁员"], drop=0, replace=0, cut=1, unit="character")
    assert all(make("雀巢裁员") in "雀巢裁员" for _ in range(20))


@pytest.mark.parametrize("wrong", [{"drop": 1.5}, {"cut": -0.1}, {"unit": "syllable"}])
def test_bad_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TextCopies(TEXTS, **wrong)


def test_no_words():
    with pytest.raises(ValueError, match="the texts contain no words"):
        TextCopies(["", " "])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--drop", "1.5"], "--drop: must be a number from 0 to 1, not 1.5"),
        (["--cut", "x"], "--cut: must be a number from 0 to 1, not 'x'"),
        (["--unit", "syllable"], "--unit: must be one of word, character"),
        (["--copies", "0"], "--copies: must be an integer of at least 1"),
        (["--output", "copies.csv"], "'copies.csv' does not end in .jsonl"),
    ],
)
def test_bad_options_of_the_command(options, message, capsys):
    with pytest.raises(SystemExit):
        copy_texts.main(["train.jsonl", "--output", "copies.jsonl", *options])
    assert message in capsys.readouterr().err


def test_texts_without_a_word(tmp_path):
    data = tmp_path / "train.jsonl"
    data.write_text('{"text": " ", "labels": ["a"]}\n')
    with pytest.raises(DataError, match=r"train\.jsonl: the texts contain no words"):
        copy_texts.main([str(data), "--output", str(tmp_path / "copies.jsonl")])
    assert not (tmp_path / "copies.jsonl").exists()


def test_command(tmp_path, capsys):
    data = tmp_path / "train.jsonl"
    rows = [{"text": "how do I get a card", "labels": ["card", "order"]}, {"text": "hi"}]
    rows[1]["labels"] = []
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "copies.jsonl"
    assert copy_texts.main([str(data), "--copies", "3", "--output", str(output)]) == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert found[:2] == rows
    assert [row["labels"] for row in found] == [["card", "order"], []] * 4
    assert "8 texts, 3 copies of 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["我想申请一张新的信用卡谢谢你", "新しいカードを申し込みたいです", "ฉันต้องการสมัครบัตรใหม่"]
)
def test_scripts_without_spaces(text):
    """A character is the unit where there are no words between spaces; nothing is put between."""
    others = ["转账失败了怎么办", "カードをなくした", "บัตรหาย"]
    make = TextCopies([text, *others], drop=0.3, replace=0, cut=0)
    copies = [make(text) for _ in range(400)]
    assert np.mean([copy == text for copy in copies]) < 0.05
    assert not any(" " in copy for copy in copies)
    lengths = [len(copy) / len(text) for copy in copies]
    assert np.mean(lengths) == pytest.approx(0.7, abs=0.03)
    cut = TextCopies([text, *others], drop=0, replace=0, cut=1)
    assert all(cut(text) in text and len(cut(text)) <= 5 for _ in range(50))


def test_scripts_side_by_side():
    same = TextCopies(["我的iPhone 15 坏了"], drop=0, replace=0, cut=0)
    assert same("我的iPhone 15 坏了") == "我的iPhone 15 坏了"
    make = TextCopies(["我的iPhone 15 坏了"], drop=0.4, replace=0, cut=0)
    units = {"我", "的", "iPhone", "15", "坏", "了"}
    for _ in range(100):
        left = make("我的iPhone 15 坏了")
        for unit in units:
            left = left.replace(unit, "")
        assert not left.strip() and left == left.strip("\n")


def test_the_command_reports_copies_that_are_no_different(tmp_path, capsys):
    data = tmp_path / "train.jsonl"
    data.write_text('{"text": "same", "labels": ["a"]}\n{"text": "one two", "labels": ["b"]}\n')
    options = ["--output", str(tmp_path / "copies.jsonl"), "--drop", "0", "--replace", "0"]
    assert copy_texts.main([str(data), *options, "--cut", "0", "--copies", "3"]) == 0
    assert "6 copies (100%) are equal to their texts" in capsys.readouterr().out
