import bz2
import gzip
import json

import numpy as np
import pytest

from tests.data.text.static_tables import make_table
from tests.processes import Started, finish
from tests.small_runs import config_tree
from tfxc import XCClassifier
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.store.preparation import ensure_prepared
from tfxc.data.text.registry import build_text_features
from tfxc.pretrained.word_vectors import read_vectors
from tfxc.training.job import TrainingJob
from tfxc.training.strategies import make_strategy

TWO = {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1"]}
LINES = ["4 3", "fox 1 2 3", "zebra 9 9 9", "caf\u00e9 -0.5 1e-2 7 ", "fox 8 8 8"]


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def job(folder, encoder=None, **sections):
    """A training on a few texts of the words fox, hen and café."""
    examples = [{"text": text, "labels": [label]} for text, label in
                (("fox hen", "a"), ("hen café", "b"), ("fox café hen", "a"))]  # fmt: skip
    for split in ("train", "dev"):
        write(folder / f"{split}.jsonl", map(json.dumps, examples))
    encoder = {"name": "fasttext", "embedding_dim": 3, "hidden_dim": 2, **(encoder or {})}
    texts = {"name": "words", "min_count": 1}
    tree = config_tree(folder, encoder, data={"text_features": texts, **sections})
    config = parse_config(tree)
    return TrainingJob(config, ensure_prepared(config.data, folder / "prepared"), folder / "run")


def table_of(found):
    trainer = found.trainer(make_strategy(found.config.training, found.config))
    return trainer.model.encoder.table.numpy()


def test_rows_of_words_that_the_file_has(tmp_path, capsys):
    path = write(tmp_path / "x.vec", LINES)
    random = table_of(job(tmp_path))
    table = table_of(job(tmp_path, {"vectors": str(path)}))
    # By frequency, then in order of the alphabet: [PAD], hen, café, fox, [UNK].
    np.testing.assert_allclose(table[2:4], [[-0.5, 0.01, 7], [1, 2, 3]])
    np.testing.assert_array_equal(table[[0, 1, 4]], random[[0, 1, 4]])
    assert "x.vec: vectors of 2 of 5 tokens" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["binary", "word pieces"])
def test_static_tables(tmp_path, capsys, kind):
    """A token begins with the mean of what a table cuts it into; [PAD] and [UNK] do not."""
    written = make_table(tmp_path, kind)
    (tmp_path / "run").mkdir()
    random = table_of(job(tmp_path / "run", {"embedding_dim": 4}))
    table = table_of(job(tmp_path / "run", {"vectors": written, "embedding_dim": 4}))
    rows = build_text_features({"name": "static", "table": written}).fit([])
    expected = rows.transform(["hen", "café", "fox"]).toarray()
    known = [1, 2, 3] if kind == "binary" else [1, 3]  # no piece is a part of café
    np.testing.assert_allclose(table[known], expected[[row - 1 for row in known]], rtol=1e-6)
    rest = np.setdiff1d(np.arange(5), known)
    np.testing.assert_array_equal(table[rest], random[rest])
    assert f"vectors of {len(known)} of 5 tokens" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="has vectors of length 4, but"):
        table_of(job(tmp_path / "run", {"vectors": written}))


@pytest.mark.parametrize("variable", ["TFXC_DATA", "TFXC_MODELS"])
@pytest.mark.parametrize("kind", ["words", "binary", "word pieces"])
def test_paths_of_both_kinds_are_expanded(tmp_path, capsys, monkeypatch, kind, variable):
    """Below the folder of the data, or of the models; with and without the variable."""
    folder = tmp_path / {"TFXC_DATA": "data", "TFXC_MODELS": "models"}[variable]
    folder.mkdir()
    name = make_table(folder, kind).rpartition("/")[2]
    monkeypatch.chdir(tmp_path)
    for value in (None, str(folder)):
        if value is None:
            monkeypatch.delenv(variable, raising=False)
        else:
            monkeypatch.setenv(variable, value)
        written = f"${{{variable}}}/{name}"
        table_of(job(tmp_path, {"vectors": written, "embedding_dim": 4}))
        assert "of 5 tokens; the others" in capsys.readouterr().err
        assert build_text_features({"name": "static", "table": written}).fit([]).num_features == 4


@pytest.mark.parametrize("name", ["absent.bin", "folder"])
def test_the_key_of_a_table_is_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError) as error:
        table_of(job(tmp_path, {"vectors": str(tmp_path / name), "embedding_dim": 4}))
    assert "text_features" not in str(error.value)
    if name == "absent.bin":
        assert str(error.value).startswith("encoder.vectors: there is no static table at")


