"""The command evaluate, against metrics computed here from the data files themselves."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from tests.commands.calls import call, listing
from tests.small_runs import NAMES, TEXTS, make_run
from tfxc.commands import evaluate, predict, train

MACH = {"name": "mach", "num_buckets": 12, "num_repetitions": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a trained run with its data."""
    folder = tmp_path_factory.mktemp("evaluate")
    tiny.train(folder, head=MACH, training={"epochs": 15, "evaluate_every": 1000})
    return folder


@pytest.fixture
def arguments(trained, tmp_path):
    """Command line that writes into ``tmp_path`` and leaves the run alone."""
    return ["--run", trained / "run", "--prepared", trained / "prepared", "--output", tmp_path]


def examples_of(path):
    """Label lists and unit-length feature rows of a file in the tiny set's format."""
    labels, rows = [], []
    for line in path.read_text().splitlines()[1:]:
        head, *pairs = line.split(" ")
        labels.append([int(label) for label in head.split(",")])
        row = np.zeros(tiny.NUM_FEATURES)
        for feature, value in (pair.split(":") for pair in pairs):
            row[int(feature)] = float(value)
        rows.append(row / np.linalg.norm(row))
    return labels, np.array(rows)


def label_scores(run, features):
    """Scores (n, num_labels) by matrix products over the run's weights."""
    from tfxc.runs.loaded import load_run

    model = load_run(run).model
    table, bias, kernel, head_bias = [weight.numpy() for weight in model.trainable_variables]
    hidden = np.maximum(features @ table + bias, 0)
    logits = np.einsum("nd,rdb->nrb", hidden, kernel) + head_bias
    return sum(logits[:, r, lookup] for r, lookup in enumerate(model.head.lookups))


def expected_metrics(ids, truth, counts, num_train, k):
    """Per-example P, R and nDCG at k, and PSP@k of all, by the definitions."""
    hits = np.array(
        [[i in labels for i in row[:k]] for row, labels in zip(ids, truth, strict=True)]
    )
    sizes = np.array([len(labels) for labels in truth])
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.array([discounts[: min(k, size)].sum() for size in sizes])
    c = (np.log(num_train) - 1) * (1.5 + 1) ** 0.55
    inverse = 1 + c * (counts + 1.5) ** -0.55
    best = [np.sort(inverse[labels])[::-1][:k].sum() for labels in truth]
    examples = {"P": hits.mean(1), "R": hits.sum(1) / sizes, "nDCG": hits @ discounts / ideal}
    return examples, (inverse[ids[:, :k]] * hits).sum() / np.sum(best)


def test_table_and_files_hold_the_metrics(trained, arguments, tmp_path, capsys):
    outcome = call(capsys, evaluate, *arguments)
    assert outcome.code == 0
    assert outcome.out.startswith(f"{trained / 'run'} on dev: 60 examples\n")
    record = json.loads((tmp_path / "evaluation-dev.json").read_text())
    assert (record["data"], record["examples"]) == ("dev", 60)
    truth, features = examples_of(trained / "dev.txt")
    ids = np.argsort(-label_scores(trained / "run", features), axis=1, kind="stable")
    train_labels, _ = examples_of(trained / "train.txt")
    counts = np.bincount(np.concatenate(train_labels), minlength=tiny.NUM_LABELS)
    with np.load(tmp_path / "evaluation-dev.npz") as stored:
        for k in (1, 3, 5):
            examples, psp = expected_metrics(ids, truth, counts, 203, k)
            for name, values in examples.items():
                np.testing.assert_allclose(stored[f"{name}@{k}"], values, atol=1e-12)
                found = record["metrics"][f"{name}@{k}"]
                assert found == pytest.approx(values.mean())
                line = re.search(rf"^{name} .*$", outcome.out, re.MULTILINE)[0]
                assert f" {100 * values.mean():.2f}" in line
            assert record["metrics"][f"PSP@{k}"] == pytest.approx(psp, rel=1e-6)
    assert record["metrics"]["P@1"] > 0.5, "the run has learnt something to be measured"


