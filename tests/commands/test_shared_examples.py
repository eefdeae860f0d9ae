"""predict and encode on a Dask cluster: the same bytes as without."""

import json
import os
import signal

import numpy as np
import pytest

from tests.commands.calls import call, listing
from tests.commands.test_import import import_model, write_mach
from tests.dask_workers import dask_workers
from tests.data.images.examples import png, smooth_images
from tests.linear_runs import command as linear_command
from tests.small_runs import TEXTS, make_run
from tfxc.commands import encode, predict, train
from tfxc.core.errors import MachineError
from tfxc.decision.decision import Decision
from tfxc.decision.fitted import FittedDecision
from tfxc.exports.savedmodel import export_savedmodel
from tfxc.inference import shared_chunks
from tfxc.inference.ensemble_file import EnsembleFile, digest_of
from tfxc.inference.shared_chunks import answer_batches, shared_answers
from tfxc.parallel import cluster
from tfxc.runs.loaded import load_run

TFIDF = {"name": "tfidf"}


@pytest.fixture(scope="module")
def address():
    with dask_workers() as found:
        yield found


@pytest.fixture
def small_tasks(monkeypatch):
    """Two batches of two examples each."""
    monkeypatch.setattr(shared_chunks, "_EXAMPLES", 4)
    monkeypatch.setattr(predict, "_TASK_OF_SEVERAL_NETWORKS", 6)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two runs on texts, a SavedModel, and a file of 23 texts with ids."""
    folder = tmp_path_factory.mktemp("shared")
    first = make_run(folder / "first", text_features=TFIDF)
    make_run(folder / "second", text_features=TFIDF, head={"name": "mach", "num_buckets": 4,
                                                           "num_repetitions": 3})  # fmt: skip
    export_savedmodel(load_run(first), folder / "savedmodel", k=4)
    names = load_run(first).vocabulary.names
    EnsembleFile(
        runs=[str(folder / "first"), str(folder / "second")],
        method="softmax_average",
        weights=[1.0, 2.0],
        top=8,
        num_labels=len(names),
        labels=digest_of(names),
        decision=FittedDecision(None, Decision(0.2, at_most=8)),
    ).save(folder / "both.json")
    texts = [" ".join(TEXTS[n % 5].split()[n % 3 :]) for n in range(23)]
    lines = [json.dumps({"text": text, "id": f"t{n}"}) for n, text in enumerate(texts)]
    (folder / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def both(capsys, command, address, tmp_path, *arguments, output="answers.jsonl"):
    """The files that a command writes here and there, which leave nothing else."""
    found = []
    for place, more in (("here", ()), ("there", ("--cluster", address))):
        path = tmp_path / place / output
        outcome = call(capsys, command, *arguments, "--output", path, *more)
        assert outcome.code == 0, outcome.err + outcome.out
        assert ("2 tasks at a time on the workers of" in outcome.err) == bool(more)
        assert listing(path.parent).keys() == {output}
        found.append(path.read_bytes())
    assert found[0] and found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(
    "options",
    [
        ("--run", "first"),
        ("--run", "first", "--k", 3, "--format", "table", "--output", "answers.txt"),
        ("--run", "second", "--k", 2, "--with-id", "--with-text",
         "--reader-option", "id_field=id"),
        ("--run", "first", "--run", "second", "--weights", "2,1", "--output", "answers.csv"),
        ("--run", "both.json"),
        ("--model", "savedmodel", "--k", 2),
    ],
    ids=["deciding", "table", "ids", "cells of an ensemble", "a file of several", "savedmodel"],
)  # fmt: skip
def test_answers_of_texts(options, runs, address, small_tasks, tmp_path, capsys, monkeypatch):
    """Runs are named from the command's current folder, which the workers do not have."""
    monkeypatch.chdir(runs)
    output = "answers.jsonl"
    if "--output" in options:
        *options, _, output = options
    arguments = ("texts.jsonl", "--batch-size", 2, *options)
    found = both(capsys, predict, address, tmp_path, *arguments, output=output)
    assert len(found.splitlines()) == 23 + output.endswith(".csv")


def test_answers_of_a_linear_ranker(address, small_tasks, tmp_path, capsys):
    assert call(capsys, train, *linear_command(tmp_path)).code == 0
    arguments = ("--run", tmp_path / "run", tmp_path / "dev.jsonl", "--batch-size", 2)
    both(capsys, predict, address, tmp_path / "answers", *arguments, "--beam", 3)


def test_answers_of_several_networks(address, small_tasks, tmp_path, capsys):
    """Sums over repetitions have the order of the command without workers."""
    files = write_mach(tmp_path / "mach")
    assert call(capsys, import_model, "mach", *files, "--run", tmp_path / "run").code == 0
    random, file = np.random.default_rng(0), tmp_path / "dev.svm"
    rows = (sorted(random.choice(30, 4, replace=False).tolist()) for _ in range(20))
    lines = ("0 " + " ".join(f"{n}:{random.random():.3f}" for n in row) for row in rows)
    file.write_text("\n".join(lines) + "\n")
    zero = ("--reader-option", "zero_based=true")
    arguments = ("--run", tmp_path / "run", file, "--batch-size", 2, *zero)
    both(capsys, predict, address, tmp_path / "answers", *arguments)


