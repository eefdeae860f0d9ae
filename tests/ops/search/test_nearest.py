"""The approximate search against the exact one."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.label_text_runs import train, write_data
from tests.serving.runs import client_of
from tfxc.commands import evaluate
from tfxc.core.errors import ConfigError
from tfxc.encoders.precomputed import Precomputed
from tfxc.heads.dense import Dense
from tfxc.heads.label_text.head import LabelText
from tfxc.heads.sampled.head import Sampled
from tfxc.inference.search_options import SearchOptions
from tfxc.inference.searcher import Agreement, Searcher
from tfxc.model import XCModel
from tfxc.objectives.sigmoid import Sigmoid
from tfxc.objectives.softmax import Softmax
from tfxc.ops.search.nearest import InnerProducts, NearestRows, of_linear_scores
from tfxc.serving.served import RunOptions

N, DIM = 700, 12
VECTORS = np.random.default_rng(1).standard_normal((40, DIM)).astype(np.float32)


def model_of(head, objective=None):
    model = XCModel(Precomputed(DIM), head, objective or Softmax())
    model(VECTORS[:2])
    random = np.random.default_rng(0)
    for weight in head.weights:
        if len(weight.shape) and weight.name != "trained":
            weight.assign(random.standard_normal(weight.shape).astype(np.float32))
    return model


HEADS = {
    "dense": lambda: Dense(N),
    "fused": lambda: Dense(N, update="fused", learning_rate=0.1),
    "bfloat16": lambda: Dense(N, update="fused", learning_rate=0.1, weights="bfloat16"),
    "linear": lambda: Sampled(N, bias=True),
    "no bias": lambda: Sampled(N, bias=False),
    "cosine": lambda: Sampled(N, score="cosine", scale=16.0),
    "label_text": lambda: LabelText(N, seen_penalty=0.2, label_counts=np.arange(N) % 2),
}


@pytest.mark.parametrize("name", HEADS)
def test_scores_are_inner_products(name):
    model = model_of(HEADS[name]())
    products, vectors = model.head.inner_products(), tf.constant(VECTORS)
    queries, rows = products.queries(vectors), tf.cast(products.rows(0, N), tf.float32)
    assert queries.shape[1] == rows.shape[1] == products.width
    expected = model.head.tile_scores(vectors)(0, N)
    np.testing.assert_allclose(queries @ tf.transpose(rows), expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(products.rows(30, 50), products.rows(0, N)[30:50], rtol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_nearly_all_of_the_best_are_found(name):
    pytest.importorskip("faiss", reason="needs the extra approximate")
    model = model_of(HEADS[name]())
    assert model.search_methods == ("exact", "approximate")
    found = Agreement()
    searcher = Searcher(model, 5, "approximate", compared=found)
    labels = np.full((len(VECTORS), 1), -1, np.int32)
    result = searcher.find({"features": VECTORS, "labels": labels})
    assert found.recall > 0.95
    assert str(found).startswith("recall@5 against the exact search ")
    ids, scores = model.find_top_k(VECTORS, 5, method="exact")
    same = result.ids == ids
    np.testing.assert_allclose(result.scores[same], scores[same], rtol=1e-4, atol=1e-4)
    assert same.mean() > 0.9


@pytest.mark.parametrize("deviation", [0.0, 1.0, 4.0])
def test_labels_with_high_biases_do_not_hide_the_others(deviation):
    pytest.importorskip("faiss", reason="needs the extra approximate")
    random = np.random.default_rng(2)
    centres = random.standard_normal((60, 32))
    rows = centres[random.integers(0, 60, 6000)] + 0.3 * random.standard_normal((6000, 32))
    bias = tf.constant(-9 + deviation * random.standard_normal(6000), tf.float32)
    table, count = tf.constant(rows, tf.float32), len(rows)
    products = of_linear_scores(lambda begin, end: table[begin:end], bias, 32)
    queries = products.queries(table[:200] + 0.1)
    ids, scores = NearestRows(products, count).search(queries.numpy(), 10)
    exact = (queries @ tf.transpose(products.rows(0, count))).numpy()
    best = np.argsort(-exact, axis=1)[:, :10]
    assert np.mean([len({*a} & {*b}) for a, b in zip(ids, best, strict=True)]) > 9.5
    found = np.take_along_axis(exact, ids, axis=1)
    np.testing.assert_allclose(scores, found, rtol=1e-4, atol=1e-3)


def test_agreement_counts_what_is_found():
    found = Agreement()
    found.update(np.array([[1, 2], [3, -1]]), np.array([[2, 4], [3, 5]]), (9.0, 9.0))
    assert found.recall == 0.5 and str(found).endswith("50.00 %")
    found.update(np.array([[1, 2]]), np.array([[2, 1]]), (0.002, 0.004))
    assert str(found).endswith("66.67 %; 2.000 ms per example, with the encoder, instead of 4.000")


def test_fewer_rows_than_wanted():
    pytest.importorskip("faiss", reason="needs the extra approximate")
    table = tf.eye(3)
    index = NearestRows(InnerProducts(lambda b, e: table[b:e], lambda x: x, 3), 3)
    ids, scores = index.search(np.eye(3, dtype=np.float32)[:1], 5)
    assert ids[0, 0] == 0 and sorted(ids[0].tolist()) == [-1, -1, 0, 1, 2]
    assert np.isneginf(scores[0, 3:]).all()


def test_probabilities_of_a_softmax_need_all_labels():
    pytest.importorskip("faiss", reason="needs the extra approximate")
    with pytest.raises(ConfigError, match="--search: the approximate search has no probabilities"):
        model_of(Dense(N)).find_top_k(VECTORS, 5, True, "approximate")
    model = model_of(Dense(N), Sigmoid())
    ids, likely = model.find_top_k(VECTORS, 5, True, "approximate")
    _, scores = model.find_top_k(VECTORS, 5, False, "approximate")
    assert ids.shape == (40, 5)
    np.testing.assert_allclose(likely, tf.sigmoid(scores), rtol=1e-6)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"pip install 'tfxc\[approximate\]'"):
        model_of(Dense(N)).find_top_k(VECTORS, 5, method="approximate")


def test_a_run_is_measured_and_served_by_it(tmp_path, monkeypatch, capsys):
    pytest.importorskip("faiss", reason="needs the extra approximate")
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path)
    train(tmp_path, training={"epochs": 1})
    run = str(tmp_path / "run")
    evaluate.main(["--run", run, "--search", "approximate", "--full-loss", "--k", "1,3"])
    shown = capsys.readouterr().out
    assert "approximate search: recall@3 against the exact search 100.00 %" in shown
    record = json.loads((tmp_path / "run" / "evaluation-dev-approximate.json").read_text())
    assert (record["search"], record["recall_of_search"]) == ("approximate", 1.0)
    with pytest.raises(ConfigError, match="no search 'brute'"):
        evaluate.main(["--run", run, "--search", "brute"])
    with pytest.raises(ConfigError, match="the run's head is 'label_text', which this"):
        evaluate.main(["--run", run, "--search", "approximate", "--search-buckets", "3"])
    client, _ = client_of(
        {"run": run}, options=RunOptions(scores=True, search=SearchOptions(search="approximate"))
    )
    with client:
        answer = client.post("/predict", json={"texts": ["where is the red fox"], "k": 1})
    assert answer.json()["predictions"][0][0]["label"] == "red_fox"