def test_batch_size_and_split_make_no_difference(arguments, tmp_path, capsys):
    figures = []
    one, seven = (["--batch-size", size] for size in (1, 7))
    searches = ([*seven, "--search", "brute"], [*one, "--search", "threshold", "--split", "dev"])
    for more in ([], *searches):
        call(capsys, evaluate, *arguments, *more)
        figures.append(json.loads((tmp_path / "evaluation-dev.json").read_text())["metrics"])
        assert figures[-1].pop("R@1/frequent") is None is figures[-1].pop("P@1/frequent")
        figures[-1] = {name: value for name, value in figures[-1].items() if value is not None}
    assert all(other == pytest.approx(figures[0], rel=1e-12) for other in figures[1:])
    outcome = call(capsys, evaluate, *arguments, "--split", "train", "--k", "1,2")
    assert " on train: 203 examples\n" in outcome.out
    metrics = json.loads((tmp_path / "evaluation-train.json").read_text())["metrics"]
    assert "P@2" in metrics and "P@3" not in metrics


def test_size_of_the_approximate_search(arguments, tmp_path, capsys):
    """With all buckets it is the exact search; with one, few labels are found."""
    figures = []
    approximate = ["--search", "approximate", "--search-buckets"]
    few = [*approximate, 1, "--search-min-count", 4]
    some = "-approximate-search-buckets-1-search-min-count-4"
    for more, name in (
        ([], ""),
        ([*approximate, 99], "-approximate-search-buckets-99"),
        (few, some),
    ):
        assert call(capsys, evaluate, *arguments, *more).code == 0
        figures.append(json.loads((tmp_path / f"evaluation-dev{name}.json").read_text())["metrics"])
    exact, approximate = ({k: v for k, v in f.items() if v is not None} for f in figures[:2])
    assert approximate == pytest.approx(exact, rel=1e-12)
    assert figures[2]["R@5"] < figures[0]["R@5"]


def test_a_file_of_the_same_or_another_format(trained, arguments, tmp_path, capsys):
    call(capsys, evaluate, *arguments)
    expected = json.loads((tmp_path / "evaluation-dev.json").read_text())["metrics"]
    lines = (trained / "dev.txt").read_text().splitlines()[1:]
    (tmp_path / "other.svm").write_text("\n".join(lines) + "\n")
    (tmp_path / "plain.data").write_text("\n".join(lines) + "\n")
    options = ["--reader-option", "zero_based=true"]
    for path, more in (
        (trained / "dev.txt", []),
        (tmp_path / "other.svm", options),
        (tmp_path / "plain.data", ["--reader", "svmlight", *options]),
    ):
        outcome = call(capsys, evaluate, *arguments, "--data", path, *more)
        assert "it answers these better" not in outcome.err
        assert f" on {path}: 60 examples\n" in outcome.out
        name = path.name.replace(".", "-")
        assert json.loads((tmp_path / f"evaluation-{name}.json").read_text())["metrics"] == expected
    outcome = call(capsys, evaluate, *arguments, "--data", trained / "train.txt")
    assert f"was trained on examples of {trained / 'train.txt'}: it answers" in outcome.err


def test_compare_prints_the_interval(trained, arguments, tmp_path, capsys):
    tiny.train(trained, "worse", head=MACH, training={"epochs": 1})
    outcome = call(capsys, evaluate, *arguments, "--compare", trained / "worse", "--seed", 3)
    assert outcome.code == 0
    with np.load(tmp_path / "evaluation-dev.npz") as one:
        one = dict(one)
    with np.load(tmp_path / "evaluation-dev-compared.npz") as other:
        other = dict(other)
    table = outcome.out.partition("95 % interval of a paired bootstrap:\n")[2].splitlines()
    found = {line[2:20].strip(): line for line in table}
    assert {"P@1", "nDCG@5", "R@3"} <= set(found)
    rng = np.random.default_rng(0)
    for name in ("P@1", "nDCG@5"):
        differences = one[name] - other[name]
        difference, low, high, p = map(
            float, re.findall(r"[-+]?\d+\.\d+", found[name].removeprefix(f"  {name}"))
        )
        assert difference == pytest.approx(100 * differences.mean(), abs=0.006)
        means = differences[rng.integers(0, 60, (20_000, 60))].mean(1)
        assert [low, high] == pytest.approx(100 * np.quantile(means, [0.025, 0.975]), abs=1.5)
        assert low <= difference <= high and 0 < p <= 1
    assert not {name for name in found if name.startswith("R/zero-shot")}, (
        "an empty slice is left out"
    )


