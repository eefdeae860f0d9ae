"""ONNX and LiteRT models: against NumPy, and what goes wrong."""

import json
import sys

import numpy as np
import pytest

from tests.exports.methods import DENSE
from tests.exports.test_savedmodel import dense_scores
from tests.small_runs import NAMES, TEXTS, make_run
from tfxc.core import registry
from tfxc.core.errors import ConfigError, UserError
from tfxc.core.storage.ownership import MARKER
from tfxc.exports import convert, litert, onnx, parity
from tfxc.exports.convert import export_model
from tfxc.exports.parity import Expected, examples_of, outputs_of_function
from tfxc.runs.loaded import load_run

BOTH = pytest.mark.parametrize("form", ["onnx", "litert"])
FORMATS = {"onnx": onnx.FORMAT, "litert": litert.FORMAT}
WIDE = {**DENSE, "num_features": 64}


@pytest.fixture(autouse=True)
def _needs_the_extra(request):
    if "onnx" in request.node.name:
        for name in ("tf2onnx", "onnx", "onnxruntime"):
            pytest.importorskip(name, reason="the extra onnx is not installed")


def small_run(tmp_path, **settings):
    return load_run(make_run(tmp_path / "run", **(settings or DENSE)))


@BOTH
@pytest.mark.parametrize("normalise", [pytest.param(None, marks=pytest.mark.slow), "l2"])
def test_bags_of_any_number_equal_numpy(tmp_path, form, normalise):
    run = small_run(tmp_path, normalise=normalise)
    done = export_model(run, tmp_path / "out", form, 12)
    assert done.input_kind == "sparse" and done.batch is None and done.score_difference < 1e-5
    model = FORMATS[form].open(done.folder / done.file)
    for lengths in ([0], [3], [1, 0, 7, 2], [0, 0], [20] * 30):
        matrix = np.zeros((len(lengths), 20), np.float32)
        draw = np.random.default_rng(len(lengths))
        for row, length in zip(matrix, lengths, strict=True):
            row[draw.choice(20, length, replace=False)] = draw.uniform(1, 2, length)
        rows, ids = np.nonzero(matrix)
        splits = np.concatenate([[0], np.cumsum(lengths)])
        bags = {"ids": np.int32(ids), "weights": matrix[rows, ids], "row_splits": splits}
        found_ids, scores = model(bags)
        norms = np.linalg.norm(matrix, axis=1, keepdims=True) if normalise else 1
        expected = dense_scores(run.model, matrix / np.maximum(norms, 1e-9))
        np.testing.assert_allclose(scores, -np.sort(-expected, axis=1), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            np.take_along_axis(expected, found_ids, 1), scores, rtol=1e-4, atol=1e-6
        )


@BOTH
def test_the_folder_holds_what_a_server_needs(tmp_path, form):
    run = small_run(tmp_path, text_features={"name": "tfidf"})
    done = export_model(run, tmp_path / "out", form)
    names = (done.folder / "labels.txt").read_text(encoding="utf-8").split("\n")
    assert names[: len(NAMES)] == NAMES and (done.folder / "text_features").is_dir()
    assert {path.name for path in done.folder.iterdir()} == {
        done.file, "export.json", "labels.txt", "predict.py", "text_features", MARKER,
        "checksums.json",
    }  # fmt: skip
    assert done.size_bytes == (done.folder / done.file).stat().st_size < done.folder_bytes
    for folder in (done.folder, done.folder / "text_features"):
        (folder / "__pycache__").mkdir()  # as Python does that has run the programs
    export_model(run, tmp_path / "out", form, 2)  # an older one is replaced
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(UserError, match="contains other files; nothing was removed"):
        export_model(run, tmp_path / "mine", form)


# Eight bits of LiteRT: commands/test_export_formats.py.
@pytest.mark.parametrize("form", ["onnx", pytest.param("litert", marks=pytest.mark.slow)])
def test_eight_bits(tmp_path, form, monkeypatch):
    dev = tmp_path / "dev.jsonl"
    dev.write_text("".join(json.dumps({"text": t, "labels": ["e"]}) + "\n" for t in TEXTS * 20))
    data = {"name": "small", "train": "gone.jsonl", "dev": str(dev)}
    features = {"name": "hashing", "num_features": 4096}
    encoder = {"name": "bag_mlp", "hidden": [64]}
    run = small_run(tmp_path, text_features=features, encoder=encoder)
    run.config = run.config.model_copy(
        update={"data": run.config.data.model_copy(update={"dev": data["dev"]})}
    )
    exact = export_model(run, tmp_path / "exact", form)
    done = export_model(run, tmp_path / "small", form, int8=True, min_agreement=0.5)
    assert exact.agreement is None and done.score_difference < 1e-5
    assert done.agreement.examples == 100 and "dev.jsonl" in done.agreement.source
    assert 0 < done.agreement.score_difference < 0.1 and done.agreement.share > 0.5
    assert done.size_bytes < 0.4 * exact.size_bytes
    never = done.agreement._replace(share=0.4)
    monkeypatch.setattr(convert, "agreement_of", lambda *_: never)
    with pytest.raises(ConfigError, match=r"only 40\.0% of 100 examples .* asks for 95\.0%"):
        export_model(run, tmp_path / "other", form, int8=True)
    assert not list(tmp_path.glob(".*")) and not (tmp_path / "other").exists()


