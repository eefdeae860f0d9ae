"""Texts of labels: their file, their place in the prepared folder, labels that are held out."""

import json

import numpy as np
import pytest

from tfxc.core.errors import DataError
from tfxc.core.settings import DataSettings, EvaluationSettings
from tfxc.data.label_texts.prepared import (
    example_keys,
    label_texts_by_name,
    load_label_texts,
    own_labels,
)
from tfxc.data.reading.held_out import held_out_labels
from tfxc.data.reading.label_texts import read_label_texts, texts_of_labels
from tfxc.data.sources.exclusions import exclusions, read_excluded_pairs
from tfxc.data.sources.shards import open_source
from tfxc.data.store.manifest import LABEL_COUNTS_FILE
from tfxc.data.store.preparation import prepare
from tfxc.data.text.registry import load_text_features
from tfxc.labels.vocabulary import LabelVocabulary

TRAIN = [
    ("is : red fox", ["fox"]),
    ("eats : grey hen", ["fox", "owl"]),
    ("is : brown owl", ["owl"]),
    ("eats : grey hen", ["owl"]),
    ("has : wing", ["hen"]),
]
DEV = [("eats : grey hen", ["cow"]), ("is : white cow", ["cow", "fox"]), ("has : horn", ["bat"])]
TEXTS = [("hen", "grey hen"), ("cow", "white cow"), ("owl", "brown owl"), ("fox", "red fox")]