def test_runs_with_other_cut_offs_or_examples(trained, arguments, tmp_path, capsys):
    """Compared by what they share; not at all where the examples differ."""
    run = make_run(tmp_path / "other", num_features=tiny.NUM_FEATURES)
    data = tmp_path / "few.txt"
    data.write_text("2 60 12\n1,2 3:1\n4 5:1\n")
    tree = json.loads((run / "config.json").read_text())
    tree["evaluation"]["k"] = [1, 2]
    tree["data"] |= {"train": str(data), "dev": str(data)}
    (run / "config.json").write_text(json.dumps(tree))
    manifest = json.loads((run / "assets/manifest.json").read_text())
    manifest["splits"]["dev"] = {**manifest["splits"]["train"], "examples": 2}
    (run / "assets/manifest.json").write_text(json.dumps(manifest))
    command = [*arguments, "--compare", run]
    outcome = call(capsys, evaluate, *command, "--data", data)
    compared = outcome.out.partition("paired bootstrap:\n")[2]
    assert "P@1 " in compared and "P@2 " not in compared and "P@3 " not in compared
    problem = call(capsys, evaluate, *command).problem()
    assert "the shapes (60,) and (2,)" in problem and "the same examples" in problem
    problem = call(capsys, evaluate, *command, "--split", "test").problem()
    assert "the run's data have no split 'test'" in problem


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    """A run on texts, trained (as its config says) on JSON lines with other field names."""
    run = make_run(tmp_path_factory.mktemp("texts") / "run", text_features={"name": "tfidf"})
    tree = json.loads((run / "config.json").read_text())
    tree["data"] |= {"train": "train.jsonl.xz", "reader": "jsonl"}
    tree["data"]["reader_options"] = {"text_field": "body"}
    (run / "config.json").write_text(json.dumps(tree))
    return run


@pytest.mark.parametrize("command", [evaluate, predict])
def test_a_file_of_the_run_is_read_as_its_split(command, text_run, tmp_path, monkeypatch, capsys):
    """By whichever name it is given, and unless an option says otherwise."""
    monkeypatch.chdir(tmp_path)
    Path("dev.jsonl").write_bytes('{"main": "crème", "labels": ["soup"]}\n'.encode("cp1252"))
    tree = json.loads((text_run / "config.json").read_text())
    tree["data"] |= {"dev": "dev.jsonl"}
    tree["data"]["split_options"] = {"dev": {"encoding": "cp1252", "text_field": "main"}}
    shutil.copytree(text_run, "run")
    Path("run/config.json").write_text(json.dumps(tree))
    named = ["--data"] if command is evaluate else []
    for path in ("dev.jsonl", tmp_path / "dev.jsonl"):
        outcome = call(capsys, command, "--run", "run", *named, path)
        assert outcome.code == 0, outcome.err
    option = ["--reader-option", "text_field=body"]
    problem = call(capsys, command, "--run", "run", *named, "dev.jsonl", *option).problem()
    assert "body" in problem


LABELS = [["soup"], ["tea", "new one"], ["日本", "soup"], [], ["new one", "another"]]


