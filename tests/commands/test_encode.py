"""The command encode: the encoder's vectors of files and pipes."""

import sys

import numpy as np
import pytest

from tests.commands.calls import call, listing
from tests.linear_runs import write_config
from tests.small_runs import TEXTS, make_run
from tfxc.commands import encode, train
from tfxc.runs.loaded import load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encode")
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return make_run(folder / "run", text_features={"name": "tfidf"})


def expected(run):
    """Vectors of ``TEXTS`` by the formula of a network with one hidden layer."""
    loaded = load_run(run)
    table, bias = (np.asarray(w.value) for w in loaded.model.encoder.trainable_weights)
    return np.maximum(loaded.text_features.transform(TEXTS) @ table + bias, 0)


def test_vectors_of_a_file(run, tmp_path, capsys):
    texts, vectors = run.parent / "texts.txt", expected(run)
    for size in (2, 100):
        output = tmp_path / f"{size}.npy"
        arguments = ("--run", run, texts, "--output", output, "--batch-size", size)
        outcome = call(capsys, encode, *arguments)
        assert outcome.code == 0 and "5 vectors of 6 float32" in outcome.out
        found = np.load(output)
        assert found.dtype == np.float32 and not np.isfortran(found)
        np.testing.assert_allclose(found, vectors, rtol=1e-5, atol=1e-6)
    more = ("--unit-norm", "--dtype", "float16")
    assert call(capsys, encode, *arguments, *more).code == 0
    found = np.load(output)
    assert found.dtype == np.float16
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(found, vectors / np.where(lengths > 0, lengths, 1), atol=1e-3)


def test_vectors_of_a_pipe(run, tmp_path, capsys, monkeypatch):
    output = tmp_path / "piped.npy"
    with open(run.parent / "texts.txt", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert call(capsys, encode, "--run", run, "--output", output).code == 0
    np.testing.assert_allclose(np.load(output), expected(run), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_encoded(run, tmp_path, capsys):
    arguments = ("--run", run, run.parent / "texts.txt", "--output")
    assert call(capsys, encode, *arguments, tmp_path / "vectors.txt").code == 2
    (tmp_path / "none.txt").write_text("")
    output = ("--output", tmp_path / "vectors.npy")
    problem = call(capsys, encode, "--run", run, tmp_path / "none.txt", *output).problem()
    assert problem.startswith(f"{tmp_path / 'none.txt'}: there are no examples")
    problem = call(capsys, encode, "--run", run, tmp_path / "absent.txt", *output).problem()
    assert "no such file" in problem
    assert set(listing(tmp_path)) == {"none.txt"}


def test_values_beyond_16_bits(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "tfxc.inference.embedder.Embedder.__call__", lambda _self, _: np.float32([[1, 2], [1, 7e4]])
    )
    arguments = ("--run", run, run.parent / "texts.txt", "--output", tmp_path / "vectors.npy")
    problem = call(capsys, encode, *arguments, "--dtype", "float16").problem()
    assert "the vector of example 2 is not finite in float16" in problem
    assert not listing(tmp_path)
    assert call(capsys, encode, *arguments, "--dtype", "float16", "--unit-norm").code == 0


@pytest.mark.parametrize("more", [(), ("--unit-norm",), ("--dtype", "float16")])
def test_what_is_no_number_is_never_written(run, more, tmp_path, capsys, monkeypatch):
    found = np.float32([[1, 2], [1, np.nan]])
    monkeypatch.setattr("tfxc.inference.embedder.Embedder.__call__", lambda _self, _: found)
    arguments = ("--run", run, run.parent / "texts.txt", "--output", tmp_path / "vectors.npy")
    problem = call(capsys, encode, *arguments, *more).problem()
    assert "the vector of example 2 is not finite in float32" in problem
    assert not listing(tmp_path)


def test_a_run_without_encoder(tmp_path, capsys):
    config = write_config(tmp_path)
    assert call(capsys, train, "--config", config, "--prepared", tmp_path / "prepared").code == 0
    arguments = ("--run", tmp_path / "run", tmp_path / "dev.jsonl", "--output", tmp_path / "v.npy")
    problem = call(capsys, encode, *arguments).problem()
    assert problem.startswith("--run: a run of recipe 'xr_linear' has no encoder")
