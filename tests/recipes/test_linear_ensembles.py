"""Predictions of a linear ranker joined with those of another run."""

import json

import numpy as np
import pytest

from tests.commands.calls import call
from tests.linear_runs import texts_of
from tests.small_runs import make_run
from tfxc.commands import predict
from tfxc.data.examples.chunk import Chunk
from tfxc.inference.predictors import RunPredictor
from tfxc.inference.search_options import SearchOptions
from tfxc.ranker.ensemble import combine
from tfxc.runs.loaded import load_run


@pytest.fixture(scope="module")
def other(run, tmp_path_factory):
    """A run of a network with the ranker's labels, the last first."""
    names = load_run(run).vocabulary.names[::-1]
    parts = {"text_features": {"name": "hashing"}, "objective": {"name": "softmax"}}
    return make_run(tmp_path_factory.mktemp("other") / "run", names=names, **parts)


def lists(path, texts, k, names, **options):
    """Ids of ``names`` and scores of a run alone."""
    loaded = load_run(path, options=SearchOptions(beam=options.pop("beam", None)))
    found = RunPredictor(loaded, k, **options)(Chunk(labels=[[]] * len(texts), texts=texts))
    ids = [[names.index(name) if name else -1 for name in row] for row in found.labels]
    return np.array(ids), found.scores


@pytest.mark.parametrize(
    ("more", "method", "top", "options"),
    [
        ((), "softmax_average", 20, {}),
        (("--ensemble", "rank_average", "--top", 7, "--beam", 1), "rank_average", 7, {"beam": 1}),
        (("--ensemble", "average", "--probabilities"), "average", 20, {"probabilities": True}),
    ],
)
def test_joined_with_a_network(run, other, more, method, top, options, capsys):
    texts, names = texts_of(run)[:9], load_run(run).vocabulary.names
    mine = lists(run, texts, top, names, **options)
    assert (mine[0] < 0).any(), "the ranker's beam reaches fewer labels"
    options.pop("beam", None)
    ids, scores = combine([mine, lists(other, texts, top, names, **options)], method, 4)
    asked = ("--run", run, "--run", other, run.parent / "dev.jsonl", "--k", 4, *more)
    found = [json.loads(line) for line in call(capsys, predict, *asked).out.splitlines()][:9]
    assert [line["labels"] for line in found] == [[names[i] for i in row] for row in ids]
    np.testing.assert_allclose([line["scores"] for line in found], scores, atol=2e-6)


def test_what_no_run_of_an_ensemble_can(run, other, tmp_path, capsys):
    names = load_run(run).vocabulary.names
    parts = {"text_features": {"name": "tfidf"}, "head": {"name": "mach", "num_buckets": 4}}
    third = make_run(tmp_path / "third", names=names, **parts)
    asked = ("--run", other, "--run", third, run.parent / "dev.jsonl")
    problem = call(capsys, predict, *asked, "--beam", 3).problem()
    assert problem.startswith("--beam: a run of recipe")
    more = ("--probabilities", "--ensemble", "average")
    problem = call(capsys, predict, *asked, *more).problem()
    assert problem.startswith(f"{third}: --probabilities: the head MACH has no probabilities")