def write_lines(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return str(path)


def settings_of(folder, train=TRAIN, texts=TEXTS, **more):
    def examples(name, rows):
        return write_lines(folder / name, [{"text": text, "labels": ls} for text, ls in rows])

    if texts != "names":
        texts = write_lines(folder / "l.jsonl", [{"label": n, "text": t} for n, t in texts])
    values = {"name": "t", "label_texts": texts, "self_part": " : ", "text_features": "tfidf"}
    return DataSettings(
        train=examples("train.jsonl", train), dev=examples("dev.jsonl", DEV), **{**values, **more}
    )


@pytest.fixture
def prepared(tmp_path):
    manifest = prepare(settings_of(tmp_path), tmp_path / "prepared")
    return tmp_path / "prepared", manifest


def names_in(folder):
    return LabelVocabulary.load(folder / "labels.txt").names


def test_labels_of_the_file_follow_those_of_training(prepared):
    folder, manifest = prepared
    assert names_in(folder) == ["fox", "hen", "owl", "cow"]
    assert (manifest.num_labels, manifest.num_trained_labels) == (4, 3)
    assert manifest.num_unseen_labels == 1  # "bat" has no text
    assert np.load(folder / LABEL_COUNTS_FILE).tolist() == [2, 1, 3, 0]
    rows = open_source(folder, "dev").rows()
    assert rows.batch()["labels"].tolist() == [[3, -1], [0, 3], [4, -1]]


def test_features_of_texts_are_those_of_the_text_features(prepared):
    folder, manifest = prepared
    found = load_label_texts(folder, manifest.kind, manifest.num_features, "train")
    features = load_text_features(folder / "text_features")
    expected = features.transform(["red fox", "grey hen", "brown owl", "white cow"])
    np.testing.assert_array_equal(found.rows.indices, expected.indices)
    np.testing.assert_array_equal(found.rows.values, expected.data)
    assert found.given.all() and len(found) == 4
    assert label_texts_by_name(folder)["cow"] == "white cow"


def test_features_do_not_learn_from_labels_without_an_example(prepared):
    terms = load_text_features(prepared[0] / "text_features").vocabulary()
    assert "red" in terms and "white" not in terms and "cow" not in terms


def test_features_learn_from_texts_of_training_labels(tmp_path):
    texts = [*TEXTS[:3], ("fox", "vixen")]
    prepare(settings_of(tmp_path, texts=texts), tmp_path / "prepared")
    assert "vixen" in load_text_features(tmp_path / "prepared/text_features").vocabulary()


def test_own_labels_follow_the_order_of_the_records(prepared):
    folder, _ = prepared
    assert own_labels(folder, "dev").tolist() == [1, 3, -1]
    rows, own = open_source(folder, "train").rows(), own_labels(folder, "train")
    features = load_text_features(folder / "text_features")
    vocabulary = features.vocabulary()
    names = names_in(folder)
    for number, label in enumerate(own.tolist()):
        terms = {vocabulary[i] for i in rows.select([number]).indices}
        expected = {"red": "fox", "grey": "hen", "brown": "owl", "wing": None}
        word = next(word for word in expected if word in terms)
        assert (names[label] if label >= 0 else None) == expected[word]


def test_whole_texts_are_compared_without_a_separator(tmp_path):
    prepare(settings_of(tmp_path, self_part=None), tmp_path / "prepared")
    assert own_labels(tmp_path / "prepared", "dev").tolist() == [-1, -1, -1]


def test_names_are_texts(tmp_path):
    train = [("my card is lost", ["card_lost"]), ("where is it", ["card-arrival"])]
    manifest = prepare(settings_of(tmp_path, train, "names", self_part=None), tmp_path / "p")
    found = label_texts_by_name(tmp_path / "p")
    assert found == {"card-arrival": "card arrival", "card_lost": "card lost"}
    assert manifest.num_trained_labels == manifest.num_labels == 2


def test_any_number_of_processes_writes_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("tfxc.data.store.preparation.CHUNK_EXAMPLES", 8)
    monkeypatch.setattr("tfxc.data.store.preparation.MIN_CHARACTERS", 1)
    settings = settings_of(tmp_path, TRAIN * 8, shard_examples=16)
    for jobs in (1, 2):
        prepare(settings, tmp_path / f"p{jobs}", jobs=jobs)
    names = ["own-train.npy", "examples-train.npy", "own-dev.npy", "keys.npy", "texts.jsonl"]
    for name in names:
        one, two = (tmp_path / f"p{jobs}/label_texts/{name}" for jobs in (1, 2))
        assert one.read_bytes() == two.read_bytes()
    rows, own = open_source(tmp_path / "p2", "train").rows(), own_labels(tmp_path / "p2", "train")
    assert len(rows) == len(own) == 40
    vocabulary = load_text_features(tmp_path / "p2/text_features").vocabulary()
    brown = [vocabulary.index("brown") in rows.select([n]).indices for n in range(40)]
    assert (own[brown] == 2).all() and sum(brown) == 8


def test_training_labels_need_a_text(tmp_path):
    settings = settings_of(tmp_path, texts=TEXTS[:2])
    with pytest.raises(DataError, match="2 of 3 labels have no text: 'fox', 'owl'"):
        prepare(settings, tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()
    settings = settings_of(tmp_path, texts=TEXTS[:2], missing_texts="free")
    manifest = prepare(settings, tmp_path / "prepared")
    found = load_label_texts(tmp_path / "prepared", manifest.kind, manifest.num_features)
    assert found.given.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"label": "a", "text": " "}], "the text of label 'a' is empty"),
        (
            [{"label": "a", "text": "x"}, {"label": "a", "text": "y"}],
            "label 'a' already has a text",
        ),
        ([{"label": ["a", "b"], "text": "x"}], "'label' has 2 labels instead of one"),
        ([{"name": "a", "text": "x"}], "there is no key 'label', only 'name', 'text'"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, entries, message):
    path = write_lines(tmp_path / "l.jsonl", entries)
    with pytest.raises(DataError, match=message) as caught:
        read_label_texts(path)
    assert "l.jsonl" in str(caught.value.where)


def test_a_table_is_told_what_a_file_of_texts_is(tmp_path):
    (tmp_path / "l.csv").write_text("label,text\na,x\n")
    with pytest.raises(DataError, match="not a JSON object") as caught:
        read_label_texts(tmp_path / "l.csv")
    assert caught.value.fix == 'write lines of JSON: {"label": ..., "text": ...}'


def test_a_missing_file_is_refused_before_anything_is_read(tmp_path):
    settings = settings_of(tmp_path).model_copy(update={"label_texts": str(tmp_path / "no.jsonl")})
    with pytest.raises(DataError, match="no such file"):
        prepare(settings, tmp_path / "prepared")


def test_repeated_texts_are_reported(tmp_path, capsys):
    texts = [*TEXTS, ("yak", "red fox")]
    prepare(settings_of(tmp_path, texts=texts), tmp_path / "prepared")
    assert "1 of 5 labels have the same text as another" in capsys.readouterr().err


