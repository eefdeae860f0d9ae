"""Averaged heads against NumPy: every search, whatever the parts the labels are scored in."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.heads.bases import label_chunks
from tfxc.heads.dense import Dense
from tfxc.heads.label_text.head import LabelText
from tfxc.heads.margin import Margin
from tfxc.heads.mhs import MHS
from tfxc.heads.sampled.head import Sampled
from tfxc.recipes.kfold.averaged_head import Averaged

N, DIM, K = 11, 6, 4
HEADS = {
    "dense": lambda seed: Dense(N, seed=seed),
    "fused": lambda seed: Dense(N, seed=seed, update="fused"),
    "sampled": lambda seed: Sampled(N, bias=True, seed=seed),
    "margin": lambda seed: Margin(N, scale=8.0, seed=seed),
    "label_text": lambda seed: LabelText(N, free_vectors=True, seed=seed),
    "mhs": lambda seed: MHS(N, heads=[4, 3], num_sampled_heads=2, bias=True, seed=seed),
    # Each fold has an order of its own: it learns from other examples.
    "mhs in its own order": lambda seed: MHS(
        N, heads=[4, 3], num_sampled_heads=2, label_order="random", seed=seed
    ),
}


def scores_of_labels(head, features):
    """Float64 (batch, N), from ``call`` alone."""
    scores = head(features).numpy().astype(np.float64)
    if isinstance(head, MHS):
        scores = scores[:, head.codes_of(tf.range(N)).numpy()]
    return scores


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("small", [False, True])
def test_every_search_equals_the_mean_of_scores(name, small, monkeypatch):
    monkeypatch.setattr(label_chunks, "CHUNK", 4)
    if small:
        for tile in ("TILE", "_LOSS_TILE", "_RANK_TILE"):
            monkeypatch.setattr(f"tfxc.heads.base.{tile}", 5)
        monkeypatch.setattr("tfxc.heads.base._TILE_EXAMPLES", 1)
    features = tf.random.stateless_normal((5, 2, DIM), (0, 1))
    parts = [HEADS[name](seed) for seed in (3, 4)]
    for number, part in enumerate(parts):
        part(features[:, number])
        for weight in part.weights:
            if weight.dtype == "float32":
                weight.assign(tf.random.stateless_normal(weight.shape, (number, 7)))
    head = Averaged(parts)
    expected = np.mean([scores_of_labels(part, features[:, n]) for n, part in enumerate(parts)], 0)
    order = np.argsort(-expected, axis=1, kind="stable")

    np.testing.assert_allclose(head(features), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.all_scores(features), expected, rtol=1e-4, atol=1e-5)
    ids, scores = head.top_k(features, K)
    np.testing.assert_array_equal(ids, order[:, :K])
    np.testing.assert_allclose(scores, -np.sort(-expected, 1)[:, :K], rtol=1e-4, atol=1e-5)

    labels = np.int32([[3, -1], [0, 7], [10, -1], [-1, -1], [5, 2]])
    ids, scores, losses = head.top_k_and_loss(features, labels, K)
    np.testing.assert_array_equal(ids, order[:, :K])
    log_sums = np.log(np.exp(expected).sum(1))
    means = [row[true[true >= 0]].mean() if true.max() >= 0 else np.nan
             for row, true in zip(expected, labels, strict=True)]  # fmt: skip
    np.testing.assert_allclose(losses, log_sums - means, rtol=1e-4, atol=1e-5)

    none = tf.fill([5, 1], -1)
    for searched, of_labels, vectors in (
        (head, expected, features),
        (parts[0], scores_of_labels(parts[0], features[:, 0]), features[:, 0]),
    ):
        ranks = searched.label_ranks(vectors, tf.constant(labels), none).numpy()
        for row, true, found in zip(of_labels, labels, ranks, strict=True):
            true = true[true >= 0]
            others = np.delete(row, true)  # other true labels do not count
            wanted = [1 + (others > row[label]).sum() for label in true]
            assert found[: len(true)].tolist() == wanted