def test_text_files_and_unseen_labels(text_run, tmp_path, capsys):
    pairs = list(zip(TEXTS, LABELS, strict=True))
    lines = [json.dumps({"body": text, "labels": labels}) for text, labels in pairs]
    (tmp_path / "test.jsonl").write_text("\n".join(lines))
    lines = [f'"{text}","{"|".join(labels)}"' for text, labels in pairs]
    (tmp_path / "test.csv").write_text("\n".join(["text,labels", *lines]) + "\n")
    figures = []
    separator = ["--reader-option", "label_separator=|"]
    for name, more in (("test.jsonl", []), ("test.csv", separator)):
        command = ["--run", text_run, "--data", tmp_path / name, "--k", "12", *more]
        outcome = call(capsys, evaluate, *command, "--output", tmp_path)
        assert outcome.code == 0, outcome.err
        named = "5 examples, 3 of their labels are unknown to the run: 'new one', 'another'\n"
        assert named in outcome.out
        assert "examples without labels: 1" in outcome.out
        path = tmp_path / f"evaluation-{name.replace('.', '-')}"
        figures.append(json.loads(path.with_suffix(".json").read_text())["metrics"])
        with np.load(path.with_suffix(".npz")) as stored:
            # All 12 known labels are predicted: what is missed is what the run cannot know.
            np.testing.assert_array_equal(stored["R@12"], [1, 0.5, 1, np.nan, 0])
    assert figures[0] == figures[1] and len(NAMES) == 12


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--k", "1,31"], "k: must be from 1 to 30, the number of labels, not 31"),
        (["--search", "best"], "--search: the head MACH has no search 'best'"),
        (
            ["--search-buckets", "9"],
            "--search-buckets: this option is for the approximate search, but the search is 'auto",
        ),
        (
            ["--search", "auto", "--search-min-count", "1"],
            "--search-min-count: this option is for the approximate",
        ),
        (["--split", "test"], "--split: the run's data have no split 'test'"),
        (["--data", "nowhere.txt"], "nowhere.txt: no such file"),
        (["--data", "{folder}/empty.svm"], "empty.svm: "),
        (["--data", "{folder}/texts.jsonl"], "texts.jsonl: the examples have no features, but"),
        (["--data", "{folder}/wide.txt"], "wide.txt: these are 66 sparse features"),
        (["--data", "{folder}/wide.txt", "--reader", "svmligth"], "did you mean 'svmlight'"),
        (["--data", "{folder}/wide.txt", "--reader-option", "x=1"], "has no argument 'x'"),
        (["--run", "{folder}"], "this is not a run folder"),
        (["--run", "{folder}/none"], "there is no such run folder"),
        (["--run", "{folder}/untraine"], "untrained'? Give a"),
        (["--run", "{folder}/untrained"], "this run has no trained weights yet"),
    ],
)
def test_user_errors(trained, arguments, tmp_path, capsys, more, message):
    data = tmp_path / "data"
    data.mkdir()
    (data / "empty.svm").write_text("")
    (data / "texts.jsonl").write_text('{"text": "x", "labels": ["a"]}\n')
    (data / "wide.txt").write_text("1 70 30\n3 65:1\n")
    make_run(data / "untrained")
    (data / "untrained/model.weights.h5").unlink()
    before = listing(tmp_path)
    if "untrained" in more[-1]:
        more = [*more, "--data", str(data / "wide.txt")]
    command = [*arguments, *(text.format(folder=data) for text in more)]
    if "--run" in more:
        first = command.index("--run")
        del command[first : first + 2]
    assert message in call(capsys, evaluate, *command).problem()
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--reader-option", "x"], "--reader-option: 'x' is not KEY=VALUE"),
        (["--k", "0"], "--k: must be an integer of at least 1, not 0"),
        (["--k", "1,x"], "--k: must be an integer of at least 1, not 'x'"),
        (["--batch-size", "0"], "--batch-size: must be an integer of at least 1"),
        (["--split", "dev", "--data", "x"], "--data: not allowed with argument --split"),
    ],
)
def test_impossible_options(arguments, capsys, more, message):
    outcome = call(capsys, evaluate, *arguments, *more)
    assert outcome.code == 2 and message in outcome.err


def test_a_run_that_lacks_a_repetition(tmp_path, capsys):
    head = {**MACH, "num_repetitions": 3}
    changes = {"head": head, "recipe": {"name": "repetitions"}, "training": {"epochs": 0.1}}
    command = ["--config", tiny.write_config(tmp_path, **changes)]
    command += ["--prepared", tmp_path / "prepared"]
    assert call(capsys, train, *command, "--repetition", 1).code == 0
    command = ["--run", tmp_path / "run", "--prepared", tmp_path / "prepared"]
    problem = call(capsys, evaluate, *command).problem()
    assert problem.startswith(
        f"{tmp_path / 'run'}: some repetitions have no weights after 0.1 epochs: 0, 2."
    )
    assert "Train them, e.g. with --repetition 0" in problem
