"""Models of libpecos 1.2.8: a tiny one with its predictions stands in data/."""

import importlib
import json
import shutil

import numpy as np
import pytest
import scipy.sparse

from tests.ranker.imported import import_pecos
from tfxc.core.errors import ConfigError, DataError
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ops.search.beam_search.beam_search import has_native
from tfxc.ops.search.beam_search.post_processors import POST_PROCESSORS
from tfxc.ranker.search import Ranker


@pytest.fixture
def damaged(pecos_model, tmp_path):
    """A function: file of the model and its new bytes (None: no file) -> the changed model."""

    def change(name, content):
        shutil.copytree(pecos_model, tmp_path / "damaged")
        path = tmp_path / "damaged" / name
        path.unlink() if content is None else path.write_bytes(content)
        return tmp_path / "damaged"

    return change


@pytest.mark.parametrize(
    "native", [False, pytest.param(True, marks=pytest.mark.skipif(not has_native(), reason="-"))]
)
@pytest.mark.parametrize("name", list(POST_PROCESSORS))
def test_predictions_of_pecos(imported, frozen, queries, name, native):
    ranker = Ranker.load(imported, native=native)
    for beam in (2, 10):
        ids, scores = ranker.predict(queries, 5, beam_size=beam, post_processor=name)
        expected = frozen[f"{name}/{beam}/ids"]
        valid = expected >= 0
        np.testing.assert_array_equal(ids >= 0, valid)
        wanted = frozen[f"{name}/{beam}/scores"]
        np.testing.assert_allclose(scores[valid], wanted[valid], rtol=1e-6, atol=1e-6)
        # Equal scores stand by label here and by the parents' places there.
        for row in range(len(ids)):
            by_label = [
                np.lexsort((found[row], -scores[row].round(6))) for found in (ids, expected)
            ]
            assert ids[row][by_label[0]].tolist() == expected[row][by_label[1]].tolist()


def test_tree_and_settings_come_along(pecos_model, imported):
    tree = ClusterTree.load(imported / "tree.npz")
    assert tree.sizes == [2, 4, 8, 22]
    for level in range(4):
        stored = scipy.sparse.load_npz(pecos_model / f"ranker/{level}.model/C.npz")
        assert (tree.matrix(level) != stored).nnz == 0
    ranker = Ranker.load(imported)
    assert (ranker.num_features, ranker.num_labels, ranker.bias) == (30, 22, 1.0)
    assert ranker.sizes == tree.sizes and ranker.only_topk == [20] * 4
    assert [rule.name for rule in ranker.post_processors] == ["l3-hinge"] * 4


def test_the_command(pecos_model, tmp_path, capsys):
    command = importlib.import_module("tfxc.commands.import")
    assert command.main(["pecos", str(pecos_model), "--run", str(tmp_path / "out")]) == 0
    assert "layers of 2, 4, 8, 22 nodes" in capsys.readouterr().out
    assert Ranker.load(tmp_path / "out").num_labels == 22


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ranker/param.json", None, "ranker/param.json: no such file"),
        ("ranker/param.json", b"{", "ranker/param.json: damaged"),
        ("ranker/param.json", b"[]", "not a JSON object"),
        ("ranker/param.json", b"{}", "the model is None, not PECOS's"),
        ("ranker/1.model/W.npz", None, r"1\.model/W\.npz: no such file"),
        ("ranker/1.model/C.npz", None, r"1\.model/C\.npz: no such file"),
        ("ranker/1.model/W.npz", b"no zip", r"1\.model/W\.npz: .*damaged"),
        ("ranker/2.model/param.json", None, r"2\.model/param\.json: no such file"),
        ("ranker/2.model/param.json", b"{}", r"2\.model/param\.json: the key 'bias'"),
    ],
)
def test_files_missing_or_damaged(damaged, tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        import_pecos(damaged(name, content), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        (
            "post_processor",
            "l5-hinge",
            ConfigError,
            r"log-l4-hinge, not 'l5-hinge', did you mean 'l4-hinge'\? Change it",
        ),
        ("nr_features", 31, DataError, "num_features is 31, in the first layer 30"),
        ("bias", -1.0, DataError, "bias is None, in the first layer 1.0"),
    ],
)
def test_settings_that_do_not_fit(damaged, pecos_model, tmp_path, key, value, error, message):
    name = "ranker/2.model/param.json"
    param = json.loads((pecos_model / name).read_text())
    (param["pred_kwargs"] if key in param["pred_kwargs"] else param)[key] = value
    with pytest.raises(error, match=message) as caught:
        import_pecos(damaged(name, json.dumps(param).encode()), tmp_path / "out")
    assert str(caught.value).startswith(str(tmp_path / "damaged" / name))


@pytest.mark.parametrize(
    ("name", "matrix", "message"),
    [
        ("W", np.ones((30, 22)), r"its shape is \(30, 22\), not \(31, 22\)"),
        ("W", np.full((31, 22), np.nan), "a weight is NaN"),
        ("C", np.ones((22, 9)), "it has 9 columns, but the layer above has 8 nodes"),
        ("C", np.eye(22, 8), "node 8 has 0 parents"),
    ],
)
def test_matrices_that_do_not_fit(damaged, tmp_path, name, matrix, message):
    model = damaged(f"ranker/3.model/{name}.npz", b"")
    path = model / f"ranker/3.model/{name}.npz"
    scipy.sparse.save_npz(path, scipy.sparse.csc_matrix(matrix, dtype=np.float32))
    with pytest.raises(DataError, match=f"{name}.npz: {message}"):
        import_pecos(model, tmp_path / "out")
