"""SavedModels of recipe 'xr_transformer': from texts to label names in one graph."""

import contextlib
import io
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call
from tests.exports.answer import answers
from tests.recipes.xr_texts import work_of, write_texts
from tfxc.commands import export, predict
from tfxc.recipes.xr_transformer.recipe import XRTransformer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run, the encoder of which is not trained."""
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder / "train.jsonl", 10, 0)
    write_texts(folder / "dev.jsonl", 3, 1)
    changes = {"do_fine_tune": False}
    sections = {"decision": {"probabilities": "rows"}}
    context = work_of(folder, "run", recipe={"name": "xr_transformer", **changes}, **sections)
    XRTransformer(**changes).run(context)
    return context.run


# Options of ``export`` and of ``predict``, which prints probabilities by itself.
MORE = {"scores": ((), ("--scores",)), "probabilities": (("--probabilities",),) * 2}
# Scores are exported as the probabilities are, and by the contract of recipes.
KINDS = [pytest.param("scores", marks=pytest.mark.slow), "probabilities"]


@pytest.fixture(scope="module", params=KINDS)
def exported(request, run, tmp_path_factory):
    """What is exported, folder of the SavedModel, and what its export has reported."""
    name, folder, stream = request.param, tmp_path_factory.mktemp("exported"), io.StringIO()
    command = ["--run", str(run), "--output", str(folder / name), "--k", "4", *MORE[name][0]]
    with contextlib.redirect_stdout(stream):
        assert export.main(command) == 0
    return name, folder, stream.getvalue()


def test_export_answers_texts_as_predict_does(run, exported, tmp_path, capsys):
    name, folder, reported = exported
    more = MORE[name][1]
    lines = (run.parent / "dev.jsonl").read_text().splitlines()[:40]
    texts = [json.loads(line)["text"] for line in lines]
    texts += ["", "unknown words", texts[0].upper()]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    assert ("scores are probabilities" in reported) == (name == "probabilities")
    served = tf.saved_model.load(str(folder / name)).signatures["serving_default"]
    found = {key: part.numpy() for key, part in served(text=tf.constant(texts)).items()}

    lines = call(capsys, predict, "--run", run, tmp_path / "texts.txt", "--k", 4, *more).out
    expected = [json.loads(line) for line in lines.splitlines()]
    assert len(expected) == len(texts)
    for row, line in enumerate(expected):
        kept = found["ids"][row] >= 0
        assert [name.decode() for name in found["labels"][row][kept]] == line["labels"]
        np.testing.assert_allclose(found["scores"][row][kept], line["scores"], atol=1e-5)
    assert len({line["labels"][0] for line in expected}) > 20


def test_batches_of_any_size(exported):
    """In a process of its own, as an empty batch may end it."""
    name, folder, _ = exported
    found = answers(folder, 0, 1, 1000)
    assert {model for model, *_ in found} == {name}
    assert all(shape == f"({size}, 4)" for (_, _, size), shape in found.items())
    assert {size for *_, size in found} == {0, 1, 1000}
