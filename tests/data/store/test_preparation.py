"""Files to prepared folders: content, determinism, and several processes at once."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from tests.data.rows import read_shard
from tests.data.sources.examples import (
    AWKWARD,
    TFIDF,
    files_of,
    sparse_set,
    texts_set,
    write_jsonl,
)
from tests.processes import Started, finish
from tfxc.core.config import DataSettings
from tfxc.core.errors import DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import DENSE, SPARSE
from tfxc.data.examples.rows import Rows
from tfxc.data.reading import held_out, source_files
from tfxc.data.reading.source_files import changed_source
from tfxc.data.sources.shards import ShardSource
from tfxc.data.store import preparation
from tfxc.data.store.blocks.layout import dealt, in_order, shuffled_order
from tfxc.data.store.manifest import Manifest, prepared_folder
from tfxc.data.store.preparation import ensure_prepared, prepare
from tfxc.data.text.registry import load_text_features
from tfxc.labels.vocabulary import LabelVocabulary


def in_storage_order(folder, split):
    return next(ShardSource(folder, split)._in_order())


def as_sets(rows):
    """The rows as a sorted list of (features, labels), whatever their order."""
    return sorted(
        (
            tuple(rows.indices[rows.indptr[i] : rows.indptr[i + 1]].tolist()),
            tuple(rows.values[rows.indptr[i] : rows.indptr[i + 1]].tolist()),
            tuple(rows.label_ids[rows.label_indptr[i] : rows.label_indptr[i + 1]].tolist()),
        )
        for i in range(len(rows))
    )


def test_every_row_arrives_once_shuffled_in_train_and_in_order_elsewhere(sparse_settings, tmp_path):
    matrix, labels = sparse_set()
    manifest = prepare(sparse_settings, tmp_path / "out")
    assert (manifest.num_features, manifest.num_labels, manifest.kind) == (30, 12, SPARSE)
    assert [shard.examples for shard in manifest.split("test").shards] == [10] * 9 + [7]
    sizes = [shard.examples for shard in manifest.split("train").shards]
    assert len(sizes) == 10 and set(sizes) == {9, 10}
    test, train = (in_storage_order(tmp_path / "out", split) for split in ("test", "train"))
    np.testing.assert_array_equal(test.indptr, matrix.indptr)
    np.testing.assert_array_equal(test.indices, matrix.indices)
    np.testing.assert_array_equal(test.values, matrix.data)
    np.testing.assert_array_equal(np.diff(test.label_indptr), [len(ids) for ids in labels])
    np.testing.assert_array_equal(test.label_ids, np.concatenate(labels))
    assert as_sets(train) == as_sets(test)
    numbers = train.values[train.indptr[:-1][np.diff(train.indptr) > 0]]
    assert np.abs(np.corrcoef(numbers, np.arange(len(numbers)))[0, 1]) < 0.3
    counts = np.bincount(np.concatenate(labels).astype(int), minlength=12)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "label_counts.npy"), counts)
    assert (tmp_path / "out" / "labels.txt").read_text().split() == [str(i) for i in range(12)]
    assert not (tmp_path / "out" / "scratch").exists()


def test_the_classes_of_two_signs_are_the_same_in_all_splits(tmp_path):
    for split, labels in (("train", "+1 -1 1"), ("dev", "1 +1"), ("test", "-1 -1")):
        lines = (f"{label} 1:1\n" for label in labels.split())
        (tmp_path / f"{split}.svm").write_text("".join(lines))
    files = {split: str(tmp_path / f"{split}.svm") for split in ("train", "dev", "test")}
    prepare(DataSettings(name="signs", **files), tmp_path / "out")
    assert (tmp_path / "out" / "labels.txt").read_text().split() == ["-1", "1"]
    found = {split: in_storage_order(tmp_path / "out", split).label_ids.tolist() for split in files}
    assert sorted(found["train"]) == [0, 1, 1] and (found["dev"], found["test"]) == ([1, 1], [0, 0])


def test_features_next_to_texts_that_are_vectorised_are_reported(tmp_path, capsys):
    matrix, _ = sparse_set(4)
    (tmp_path / "X.trn.txt").write_text("red cat\nblue dog\nred dog\nblue cat\n")
    for name, values in (("X", matrix), ("Y", scipy.sparse.eye(4, format="csr"))):
        scipy.sparse.save_npz(tmp_path / f"{name}.trn.npz", values)
    given = DataSettings(name="given", train=str(tmp_path), test=str(tmp_path))
    assert prepare(given, tmp_path / "given").num_features == 30
    assert "not used" not in capsys.readouterr().err
    made = given.model_copy(update={"text_features": TFIDF})
    assert prepare(made, tmp_path / "made").num_features == 4
    output = capsys.readouterr().err
    assert output.count(f"train: the features of {tmp_path} are not used") == 1
    assert output.count("not used") == 1 and "remove text_features" in output


def test_layouts_hold_equal_rows(sparse_settings, tmp_path):
    rows = []
    for layout in ("blocks", "examples"):
        prepare(sparse_settings.model_copy(update={"layout": layout}), tmp_path / layout)
        rows.append(in_storage_order(tmp_path / layout, "train"))
    for name in ("indptr", "indices", "values", "label_indptr", "label_ids"):
        np.testing.assert_array_equal(getattr(rows[0], name), getattr(rows[1], name))


def test_reading_in_several_blocks_changes_nothing_but_the_order(
    sparse_settings, tmp_path, monkeypatch
):
    prepare(sparse_settings, tmp_path / "one")
    monkeypatch.setattr(preparation, "CHUNK_EXAMPLES", 7)
    prepare(sparse_settings, tmp_path / "many")
    one, many = (in_storage_order(tmp_path / name, "train") for name in ("one", "many"))
    assert as_sets(one) == as_sets(many)
    assert files_of(tmp_path / "one").keys() == files_of(tmp_path / "many").keys()


def test_seed_decides_the_order_alone(sparse_settings, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare(sparse_settings.model_copy(update={"seed": seed}), tmp_path / name)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    one, other = (in_storage_order(tmp_path / name, "train") for name in ("a", "c"))
    assert as_sets(one) == as_sets(other) and one.values.tolist() != other.values.tolist()


WORDS = {"name": "words", "min_count": 2, "max_length": 9}
SYNTHETIC = {"shape": "wn18rr", "examples": 300, "labels": 60}  # 15 features each


@pytest.mark.parametrize(
    "data",
    [
        {"text_features": TFIDF},
        {"text_features": WORDS | {"stop_words": ["w1"]}},
        {"text_features": {"name": "characters", "fill": True}},
        {"text_features": {"name": "fasttext", "buckets": 50}},
        {"text_features": {"name": "pecos_tfidf", "analyzer": "char_wb", "ngram_range": [2, 3]}},
        {"text_features": {"name": "joined", "tokens": WORDS, "terms": {"name": "hashing"}}},
        {"reader_options": SYNTHETIC},
        {"reader_options": SYNTHETIC | {"form": "texts"}, "text_features": TFIDF},
    ],
    ids=["tfidf", "words", "characters", "fasttext", "char_wb", "joined", "features", "ranges"],
)
def test_same_bytes_with_one_process_and_with_two(tmp_path, monkeypatch, data):
    """Files read from the beginning on, and sources of which any part can be read."""
    monkeypatch.setattr(preparation, "CHUNK_EXAMPLES", 50)
    monkeypatch.setattr(preparation, "MIN_BLOCKS", 1)
    monkeypatch.setattr(preparation, "MIN_CHARACTERS", 2000)
    if data == {"reader_options": SYNTHETIC}:  # whoever writes shards has to start TensorFlow
        monkeypatch.setattr(preparation, "MIN_BYTES", 1)
    train = "builtin:synthetic"
    if "reader_options" not in data:
        train = write_jsonl(tmp_path / "train.jsonl", texts_set(330, words=15))
    settings = DataSettings(name="toy", train=train, dev=train, shard_examples=90, **data)
    one = prepare(settings, tmp_path / "one", jobs=1)
    assert len(one.split("train").blocks) > 4 and len(one.split("train").shards) == 4
    prepare(settings, tmp_path / "two", jobs=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    if settings.text_features and train != "builtin:synthetic":
        features = load_text_features(tmp_path / "one" / "text_features")
        texts = [text for text, _ in texts_set(330, words=15)]
        order = shuffled_order(one.split("train").blocks, 4, settings.seed)
        for split, numbers in (("dev", np.arange(330)), ("train", order)):
            found = Rows.concatenate(list(ShardSource(tmp_path / "one", split)._in_order()))
            rows = Rows.of(features.kind, features.transform(texts), [[]] * 330).select(numbers)
            for name, array in rows.arrays.items():
                np.testing.assert_array_equal(getattr(found, name), array, err_msg=name)


def test_examples_held_out_of_a_source_of_which_any_part_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "CHUNK_EXAMPLES", 50)
    settings = DataSettings(
        name="toy", train="builtin:synthetic", reader_options=SYNTHETIC, dev_share=0.1
    )
    found = prepare(settings, tmp_path / "out", jobs=1)
    assert [found.split(name).examples for name in ("train", "dev")] == [270, 30]
    whole = prepare(settings.model_copy(update={"dev_share": None}), tmp_path / "whole", jobs=1)
    names = [(folder, split) for folder, split in (("out", "train"), ("out", "dev"))]
    parts = [as_sets(in_storage_order(tmp_path / folder, split)) for folder, split in names]
    assert sorted(parts[0] + parts[1]) == as_sets(in_storage_order(tmp_path / "whole", "train"))
    assert whole.split("train").examples == 300


def test_texts_become_scikit_learns_rows_and_label_names_survive(tmp_path):
    examples = [*texts_set(), ("", []), ("red cat", AWKWARD)]
    train = write_jsonl(tmp_path / "train.jsonl", examples)
    dev = write_jsonl(tmp_path / "dev.jsonl", examples[::-1])
    settings = DataSettings(name="toy", train=train, dev=dev, text_features=TFIDF)
    manifest = prepare(settings, tmp_path / "out")
    assert LabelVocabulary.load(tmp_path / "out" / "labels.txt").names == sorted(AWKWARD)
    texts = [text for text, _ in examples]
    features = load_text_features(tmp_path / "out" / "text_features")
    found = in_storage_order(tmp_path / "out", "dev")
    expected = features.transform(texts[::-1])
    np.testing.assert_array_equal(found.values, expected.data)
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    others = ("name", "characters")
    options = {k: v for k, v in manifest.text_features.items() if k not in others}
    options["ngram_range"] = tuple(options["ngram_range"])
    oracle = TfidfVectorizer(**options).fit(texts).transform(texts[::-1])
    np.testing.assert_allclose(np.sort(found.values), np.sort(oracle.data), rtol=1e-5)
    names = sorted(AWKWARD)
    for position, (_, labels) in enumerate(examples[::-1]):
        ids = found.label_ids[found.label_indptr[position] : found.label_indptr[position + 1]]
        assert {names[i] for i in ids} == set(labels)
    assert manifest.split("dev").without_labels == sum(not labels for _, labels in examples)


def test_unseen_labels_count_in_dev_and_stay_out_of_training(tmp_path):
    train = write_jsonl(
        tmp_path / "t.jsonl", [("x y", ["b", "a"]), ("y z", ["a"]), ("z", ["rare"])]
    )
    dev = write_jsonl(tmp_path / "d.jsonl", [("x", ["new", "a"]), ("y", ["rare"]), ("z", ["new"])])
    settings = DataSettings(
        name="toy", train=train, dev=dev, text_features=TFIDF | {"token_pattern": r"\w"},
        min_label_count=2,
    )  # fmt: skip
    manifest = prepare(settings, tmp_path / "out")
    folder = tmp_path / "out"
    assert (folder / "labels.txt").read_text() == "a\n"
    assert (folder / "unseen_labels.txt").read_text() == "new\nrare\n"
    assert (manifest.num_labels, manifest.num_unseen_labels) == (1, 2)
    assert manifest.split("dev").unseen_labels == 3
    assert in_storage_order(folder, "dev").label_ids.tolist() == [0, 1, 2, 1]
    train = in_storage_order(folder, "train")
    assert train.label_ids.tolist() == [0, 0] and manifest.split("train").without_labels == 1


def test_numbered_labels_take_names_from_a_file(tmp_path, sparse_settings):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"name {i}\n" for i in range(12)))
    settings = sparse_settings.model_copy(update={"label_names": str(names)})
    prepare(settings, tmp_path / "out")
    assert (tmp_path / "out" / "labels.txt").read_text() == names.read_text()
    names.write_text("too\nfew\n")
    with pytest.raises(DataError, match="there are 2 label names, but the data has 12 labels"):
        prepare(settings, tmp_path / "out2")


def test_named_labels_follow_the_order_of_a_file(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("z\nnever\na\n")
    train = write_jsonl(tmp_path / "t.jsonl", [("one", ["a"]), ("two", ["z"])])
    settings = DataSettings(name="toy", train=train, text_features=TFIDF, label_names=str(names))
    prepare(settings, tmp_path / "out")
    assert (tmp_path / "out" / "labels.txt").read_text() == "z\nnever\na\n"
    assert np.load(tmp_path / "out" / "label_counts.npy").tolist() == [1, 0, 1]
    write_jsonl(tmp_path / "t.jsonl", [("one", ["a", "other"])])
    with pytest.raises(DataError, match=r"names\.txt: .* has the label 'other'"):
        prepare(settings, tmp_path / "out2")


def test_rows_are_normalised(sparse_settings, tmp_path):
    prepare(sparse_settings.model_copy(update={"normalise": "l2"}), tmp_path / "out")
    found = in_storage_order(tmp_path / "out", "test")
    np.testing.assert_allclose(found.values, normalize(sparse_set()[0]).data, rtol=1e-6)


@pytest.mark.parametrize("layout", ["blocks", "examples"])
def test_dense_vectors(tmp_path, layout):
    vectors = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    labels = np.arange(50) % 7
    np.savez(tmp_path / "all.npz", features=vectors, labels=labels)
    path = str(tmp_path / "all.npz")
    settings = DataSettings(name="toy", train=path, dev=path, layout=layout, shard_examples=20)
    manifest = prepare(settings, tmp_path / "out")
    assert (manifest.kind, manifest.num_features, manifest.num_labels) == (DENSE, 6, 7)
    dev, train = (in_storage_order(tmp_path / "out", split) for split in ("dev", "train"))
    np.testing.assert_array_equal(dev.matrix, vectors)
    np.testing.assert_array_equal(dev.label_ids, labels)
    order = [int(np.flatnonzero((vectors == row).all(axis=1))[0]) for row in train.matrix]
    assert sorted(order) == list(range(50)) and order != list(range(50))
    np.testing.assert_array_equal(train.label_ids, labels[order])


def test_manifest_describes_the_sources(sparse_settings, tmp_path):
    info = prepare(sparse_settings, tmp_path / "out").sources["test"]
    assert info.bytes == os.path.getsize(sparse_settings.test) and len(info.sha256) == 64


def test_built_in_set_is_described_by_its_fingerprint(tmp_path, monkeypatch):
    class BuiltIn:
        """Stands for the real one, whose first reading takes long."""

        num_labels = num_features = num_examples = None
        source_fingerprint = "feed"

        def chunks(self, size):
            yield Chunk(labels=[["a"], ["b"]], texts=["one two", "two"])

    opened = []
    monkeypatch.setattr(
        held_out,
        "open_reader",
        lambda *given, **options: opened.append((given, options)) or BuiltIn(),
    )
    settings = DataSettings(
        name="toy", train="builtin:toy", dev="builtin:toy", text_features=TFIDF,
        reader_options={"jobs": 1}, split_options={"dev": {"split": "dev"}},
    )  # fmt: skip
    source = prepare(settings, tmp_path / "out").sources["train"]
    assert (source.path, source.fingerprint, source.sha256) == ("builtin:toy", "feed", None)
    expected = (("builtin:toy", None, 1 << 24), {"jobs": 1, "split": "dev"})
    assert opened[-1] == expected != opened[0]
    assert changed_source(Manifest.load(tmp_path / "out").sources, tmp_path / "out") is None


def test_ensure_prepared_prepares_once_and_notices_changed_sources(sparse_settings, tmp_path):
    folder = ensure_prepared(sparse_settings, tmp_path / "root")
    assert folder == prepared_folder(sparse_settings, tmp_path / "root")
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert ensure_prepared(sparse_settings, tmp_path / "root") == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    with open(sparse_settings.train, "a") as stream:
        stream.write("\n")
    with pytest.raises(DataError, match=r"data\.train: .*has changed since it was prepared"):
        ensure_prepared(sparse_settings, tmp_path / "root")
    lines = Path(sparse_settings.train).read_text().splitlines()
    first = lines[0].replace("97 ", "96 ", 1)
    Path(sparse_settings.train).write_text("\n".join([first, *lines[1:-2]]) + "\n")
    assert ensure_prepared(sparse_settings, tmp_path / "root", renew=True) == folder
    assert Manifest.load(folder).split("train").examples == 96
    assert ensure_prepared(sparse_settings, tmp_path / "root") == folder
    os.unlink(sparse_settings.train)  # the prepared records alone are enough
    assert ensure_prepared(sparse_settings, tmp_path / "root") == folder


def test_processes_at_once_share_one_folder(sparse_settings, tmp_path):
    root = tmp_path / "root"
    finish(*(Started(ensure_prepared, sparse_settings, root) for _ in range(2)))
    (folder,) = root.iterdir()
    assert ensure_prepared(sparse_settings, root) == folder
    assert Manifest.load(folder).split("train").examples == 97


def test_a_source_of_equal_size_that_changed_is_seen(sparse_settings, tmp_path, monkeypatch):
    folder = ensure_prepared(sparse_settings, tmp_path / "root")
    hashed = []
    checksum = source_files.checksum
    monkeypatch.setattr(
        source_files, "checksum", lambda path: hashed.append(path) or checksum(path)
    )
    assert ensure_prepared(sparse_settings, tmp_path / "root") == folder and not hashed
    path = Path(sparse_settings.train)
    content = path.read_bytes()
    os.utime(path, ns=(1, 1))  # copied: another time, the same content
    for _ in range(2):
        assert ensure_prepared(sparse_settings, tmp_path / "root") == folder
    assert hashed == [path]
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    with pytest.raises(DataError, match=r"data\.train: .*changed.*the same size, other content"):
        ensure_prepared(sparse_settings, tmp_path / "root")
    path.write_bytes(content)
    assert ensure_prepared(sparse_settings, tmp_path / "root") == folder


def test_changed_label_names_are_seen(sparse_settings, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{name}\n" for name in "abcdefghijkl"))
    settings = sparse_settings.model_copy(update={"label_names": str(names)})
    ensure_prepared(settings, tmp_path / "root")
    names.write_text("".join(f"{name}\n" for name in "abcdefghijlk"))
    with pytest.raises(DataError, match=r"data\.label_names: .*names\.txt has changed"):
        ensure_prepared(settings, tmp_path / "root")


def test_a_source_that_changes_while_it_is_read(sparse_settings, tmp_path, monkeypatch):
    write = preparation.write_block_shard

    def meddling(*arguments):
        os.utime(sparse_settings.test, ns=(1, 1))
        return write(*arguments)

    monkeypatch.setattr(preparation, "write_block_shard", meddling)
    with pytest.raises(DataError, match=r"data\.train: .*has changed while it was being prepared"):
        prepare(sparse_settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_our_outputs_in_a_source_folder_are_no_part_of_it(tmp_path):
    matrix, _ = sparse_set(4)
    for name, values in (("X", matrix), ("Y", scipy.sparse.eye(4, format="csr"))):
        scipy.sparse.save_npz(tmp_path / f"{name}.trn.npz", values)
    settings = DataSettings(name="given", train=str(tmp_path))
    folder = ensure_prepared(settings, tmp_path / "prepared")
    assert ensure_prepared(settings, tmp_path / "prepared") == folder
    (tmp_path / "another.npz").touch()
    with pytest.raises(DataError, match="has changed"):
        ensure_prepared(settings, tmp_path / "prepared")


@pytest.mark.parametrize(
    ("labels", "options", "found"),
    [
        (["law", "health", "law;health", "health;law"], {}, "2 of 4 label names .*'health;law'"),
        (["a|b", "b|c", "a|c"], {}, "3 of 3 label names .*separator to '[|]'"),
        (["law", "health", "law;health"], {"label_separator": ";"}, None),
        (["Lyon, France", "Rome, Italy", "Nice, France", "law"], {}, None),
        (["a/b", "c"], {}, None),
        (["a;", "b;", "a;b;"], {}, "1 of 3 label names .*'a;b;'.*separator to ';'"),
        (["a", "b", "a;;b"], {}, "1 of 3 label names .*separator to ';'"),
        (["a", "b", "a\uff1bb"], {}, "1 of 3 label names .*separator to '\uff1b'"),
        (["a", "b", "a\u3001b"], {}, "1 of 3 label names .*separator to '\u3001'"),
        (["a", "b", "a#b", "b#a"], {}, "2 of 4 label names .*separator to '#'"),
        (["Issue #1", "Issue #2", "Task #1", "Task #2"], {}, None),
        (
            ["Mode", "Mode|Oben", "Haus", "Haus|M\u00f6bel"],
            {},
            "2 of 4 label names .*'Haus|M\u00f6bel'.*separator to '[|]', .* 4 labels; .* to null,",
        ),
        (["Mode", "Mode|Oben", "Haus", "Haus|M\u00f6bel"], {"label_separator": None}, None),
        (["a", "b", "c", "a::b", "b::c"], {}, "2 of 5 .*separator to '::', which makes 3 labels"),
    ],
)
def test_cells_of_several_labels_are_warned_of(labels, options, found, tmp_path, capsys):
    rows = "".join(f'some text {number},"{label}"\n' for number, label in enumerate(labels))
    (tmp_path / "train.csv").write_text(f"text,labels\n{rows}")
    settings = DataSettings(
        name="cells", train=str(tmp_path / "train.csv"), text_features=TFIDF, reader_options=options
    )
    prepare(settings, tmp_path / "out")
    warned = capsys.readouterr().err
    assert warned.count("warning: ") == (found is not None)
    if found:
        assert re.search(rf"train\.csv: every example has one label, but {found}", warned), warned


@pytest.mark.parametrize("settled", ["label_names", "split_options"])
def test_names_that_the_user_has_settled_are_not_warned_of(settled, tmp_path, capsys):
    names = ["law", "law|tax", "art", "art|oil"]
    rows = "".join(f"some text {number},{name}\n" for number, name in enumerate(names))
    (tmp_path / "train.csv").write_text(f"text,labels\n{rows}")
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    chosen = {
        "label_names": str(tmp_path / "names.txt"),
        "split_options": {"train": {"label_separator": None}},
    }
    settings = DataSettings(
        name="cells",
        train=str(tmp_path / "train.csv"),
        text_features=TFIDF,
        **{settled: chosen[settled]},
    )
    prepare(settings, tmp_path / "out")
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("train", "dev", "found"),
    [
        (["Topic", "topic", "law"], [], ["2 of 3 .* differ only in upper and lower case"]),
        (["topic", "topic\u200b"], [], ["differ only in blanks or invisible characters"]),
        (
            ["caf\u00e9", "cafe\u0301"],
            [],
            ["'cafe.u0301' and 'caf.xe9' differ only in Unicode form"],
        ),
        (["law", "nan"], [], ["'nan' is a label. If a missing value is meant, leave it empty"]),
        (["law", "nan", "Law"], [], ["'Law' and 'law' differ only", "'nan' is a label"]),
        (["law", "health"], ["law", "art"], []),
    ],
)
def test_labels_that_look_alike_are_warned_of(train, dev, found, tmp_path, capsys):
    files = {"train": train, "dev": dev or train}
    for split, labels in files.items():
        examples = [(f"some text {number}", [label]) for number, label in enumerate(labels)]
        write_jsonl(tmp_path / f"{split}.jsonl", examples)
    paths = {split: str(tmp_path / f"{split}.jsonl") for split in files}
    prepare(DataSettings(name="alike", text_features=TFIDF, **paths), tmp_path / "out")
    warned = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warned) == len(found)
    for line, part in zip(warned, found, strict=True):
        assert re.search(rf"train\.jsonl: .*{part}", line), line


@pytest.mark.parametrize("train", [int, str, float])
@pytest.mark.parametrize("dev", [int, str, float])
def test_a_number_and_its_name_are_one_label_in_all_splits(train, dev, tmp_path):
    """Whatever order they first occur in."""
    labels = {"train": [4, 0, 4, 0, 2], "dev": [0, 2, 4, 3, 1]}
    for (split, numbers), kind in zip(labels.items(), (train, dev), strict=True):
        examples = [(f"some text {n}", [kind(n)]) for n in numbers]
        write_jsonl(tmp_path / f"{split}.jsonl", examples)
    paths = {split: str(tmp_path / f"{split}.jsonl") for split in labels}
    prepare(DataSettings(name="one", text_features=TFIDF, **paths), tmp_path / "out")
    names = LabelVocabulary.load(tmp_path / "out" / "labels.txt").names
    assert names == (["0", "2", "4"] if train is str else ["0", "1", "2", "3", "4"])
    names += LabelVocabulary.load(tmp_path / "out" / "unseen_labels.txt").names
    rows = in_storage_order(tmp_path / "out", "dev")
    assert [int(names[number]) for number in rows.label_ids] == labels["dev"]


DATA = Path(os.environ.get("TFXC_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.mark.skipif(not (DATA / "bibtex").is_dir(), reason="no bibtex below TFXC_DATA")
def test_bibtex(tmp_path):
    settings = DataSettings(
        name="bibtex", train=str(DATA / "bibtex" / "train.txt.xz"),
        test=str(DATA / "bibtex" / "test.txt.xz"), normalise="l2",
    )  # fmt: skip
    manifest = prepare(settings, tmp_path / "out")
    assert (manifest.num_features, manifest.num_labels) == (1836, 159)
    train, test = manifest.split("train"), manifest.split("test")
    assert (train.examples, test.examples) == (4880, 2515)
    assert train.mean_labels == pytest.approx(2.4, abs=0.05)
    rows = read_shard(tmp_path / "out" / train.shards[0].file, "blocks")
    norms = np.sqrt(np.add.reduceat(rows.values**2, rows.indptr[:-1][np.diff(rows.indptr) > 0]))
    np.testing.assert_allclose(norms, 1, rtol=1e-5)


def test_shards_of_the_training_split_have_a_part_of_every_block():
    sizes = [7, 0, 3, 10, 1]
    found = [dealt(sizes, 4, shard) for shard in range(4)]
    assert {sum(stop - start for _, start, stop in shard) for shard in found} == {5, 6}
    rows = sorted(
        (b, row) for shard in found for b, start, stop in shard for row in range(start, stop)
    )
    assert rows == [(block, row) for block, size in enumerate(sizes) for row in range(size)]
    assert [{block for block, *_ in shard} >= {0, 3} for shard in found] == [True] * 4


def test_shards_in_order_end_by_examples_and_by_bytes():
    sizes, each = [1000, 0, 2000], [10, 0, 20]
    by_examples = in_order(sizes, each, 1500, 1 << 30)
    assert by_examples == [[(0, 0, 1000), (2, 0, 500)], [(2, 500, 2000)]]
    by_bytes = in_order(sizes, each, 1500, 12_000)
    assert by_bytes[0] == [(0, 0, 1000), (2, 0, 100)] and by_bytes[1] == [(2, 100, 700)]
    assert in_order([3], [1 << 40], 10, 1000) == [[(0, n, n + 1)] for n in range(3)]
    assert in_order([], [], 10, 10) == []


def test_the_order_of_the_training_split_is_known(sparse_settings, tmp_path, monkeypatch):
    """Blocks of any size; the rows have their number as first value, where they have any."""
    monkeypatch.setattr(preparation, "CHUNK_EXAMPLES", 40)
    info = prepare(sparse_settings, tmp_path / "out", jobs=1).split("train")
    assert info.blocks == [40, 40, 17]
    order = shuffled_order(info.blocks, len(info.shards), sparse_settings.seed)
    rows, (matrix, labels) = in_storage_order(tmp_path / "out", "train"), sparse_set()
    np.testing.assert_array_equal(rows.values, matrix[order].data)
    assert np.diff(rows.label_indptr).tolist() == [len(labels[number]) for number in order]


@pytest.mark.parametrize("texts", [False, True])
def test_training_shards_are_as_many_as_their_bytes_ask_for(tmp_path, monkeypatch, texts):
    monkeypatch.setattr("tfxc.data.store.preparation.SHARD_BYTES", 20_000)
    if texts:
        path = tmp_path / "train.jsonl"
        words = (" ".join(f"w{(7 * n + m) % 40}" for m in range(9)) for n in range(2000))
        path.write_text("".join(f'{{"text": "{text}", "labels": ["a"]}}\n' for text in words))
        more = {"text_features": {"name": "tfidf", "min_df": 1}}
    else:
        path, more = tmp_path / "train.svm", {}
        path.write_text("".join(f"{n % 5} 1:1 {2 + n % 9}:1 40:1\n" for n in range(2000)))
    found = prepare(DataSettings(name="x", train=str(path), **more), tmp_path / "out", jobs=1)
    sizes = [shard.memory_bytes(SPARSE) for shard in found.split("train").shards]
    assert len(sizes) > 3 and max(sizes) < 1.3 * 20_000
    assert found.split("train").examples == 2000
