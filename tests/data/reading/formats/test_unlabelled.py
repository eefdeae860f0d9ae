"""Examples without labels."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.kinds import KINDS
from tfxc.data.reading.formats import open_reader, open_unlabelled
from tfxc.data.store.conversion import Converter


def texts_of(source):
    chunks = list(source.chunks(2))
    assert all(chunk.labels == [[] for _ in chunk.texts] for chunk in chunks)
    return [text for chunk in chunks for text in chunk.texts]


def test_plain_text_keeps_empty_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\n\n tw\xc3\xb6 \r\nthree")
    assert texts_of(open_unlabelled(tmp_path / "a.txt", "text")) == ["one", "", " twö ", "three"]
    (tmp_path / "notes").write_text("x\ny")
    assert texts_of(open_unlabelled(tmp_path / "notes", "text", "lines")) == ["x", "y"]
    with pytest.raises(DataError, match="the name has no ending that shows the format"):
        open_unlabelled(tmp_path / "notes", "text")


def test_repository_file_is_no_plain_text(tmp_path):
    (tmp_path / "a.txt").write_text("1 3 2\n0 2:1.5\n")
    (chunk,) = open_unlabelled(tmp_path / "a.txt", "sparse").chunks(10)
    assert chunk.features.toarray().tolist() == [[0, 0, 1.5]]


def test_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n\n{"text": "y", "labels": 7}\n')
    assert texts_of(open_unlabelled(path, "text", defaults={"labels_field": "tags"})) == ["x", "y"]
    for line, problem in (("[1]", "JSON object"), ('{"text": 1}', "not a text"), ("{}", "no key"),
                          ("{", "JSON object"), ('{"text": "\\ud800"}', "surrogate")):  # fmt: skip
        path.write_text(f'{{"text": "x"}}\n{line}\n')
        with pytest.raises(DataError, match=rf"a.jsonl:2.*{problem}"):
            texts_of(open_unlabelled(path, "text"))


def test_readers_without_labels_are_no_training_data(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ConfigError, match="files of format 'lines' have no labels"):
        open_reader(tmp_path / "a.txt", "lines")
    with pytest.raises(DataError, match="the first line, 'x', is of no known format"):
        open_reader(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"the ending \.py is of no known format"):
        open_reader(__file__)


def test_one_image(tmp_path):
    path = tmp_path / "cat.JPG"
    path.write_bytes(b"jpeg")
    (chunk,) = open_unlabelled(path, "image").chunks(8)
    assert (chunk.images, chunk.names, chunk.labels) == ([b"jpeg"], [str(path)], [[]])
    with pytest.raises(DataError, match=r"the ending \.JPG is of no known format"):
        open_unlabelled(path, "text")


def test_unknown_options_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.jsonl").write_text('{"text": "x"}')
    for name in ("a.txt", "a.jsonl"):
        with pytest.raises(ConfigError, match="has no argument 'sep'"):
            open_unlabelled(tmp_path / name, "text", options={"sep": ";"})
        open_unlabelled(tmp_path / name, "text", defaults={"sep": ";"})
    with pytest.raises(ConfigError, match="unknown reader 'json', did you mean 'jsonl'"):
        open_unlabelled(tmp_path / "a.jsonl", "text", "json")


def test_defaults_are_used_where_they_fit(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "x", "title": "y"}')
    defaults = {"text_field": "body", "separator": ";"}
    assert texts_of(open_unlabelled(tmp_path / "a.jsonl", "text", defaults=defaults)) == ["x"]
    chosen = {"text_field": "title"}
    found = open_unlabelled(tmp_path / "a.jsonl", "text", options=chosen, defaults=defaults)
    assert texts_of(found) == ["y"]


def bags(count=7):
    return scipy.sparse.random(count, 5, 0.4, "csr", np.float32, rng=np.random.default_rng(4))


def features_of(source, size=3):
    chunks = list(source.chunks(size))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert all(chunk.labels == [[]] * len(chunk) for chunk in chunks)
    parts = [chunk.features for chunk in chunks]
    assert all(part.dtype == np.float32 for part in parts)
    if scipy.sparse.issparse(parts[0]):
        return scipy.sparse.vstack(parts).toarray()
    return np.concatenate(parts)


@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
def test_a_sparse_matrix_alone(tmp_path, layout):
    scipy.sparse.save_npz(tmp_path / "X.npz", bags().asformat(layout).astype(np.float64))
    reader = open_unlabelled(tmp_path / "X.npz", "sparse", defaults={"zero_based": True})
    assert (reader.num_examples, reader.num_features) == (7, 5)
    np.testing.assert_array_equal(features_of(reader), bags().toarray())
    with pytest.raises(ConfigError, match="reader 'matrix_file' has no argument 'split'"):
        open_unlabelled(tmp_path / "X.npz", "sparse", options={"split": "tst"})


def test_a_dense_matrix_alone(tmp_path):
    vectors = np.random.default_rng(2).normal(size=(7, 5))
    np.save(tmp_path / "X.npy", vectors)
    found = features_of(open_unlabelled(tmp_path / "X.npy", "dense"))
    np.testing.assert_array_equal(found, vectors.astype(np.float32))
    for name, arrays in (("bare", {}), ("labelled", {"labels": np.full(7, -3)})):
        np.savez(tmp_path / f"{name}.npz", features=vectors, **arrays)
        found = features_of(open_unlabelled(tmp_path / f"{name}.npz", "dense"))
        np.testing.assert_array_equal(found, vectors.astype(np.float32))


def test_matrices_that_are_none(tmp_path):
    np.save(tmp_path / "X.npy", np.zeros(3))
    (tmp_path / "damaged.npy").write_text("x")
    (tmp_path / "damaged.npz").write_text("x")
    np.savez(tmp_path / "other.npz", shape=[3, 4])
    problems = {
        "X.npy": r"instead of numbers \(m, dim\)", "damaged.npy": "damaged, or of another format",
        "damaged.npz": "truncated or damaged", "other.npz": "no array 'features'",
        "none.npy": "no such file", "none.npz": "no such file",
    }  # fmt: skip
    for name, problem in problems.items():
        with pytest.raises(DataError, match=rf"{name}.*{problem}"):
            open_unlabelled(tmp_path / name, "dense")


def test_a_pecos_folder_without_labels(tmp_path):
    scipy.sparse.save_npz(tmp_path / "X.tst.npz", bags())
    reader = open_unlabelled(tmp_path, "sparse", options={"split": "tst"})
    np.testing.assert_array_equal(features_of(reader), bags().toarray())
    (tmp_path / "X.tst.txt").write_text("a\n" * 6)
    with pytest.raises(DataError, match=r"X\.tst\.txt: the file has 6 examples, X\.tst\.npz 7"):
        features_of(open_unlabelled(tmp_path, "sparse", options={"split": "tst"}))
    (tmp_path / "X.tst.npz").unlink()
    assert texts_of(open_unlabelled(tmp_path, "text", options={"split": "tst"})) == ["a"] * 6
    with pytest.raises(DataError, match=r"no X\.trn\.txt or X\.trn\.npz, only"):
        open_unlabelled(tmp_path, "text")


@pytest.mark.parametrize("dense", [False, True])
def test_a_matrix_of_the_other_kind(tmp_path, dense):
    scipy.sparse.save_npz(tmp_path / "X.npz", bags())
    np.save(tmp_path / "X.npy", bags().toarray())
    file, input_kind = ("X.npz", "dense") if dense else ("X.npy", "sparse")
    no_labels = SimpleNamespace(convert=lambda *_, **__: (np.zeros(4, int), np.zeros(0, int)))
    converter = Converter(numbering=no_labels, num_features=5, kind=KINDS[input_kind])
    chunks = open_unlabelled(tmp_path / file, input_kind).chunks(3)
    found = "sparse" if dense else "dense"
    with pytest.raises(
        DataError, match=f"these are 5 {found} features, but .* has 5 {input_kind} ones"
    ):
        list(converter.rows(chunks, file))
