"""The ranker of a model folder; the search itself is tested with ops.search.beam_search."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from tests.folders import record_again
from tfxc.core.errors import ConfigError, DataError
from tfxc.ranker.search import Ranker, load_layer, search
from tfxc.recipes.xr_linear.model import LinearModel


@pytest.fixture
def folder(imported, tmp_path):
    return Path(shutil.copytree(imported, tmp_path / "model"))


def test_weights_stay_in_their_files(imported):
    layer = load_layer(imported / "ranker" / "layer-3")
    assert all(isinstance(array, np.memmap) for array in layer)


def test_similar_labels_are_those_found_for_the_weights(imported, pecos_model):
    """The weights are those that PECOS wrote; a score is that of an ordinary search."""
    weights = scipy.sparse.load_npz(pecos_model / "ranker/3.model/W.npz").tocsc()
    model = LinearModel(imported)
    for label in (0, 7, weights.shape[1] - 1):
        column = weights[:30, label].T.tocsr()
        column /= np.linalg.norm(column.data)
        ids, scores = Ranker.load(imported).predict(column.astype(np.float32), 6)
        others = [place for place in range(6) if ids[0, place] not in (-1, label)][:5]
        found = model.similar_labels(label, 5)
        np.testing.assert_array_equal(found[0], ids[0, others])
        np.testing.assert_allclose(found[1], scores[0, others], rtol=1e-5)
        assert label not in found[0] and len(others) >= 3


def test_short_lists_and_least_score(imported, queries):
    ranker = Ranker.load(imported)
    ids, scores = ranker.predict(queries, 22, beam_size=2)
    short = ids < 0
    assert short.any(axis=1).all() and np.isneginf(scores[short]).all()
    assert (scores[:, 1:] <= scores[:, :-1]).all()
    level = np.median(scores[~short])
    cut, best = ranker.predict(queries, 22, beam_size=2, min_score=level)
    np.testing.assert_array_equal(cut, np.where(scores >= level, ids, -1))
    np.testing.assert_array_equal(best >= level, cut >= 0)


def test_rows_do_not_depend_on_each_other(imported, queries):
    ranker = Ranker.load(imported)
    ids, scores = ranker.predict(scipy.sparse.vstack([queries] * 5, format="csr"), 5)
    for number in range(12):
        one, own = ranker.predict(queries[number], 5)
        assert one.tolist() == ids[number : number + 1].tolist()
        assert own.tolist() == scores[number : number + 1].tolist()


def test_search_by_names(imported, queries):
    layers = [load_layer(imported / "ranker" / f"layer-{number}") for number in range(4)]
    found = search(layers, queries, [2, 2, 2, 5], ["l3-hinge"] * 4, bias=1.0)
    ids, scores = Ranker.load(imported).predict(queries, 5, beam_size=2)
    np.testing.assert_array_equal(found.indices, ids[ids >= 0])
    np.testing.assert_array_equal(found.data, scores[ids >= 0])


def test_the_lower_layers_alone(imported, queries):
    layers = [load_layer(imported / "ranker" / f"layer-{number}") for number in range(4)]
    rules = ["l3-hinge"] * 2
    codes = search(layers[:2], queries, [2, 2], rules, bias=1.0)
    settings = {"bias": 1.0, "only_topk": [3, 10], "post_processors": rules}
    lower = Ranker(layers[2:], 30, **settings)
    ids, scores = lower.predict(queries, 5, csr_codes=codes)
    found = search(layers, queries, [2, 2, 3, 5], rules * 2, bias=1.0)
    np.testing.assert_array_equal(ids[ids >= 0], found.indices)
    np.testing.assert_array_equal(scores[ids >= 0], found.data)
    with pytest.raises(ConfigError, match="the first layer has 4 parents"):
        lower.predict(queries, 5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, ConfigError, "k: 0 is out of range.*1 to 22"),
        ({"k": 23}, ConfigError, "k: 23 is out of range"),
        ({"beam_size": 0}, ConfigError, "beam_size: 0 is less than 1"),
        ({"post_processor": "softmax"}, ConfigError, "one of noop, sigmoid"),
        ({"features": np.zeros((1, 31), np.float32)}, DataError, "the model has 30 features"),
        ({"features": np.full((1, 30), np.nan)}, DataError, "NaN or infinite"),
    ],
)
def test_what_predict_refuses(imported, options, error, message):
    given = {"features": np.zeros((1, 30), np.float32)} | options
    with pytest.raises(error, match=message):
        Ranker.load(imported).predict(**given)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"format": 2}, DataError, "its format is 2, not 1"),
        ({"num_labels": 23}, DataError, "num_labels is 23, but the last layer has 22"),
        ({"num_features": 20}, DataError, "the numbers go from 0 to 30, but only 0 to 20"),
        ({"layers": 3}, DataError, "there are 4 values for 3 layers"),
        ({"settings": {"only_topk": [1] * 4}}, DataError, "settings.post_processor is not"),
        ({"layers": "x"}, DataError, "layers is not as tfxc writes it"),
        ({"num_features": 10**30}, DataError, "num_features is not as tfxc writes it"),
        ({"bias": [None]}, DataError, "bias is not as tfxc writes it"),
        ({"settings": {"only_topk": 3, "post_processor": []}}, DataError, "only_topk is not"),
        (
            {"settings": {"only_topk": [1] * 4, "post_processor": ["x"] * 4}},
            ConfigError,
            "log-l1-hinge, log-l2-hinge, log-l3-hinge, log-l4-hinge, not 'x'",
        ),
    ],
)
def test_settings_of_a_damaged_folder(folder, change, error, message):
    path = folder / "ranker" / "param.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    record_again(folder / "ranker")
    with pytest.raises(error, match=message) as caught:
        Ranker.load(folder)
    assert str(folder) in str(caught.value)


def test_arrays_of_a_damaged_folder(folder):
    layer = folder / "ranker" / "layer-1"
    (layer / "rows.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"rows\.npy: the file has 7 bytes instead of [0-9]+"):
        Ranker.load(folder)
    record_again(layer, folder / "ranker")
    with pytest.raises(DataError, match=r"rows\.npy: damaged"):
        Ranker.load(folder)
    (layer / "rows.npy").unlink()
    with pytest.raises(DataError, match=r"rows\.npy: no such file"):
        Ranker.load(folder)
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=r"param\.json: no such file"):
        Ranker.load(folder)


@pytest.mark.parametrize("rule", ["l3-hinge", "noop", "sigmoid", "log-l2-hinge"])
def test_chosen_pairs_have_the_scores_of_pecos(imported, queries, rule):
    """``predict(selected_outputs_csr=…)`` of libpecos 1.2.8, of the model before the import."""
    with np.load(Path(__file__).parent / "data" / "pecos_pairs.npz") as frozen:
        expected, splits, labels = frozen[rule], frozen["indptr"], frozen["indices"]
    pairs = scipy.sparse.csr_matrix((np.zeros(len(labels)), labels, splits), (12, 22))
    found = Ranker.load(imported).score_pairs(queries, pairs, post_processor=rule)
    np.testing.assert_array_equal(found.indices, labels)
    np.testing.assert_allclose(found.data, expected, rtol=2e-6, atol=1e-7)