@pytest.mark.parametrize(
    ("name", "pack"),
    [("x.vec.gz", gzip.compress), ("X.VEC.BZ2", bz2.compress), ("y", gzip.compress)],
)
def test_compressed_files(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(write(tmp_path / "x.vec", LINES).read_bytes()))
    rows, vectors = read_vectors(tmp_path / name, {"fox": 3, "owl": 4, "café": 2}.get, 3)
    assert rows.tolist() == [2, 3]
    np.testing.assert_allclose(vectors, [[-0.5, 0.01, 7], [1, 2, 3]])


def test_words_with_blanks(tmp_path):
    path = write(tmp_path / "x.vec", [". . . 1 2", "at name@domain.com 3 4"])
    rows, vectors = read_vectors(path, {". . .": 5, "at name@domain.com": 4}.get, 2)
    np.testing.assert_array_equal(vectors[np.argsort(rows)], [[3, 4], [1, 2]])
    with pytest.raises(DataError, match=r"x.vec:1: the line has 3 numbers .* is 2"):
        read_vectors(write(tmp_path / "x.vec", ["fox 1 2 3"]), {}.get, 2)


def save_copies(folder, path):
    """Saves the table of every replica."""
    found = job(folder, {"vectors": str(path)})
    training = {**found.config.training.model_dump(), **TWO}
    settings = type(found.config.training)(**training)
    found.config = found.config.model_copy(update={"training": settings})
    strategy = make_strategy(found.config.training, found.config)
    table = found.trainer(strategy).model.encoder.table.value
    np.savez(folder / "copies.npz", *strategy.experimental_local_results(table))


@pytest.mark.slow
def test_the_tables_of_all_replicas_have_them(tmp_path):
    path = write(tmp_path / "x.vec", LINES)
    expected = table_of(job(tmp_path, {"vectors": str(path)}))
    finish(Started(save_copies, tmp_path, path))
    with np.load(tmp_path / "copies.npz") as copies:
        assert len(copies.files) == 2
        for name in copies.files:
            np.testing.assert_array_equal(copies[name], expected)


def test_a_run_is_read_without_the_file(tmp_path):
    from tfxc.runs.loaded import load_run

    path = write(tmp_path / "x.vec", LINES)
    job(tmp_path, {"vectors": str(path)}).run()
    path.unlink()
    assert load_run(tmp_path / "run").model.encoder.table.shape == (5, 3)


def test_files_that_do_not_fit(tmp_path):
    with pytest.raises(DataError, match=r"x.vec:2: the line has 3 numbers after the word, but"):
        read_vectors(write(tmp_path / "x.vec", LINES), {}.get, 4)
    with pytest.raises(DataError, match=r"x.vec:1: not all values .* finite"):
        read_vectors(write(tmp_path / "x.vec", ["fox 1 nan"]), {"fox": 1}.get, 2)
    with pytest.raises(DataError, match="no such file"):
        read_vectors(tmp_path / "absent.vec", {}.get, 2)
    path = write(tmp_path / "x.vec", ["zebra 1 2 3"])
    with pytest.raises(DataError, match="a vector of none of the 5 tokens"):
        table_of(job(tmp_path, {"vectors": str(path)}))
    with pytest.raises(ConfigError, match=r"encoder.vectors: encoder BagMLP has no table"):
        encoder = {"name": "bag_mlp", "hidden": [4], "vectors": str(path)}
        found = job(tmp_path, text_features={"name": "tfidf"})
        section = type(found.config.encoder)(**encoder)
        found.config = found.config.model_copy(update={"encoder": section})
        table_of(found)


def test_the_estimator_starts_from_them(tmp_path, capsys):
    path = write(tmp_path / "x.vec", LINES)
    encoder = {"name": "fasttext", "embedding_dim": 3, "hidden_dim": 2, "vectors": str(path)}
    model = XCClassifier(
        encoder, "dense", "softmax", text_features={"name": "words", "min_count": 1},
        epochs=1, learning_rate=1e-9, verbose=True,
    )  # fmt: skip
    model.fit(["fox hen", "hen café", "fox café hen"], ["a", "b", "a"])
    table = model._fitted.model.encoder.table.numpy()
    np.testing.assert_allclose(table[2:4], [[-0.5, 0.01, 7], [1, 2, 3]], atol=1e-5)