@BOTH
def test_a_model_that_answers_otherwise_is_not_kept(tmp_path, form, monkeypatch):
    run, opened = small_run(tmp_path), FORMATS[form].open

    def moved(path):
        model = opened(path)
        return lambda inputs: (model(inputs)[0], model(inputs)[1] + 0.01)

    monkeypatch.setattr(FORMATS[form], "open", moved)
    with pytest.raises(RuntimeError, match="does not match the trained model"):
        export_model(run, tmp_path / "out", form)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@BOTH
def test_ctrl_c_leaves_nothing(tmp_path, form, monkeypatch):
    def stop(path):
        assert path.stat().st_size > 100
        raise KeyboardInterrupt

    monkeypatch.setattr(FORMATS[form], "open", stop)
    run = small_run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        export_model(run, tmp_path / "out", form)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@BOTH
def test_an_operation_without_equal_is_named(tmp_path, form, monkeypatch):
    odd = {**DENSE, "head": {"name": "tests.exports.heads:Odd"}}
    with monkeypatch.context() as patch:
        patch.setattr(registry, "refuse_modules", lambda *_: None)
        run = small_run(tmp_path, **odd)
    with pytest.raises(ConfigError, match=r"uses TensorFlow's NthElement,"):
        export_model(run, tmp_path / "out", form)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@BOTH
def test_too_large_and_too_many(tmp_path, form, monkeypatch):
    run = small_run(tmp_path)
    with pytest.raises(ConfigError, match="k: must be from 1 to 12, the number of labels, not 13"):
        export_model(run, tmp_path / "out", form, 13)
    monkeypatch.setattr(FORMATS[form], "most_bytes", 100)
    with pytest.raises(ConfigError, match="less than 2 GiB"):
        export_model(run, tmp_path / "out", form)


@BOTH
def test_half_precision_becomes_float32(tmp_path, form):
    run = small_run(tmp_path, **WIDE, training={"precision": "mixed_bfloat16"})
    done = export_model(run, tmp_path / "out", form, 12)
    assert done.score_difference < 2e-2 * 10
    x = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    _, scores = FORMATS[form].open(done.folder / done.file)({"features": x})
    kernel, bias = (np.array(weight, np.float32) for weight in run.model.weights)
    np.testing.assert_allclose(scores, -np.sort(-(x @ kernel + bias), axis=1), rtol=1e-4, atol=1e-5)


def test_litert_of_single_examples(tmp_path, monkeypatch):
    converted, tried = litert.LiteRT._convert, []

    def one_only(self, graph, path, batch, *rest):
        tried.append(batch)
        if batch is None:
            raise litert._Refused("TensorListReserve")
        return converted(self, graph, path, batch, *rest)

    monkeypatch.setattr(litert.LiteRT, "_convert", one_only)
    run = small_run(tmp_path)
    done = export_model(run, tmp_path / "out", "litert", 3, int8=True, min_agreement=0)
    assert done.batch == 1 and tried == [None, 1, 1]
    model = litert.FORMAT.open(done.folder / done.file)
    assert Expected(run, 3).largest_difference(outputs_of_function(model, 1)) < 1e-5


@pytest.mark.parametrize("name", ["tf2onnx", "onnx", "onnxruntime"])
def test_a_missing_package_is_reported(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    run = small_run(tmp_path)
    with pytest.raises(ConfigError, match=rf"{name} is not .*pip install 'tfxc\[onnx\]'"):
        export_model(run, tmp_path / "out", "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_examples_to_agree_on_are_those_of_the_dev_split(tmp_path):
    run = make_run(tmp_path / "run", text_features={"name": "tfidf"})
    source = tmp_path / "data.jsonl"
    lines = [json.dumps({"text": f"{n} tea soup", "labels": ["tea"]}) + "\n" for n in range(20)]
    source.write_text("".join(lines))
    tree = json.loads((run / "config.json").read_text())
    for more, split, count in (({}, "train", 20), ({"dev_share": 0.25}, "dev", 5)):
        changed = {**tree, "data": {**tree["data"], "train": str(source), **more}}
        (run / "config.json").write_text(json.dumps(changed))
        batches, reported = examples_of(load_run(run))
        assert reported == f"the first of {split} data {source}"
        found = [len(features["row_splits"]) - 1 for _, features in batches(8)]
        assert sum(found) == count


def test_a_list_that_ends_early_counts():
    scores, right = np.array([[1, -np.inf], [3, 2]]), np.array([[0.5, -np.inf], [3, 2]])
    assert parity._largest_difference(scores, right) == 0.5
    assert parity._largest_difference(scores, right[::-1]) == np.inf
