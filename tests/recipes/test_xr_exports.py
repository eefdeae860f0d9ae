"""SavedModels of recipe 'xr_transformer': from texts to label names in one graph."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call
from tests.exports.answer import answers
from tests.recipes.xr_texts import work_of, write_texts
from tfxc.commands import export, predict
from tfxc.recipes.xr_transformer.recipe import XrTransformer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run, the encoder of which is not trained."""
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder / "train.jsonl", 10, 0)
    write_texts(folder / "dev.jsonl", 3, 1)
    changes = {"do_fine_tune": False, "calibrate": "logistic"}
    context = work_of(folder, "run", recipe={"name": "xr_transformer", **changes})
    XrTransformer(**changes).run(context)
    return context.run


@pytest.mark.parametrize("more", [(), ("--probabilities",)], ids=["scores", "probabilities"])
def test_export_answers_texts_as_predict_does(run, more, tmp_path, capsys):
    lines = (run.parent / "dev.jsonl").read_text().splitlines()[:40]
    texts = [json.loads(line)["text"] for line in lines]
    texts += ["", "unknown words", texts[0].upper()]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    done = call(
        capsys, export, "--run", run, "--output", tmp_path / "out" / "served", "--k", 4, *more
    )
    assert done.code == 0 and ("scores are probabilities" in done.out) == bool(more)
    served = tf.saved_model.load(str(tmp_path / "out" / "served")).signatures["serving_default"]
    found = {name: part.numpy() for name, part in served(text=tf.constant(texts)).items()}

    told = call(capsys, predict, "--run", run, tmp_path / "texts.txt", "--k", 4, *more).out
    expected = [json.loads(line) for line in told.splitlines()]
    assert len(expected) == len(texts)
    for row, line in enumerate(expected):
        kept = found["ids"][row] >= 0
        assert [name.decode() for name in found["labels"][row][kept]] == line["labels"]
        np.testing.assert_allclose(found["scores"][row][kept], line["scores"], atol=1e-5)
    assert len({line["labels"][0] for line in expected}) > 20
    shapes = set(answers(tmp_path / "out", 0, 1, 1000).values())
    assert shapes == {"(0, 4)", "(1, 4)", "(1000, 4)"}