def test_vectors_of_images(address, small_tasks, tmp_path, capsys):
    """Of image files, with their names."""
    for number, image in enumerate(smooth_images(9, 9, 8)):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{number}.png").write_bytes(png(image))
    encoder = {"name": "tests.data.images.examples:FlatImage"}
    run = make_run(tmp_path / "run", kind="image", image_shape=(4, 4, 3), encoder=encoder)
    arguments = ("--run", run, "--trust", tmp_path / "images", "--batch-size", 2)
    both(capsys, encode, address, tmp_path, *arguments, output="vectors.npy")
    found = both(capsys, predict, address, tmp_path / "answers", *arguments, "--k", 1)
    assert [json.loads(line)["name"] for line in found.splitlines()][8] == "8.png"


def test_an_encoding_resumes(runs, address, small_tasks, tmp_path, capsys, monkeypatch):
    """What was encoded here until an error is not given to the workers."""
    arguments = ("--run", runs / "first", runs / "texts.jsonl", "--batch-size", 2, "--output")
    assert call(capsys, encode, *arguments, tmp_path / "whole.npy").code == 0
    embed, calls = encode._vectors_of, []

    def until_the_third(options, loaded):
        vectors_of = embed(options, loaded)

        def limited(first, chunk):
            if first == 6:
                raise MachineError("out of order")
            return vectors_of(first, chunk)

        return limited

    with monkeypatch.context() as patch:
        patch.setattr(encode, "_vectors_of", until_the_third)
        assert call(capsys, encode, *arguments, tmp_path / "vectors.npy").code == 1
    write = shared_chunks.write_chunks
    monkeypatch.setattr(
        shared_chunks, "write_chunks", lambda path, chunks: calls.append(sum(map(len, chunks)))
        or write(path, chunks),
    )  # fmt: skip
    outcome = call(capsys, encode, *arguments, tmp_path / "vectors.npy", "--cluster", address)
    assert outcome.code == 0 and sum(calls) == 23 - 6, outcome.err
    whole, found = tmp_path / "whole.npy", tmp_path / "vectors.npy"
    assert found.read_bytes() == whole.read_bytes()
    assert listing(tmp_path).keys() == {"whole.npy", "vectors.npy"}


def test_an_error_of_a_worker_leaves_nothing(runs, address, small_tasks, tmp_path, capsys):
    np.save(tmp_path / "vectors.npy", np.ones((9, 3), np.float32))
    arguments = ("--run", runs / "first", tmp_path / "vectors.npy", "--output")
    outcome = call(capsys, predict, *arguments, tmp_path / "a.jsonl", "--cluster", address)
    assert "the examples have no texts" in outcome.problem()
    assert listing(tmp_path).keys() == {"vectors.npy"}


def die_once(job):
    """The worker that gets the third batch first ends; another one goes on."""

    def work(first, chunks):
        for chunk in chunks:
            if first == 4 and not os.path.exists(job["marker"]):
                with open(job["marker"], "w"):
                    os.kill(os.getpid(), signal.SIGKILL)
            yield chunk.texts
            first += len(chunk)

    return work


def test_a_killed_worker_costs_its_task_only(runs, address, tmp_path, capsys, monkeypatch):
    from tfxc.data.reading.formats import open_unlabelled

    chunks = list(open_unlabelled(runs / "texts.jsonl", "text").chunks(2))
    marker, begun = tmp_path / "marker", []

    def batches():
        for number, chunk in enumerate(chunks):
            begun.append(number)
            yield 2 * number, chunk

    arguments = (die_once, {"marker": str(marker)}, batches(), tmp_path / "out", 4)
    with cluster(address), shared_answers(*arguments) as answers:
        (first,) = (next(answers) for _ in range(1))
        assert first == (0, 2, chunks[0].texts) and len(begun) < len(chunks), "a few are held"
        rest = list(answers)
    assert [text for one in (first, *rest) for text in one.found] == [
        text for chunk in chunks for text in chunk.texts
    ]
    assert marker.exists() and listing(tmp_path).keys() == {"marker"}


def test_a_folder_that_the_workers_do_not_see(tmp_path):
    with pytest.raises(MachineError, match="storage that all workers see under the same path"):
        answer_batches(die_once, str(tmp_path / "elsewhere"), "batches", 0)


@pytest.mark.parametrize(
    ("command", "arguments", "problem"),
    [
        (predict, ("--output", "out.jsonl"), "FILE: a cluster needs a file of examples"),
        (predict, ("texts.jsonl",), "--output: a cluster needs a file to write"),
        (encode, ("--output", "out.npy"), "FILE: a cluster needs a file of examples"),
        (
            predict,
            ("texts.jsonl", "--pairs", "p.npz", "--output", "o.npz"),
            "--cluster: this option does not apply",
        ),
    ],
)
def test_what_is_not_shared(command, arguments, problem, runs, capsys):
    options = ("--run", runs / "first", "--cluster", "tcp://127.0.0.1:9")
    assert call(capsys, command, *options, *arguments).problem().startswith(problem)