def test_settings_that_need_texts_are_refused_without():
    with pytest.raises(ValueError, match="self_part needs label_texts"):
        DataSettings(name="t", train="t", self_part=" : ", text_features="tfidf")
    with pytest.raises(ValueError, match="label_texts needs text_features"):
        DataSettings(name="t", train="t", label_texts="names")


def test_held_out_labels_leave_training_with_their_examples(tmp_path):
    train = [*TRAIN, ("is : a bat and an owl", ["bat", "owl"])]
    texts = [*TEXTS, ("bat", "black bat")]
    settings = settings_of(tmp_path, train, texts, held_out_labels=0.25)
    manifest = prepare(settings, tmp_path / "prepared")
    (gone,) = held_out_labels(["fox", "owl", "hen", "bat"], 0.25, settings.seed)
    assert manifest.num_trained_labels == 3
    names = names_in(tmp_path / "prepared")
    assert names.index(gone) >= 3  # found by its text, behind those of training
    left = [[name for name in labels if name != gone] for _, labels in train]
    assert manifest.split("train").examples == sum(map(bool, left))
    found = open_source(tmp_path / "prepared", "train").rows()
    assert sorted(names[i] for i in found.label_ids) == sorted(name for row in left for name in row)
    assert manifest.split("dev").examples == 3


def test_held_out_labels_have_their_names_as_texts(tmp_path):
    settings = settings_of(tmp_path, texts="names", held_out_labels=0.34)
    manifest = prepare(settings, tmp_path / "prepared")
    (gone,) = held_out_labels(["fox", "owl", "hen"], 0.34, settings.seed)
    assert names_in(tmp_path / "prepared")[2:] == [gone]
    assert (manifest.num_trained_labels, manifest.num_labels) == (2, 3)
    assert label_texts_by_name(tmp_path / "prepared")[gone] == gone


def test_texts_of_labels_are_in_the_order_of_ids(tmp_path):
    settings = settings_of(tmp_path)
    assert texts_of_labels({"b": "x", "a": "y"}, ["a", "b"], settings) == ["y", "x"]


def test_excluded_labels(prepared):
    folder, _ = prepared
    dev, train = open_source(folder, "dev"), open_source(folder, "train")
    everything = np.arange(3)

    def rows(*kinds):
        found = exclusions(folder, "dev", kinds, dev, train)
        return [[i for i in row if i >= 0] for row in found.rows(everything).tolist()]

    # Training gives "eats : grey hen" the labels fox and owl; the second's own label is true.
    assert rows("train") == [[0, 2], [], []]
    assert rows("self") == [[1], [], []]
    assert rows("self", "train") == [[0, 1, 2], [], []]
    assert len(np.unique(example_keys(folder, "train"))) == 4


def test_pairs_of_a_file_are_excluded(prepared, tmp_path, capsys):
    folder, _ = prepared
    dev, train = open_source(folder, "dev"), open_source(folder, "train")
    (tmp_path / "filter_dev.txt").write_text("2 hen\n\n0\tfox\n0 fox\n1 fox\n1 nobody knows it\n")
    found = exclusions(folder, "dev", [str(tmp_path / "filter_{split}.txt")], dev, train)
    rows = [[i for i in row if i >= 0] for row in found.rows(np.arange(3)).tolist()]
    assert rows == [[0], [], [1]]  # the second example's fox is true
    assert "1 lines name labels that the run does not have" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 a\n7 a\n", ":2: '7 a' is not the number of an example, below 3"),
        ("x a\n", ":1: .* is not the number of an example"),
        ("1\n", ":1: .* is not the number of an example"),
        ("1 b\n2 b\n", "none of the 2 lines names a label"),
    ],
)
def test_wrong_files_of_pairs_are_refused(tmp_path, text, message):
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_excluded_pairs(path, LabelVocabulary(["a"]), 3)


def test_a_file_of_pairs_has_the_split_in_its_name():
    with pytest.raises(ValueError, match=r"'pairs\.txt' is neither 'train' nor 'self'"):
        EvaluationSettings(exclude=["pairs.txt"])
