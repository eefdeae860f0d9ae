"""Training on a file without a config, and the config that is written for it."""

import json
import re
import shlex

import pytest

import tfxc
from tests.commands.calls import call
from tests.data.reading.inspection.test_contents import pairs, rows, write
from tfxc.commands import completion, ensemble, evaluate, init, predict, report, train
from tfxc.data.reading.inspection.completion import load_config
from tfxc.data.store.preparation import ensure_prepared
from tfxc.recipes.base import Recipe

FAST = ("--preset", "fast")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.csv", "text,label", pairs(94))
    return tmp_path


def test_from_a_table_to_labels(folder, capsys):
    outcome = call(capsys, train, "mine.csv", *FAST)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].startswith("mine.csv: format delimited, 94 examples, texts 'text'")
    assert lines[1] == "  texts: the longest has 33 characters (row 12)"
    assert lines[2].startswith("preset fast: recipe xr_linear; 5 times 20 % of the examples are")
    assert lines[2].endswith("then the model is trained on all (6 trainings)")
    assert "config: runs/mine.json" in lines
    (end,) = (line for line in lines if line.startswith("trained in "))
    assert re.search(r"; dev P@1 [\d.]+ \([\d.]+ to [\d.]+\)  ", end)
    assert end.endswith("each example by a model trained without it; the run is trained on all")
    assert "note: 94 examples are few to measure on; see the interval of P@1" in lines
    following = [shlex.split(line)[1:] for line in lines[lines.index("next:") + 1 :]]
    assert ["predict", "runs/mine", "FILE"] in following and len(following) == 4
    for command, *options in following:
        completion.command_parser(command).parse_args(options)

    (folder / "new.csv").write_text("text\nred blue fox sea rose number 0\n")
    (answer,) = call(capsys, predict, "--run", "runs/mine", "new.csv").out.splitlines()
    assert json.loads(answer)["labels"][0] in ("animal", "plant", "water"), "without a label"
    for split in ((), ("--split", "dev")):  # it was trained on these examples
        found = call(capsys, evaluate, "--run", "runs/mine", *split)
        first, best, *_ = found.out.splitlines()
        assert first.startswith("runs/mine on dev: 94 examples that were held out, measured")
        assert best.split(maxsplit=1)[1] in end
        problem = call(capsys, evaluate, "--run", "runs/mine", "--k", "1", *split).problem()
        assert "the run was trained on all examples of its training file" in problem
        assert "or measure runs/mine/held-out-0, which was trained without" in problem
    found = call(capsys, evaluate, "--run", "runs/mine", "--json")
    assert json.loads(found.out)["examples"] == 94
    found = call(capsys, evaluate, "--run", "runs/mine/held-out-0", "--json")
    record = json.loads(found.out)
    assert record["data"] == "dev" and record["examples"] == 19
    assert record["metrics"]["P@1"] == pytest.approx(record["metrics"]["accuracy"])
    assert "@1" in found.err, "the table is still there to read"

    written = load_config("runs/mine.json")
    assert written == load_config("runs/mine/config.json")
    again = call(capsys, train, "--config", "runs/mine.json")
    assert again.code == 0 and "already finished" in again.out
    (folder / "runs/mine.json").write_text("{}")
    again = call(capsys, train, "mine.csv", *FAST)
    assert "note: runs/mine.json is another config; `tfxc train --config" in again.out
    assert (folder / "runs/mine.json").read_text() == "{}"


def test_a_file_that_was_corrected(folder, capsys):
    """A run stays of the file as it was; --fresh takes the changed one, or a run beside it."""
    assert call(capsys, train, "mine.csv", *FAST).code == 0
    write(folder / "mine.csv", "text,label", pairs(110))
    problem = call(capsys, train, "mine.csv", *FAST).problem()
    assert "mine.csv has changed since it was prepared: " in problem
    assert "tfxc train with --fresh, which replaces the run, or into another one" in problem
    assert call(capsys, predict, "runs/mine", "mine.csv").code == 0, "as before"
    fresh = call(capsys, train, "mine.csv", *FAST, "--fresh")
    assert fresh.code == 0 and "; preparing it again" in fresh.err
    assert call(capsys, evaluate, "runs/mine", "--json").out.count('"examples": 110') == 1
    write(folder / "mine.csv", "text,label", pairs(130))
    beside = ("--run", "runs/other", "--prepared", "other")
    for more in (beside[:2], ("--minutes", "1", "--run", "runs/third")):
        assert "has changed since" in call(capsys, train, "mine.csv", *FAST, *more).problem()
    assert call(capsys, train, "mine.csv", *FAST, *beside).code == 0
    assert call(capsys, evaluate, "runs/other", "--json").out.count('"examples": 130') == 1
    write(folder / "mine.csv", "text,label", pairs(110))
    of_old = call(capsys, evaluate, "runs/mine/held-out-0", "--split", "dev", "--json")
    assert of_old.out.count('"examples": 22') == 1, "its data are as they were"


def test_data_that_another_training_has_prepared_anew(folder, capsys, monkeypatch):
    """No decision is learned of examples that are not those of the run."""
    decided = Recipe._decided

    def disturbed(self, context, summary):
        write(folder / "mine.csv", "text,label", pairs(110))
        ensure_prepared(context.config.data, renew=True)
        return decided(self, context, summary)

    monkeypatch.setattr(Recipe, "_decided", disturbed)
    problem = call(capsys, train, "mine.csv", *FAST, "--no-refit").problem()
    assert problem.startswith("runs/mine: contains a run of other data than prepared/mine-")


def test_a_file_that_changes_while_it_is_prepared(folder, capsys, monkeypatch):
    held_out_contexts = Recipe._held_out_contexts

    def changing(self, context):
        for number, inner in enumerate(held_out_contexts(self, context)):
            yield inner
            if number == 1:
                write(folder / "mine.csv", "text,label", pairs(110))

    monkeypatch.setattr(Recipe, "_held_out_contexts", changing)
    problem = call(capsys, train, "mine.csv", *FAST).problem()
    assert "mine.csv has changed while it was prepared. Start over with --fresh" in problem
    assert not list((folder / "runs/mine").rglob("ranker")), "before anything is trained"


def test_names_that_look_alike_are_told_once(folder, capsys):
    """In the lines about the file; of a config, whose file is not looked at, in a warning."""
    write(folder / "mine.csv", "text,label", pairs(94, labels=("animal", "plant", "Animal")))
    outcome = call(capsys, train, "mine.csv", *FAST)
    assert outcome.code == 0 and "label names that look alike: 1: 'animal' (" in outcome.out
    assert "look like another" not in outcome.err
    options = ("--prepared", "elsewhere", "--set", "run=runs/again")
    outcome = call(capsys, train, "--config", "runs/mine.json", *options)
    assert outcome.code == 0 and outcome.err.count("2 of 3 label names look like another") == 1


def test_rows_without_a_label_are_left_out_of_a_file_as_of_a_split(folder, capsys):
    """Where the run leaves them out; how many they are is said."""
    write(folder / "mine.csv", "text,label", [*pairs(94), "fox,"])
    write(folder / "test.csv", "text,label", [*pairs(20), "red fox,", "blue sea,"])
    options = ("--test", "test.csv", "--no-refit", *FAST)
    assert call(capsys, train, "mine.csv", *options).code == 0
    other = ("--run", "runs/other", "--set", "data.skip_unlabelled=false")
    assert call(capsys, train, "mine.csv", *options, *other).code == 0
    of_split = call(capsys, evaluate, "runs/mine", "--split", "test", "--json")
    of_file = call(capsys, evaluate, "runs/mine", "--data", "test.csv", "--json")
    assert ": 2 rows without a label are left out\n" in of_file.err
    records = [json.loads(outcome.out) for outcome in (of_split, of_file)]
    assert records[0]["examples"] == records[1]["examples"] == 20
    assert records[0]["metrics"] == records[1]["metrics"]
    of_other = call(capsys, evaluate, "runs/other", "--data", "test.csv")
    assert "22 examples\n" in of_other.out and "examples without labels: 2" in of_other.out
    for runs, count in (("mine", "other"), 20), (("other", "mine"), 22):
        first, second = (f"runs/{run}" for run in runs)
        compared = call(capsys, evaluate, first, "--data", "test.csv", "--compare", second)
        assert compared.out.count(f": {count} examples") == 2
        combined = call(capsys, ensemble, first, second, "--data", "test.csv")
        assert combined.code == 0 and f"examples: {count}" in combined.out
    write(folder / "none.csv", "text,label", ["red fox,", "blue sea,"])
    problem = call(capsys, evaluate, "runs/mine", "--data", "none.csv").problem()
    assert problem.startswith("none.csv: none of the 2 rows has a label. Check the file")


def test_labels_that_only_the_test_file_has(folder, capsys):
    """They are named, of a split as of a file; most often they are labels of the run, misspelt."""
    labels = ("Animal", "plant", "Water", "moon")
    write(folder / "test.csv", "text,label", pairs(20, labels=labels))
    outcome = call(capsys, train, "mine.csv", "--test", "test.csv", *FAST)
    assert outcome.code == 0
    assert "'animal' and 'Animal' differ only in upper and lower case, but are two" in outcome.err
    assert outcome.err.count("differ only in upper and lower case") == 1, "not for each fold"
    for data in (("--split", "test"), ("--data", "test.csv")):
        found = call(capsys, evaluate, "--run", "runs/mine", *data).out.splitlines()[0]
        assert (
            "20 examples, 15 of their labels are unknown to the run: 'Animal', 'Water', " in found
        )
        assert found.endswith("('Animal' and 'animal' differ only in upper and lower case)")
    with pytest.warns(UserWarning, match="20 examples, 15 of their labels are unknown to the run"):
        tfxc.Run("runs/mine").evaluate("test.csv")
    written = call(capsys, report, "--run", "runs/mine", "--no-plots", "--no-page")
    assert "test: 20 examples, 15 of their labels are unknown to the run: " in written.out


def test_a_column_for_each_label(folder, capsys):
    lines = [
        f"{line.split(',')[0]},{n % 2},{int(n % 3 == 0)},0" for n, line in enumerate(pairs(60))
    ]
    write(folder / "flags.csv", "text,odd,third,never", lines)
    outcome = call(capsys, train, "flags.csv", "--test", "flags.csv", *FAST)
    assert outcome.code == 0 and "columns of 0 and 1, 'odd' to 'never'" in outcome.out
    assert (folder / "runs/flags/assets/labels.txt").read_text() == "odd\nthird\nnever\n"
    found = call(capsys, evaluate, "--run", "runs/flags", "--data", "flags.csv")
    assert found.code == 0 and "unknown to the run" not in found.out


def test_a_malformed_file_leaves_nothing(folder, capsys):
    with open(folder / "mine.csv", "a") as stream:
        stream.write("a,b,c\n")
    assert (
        "mine.csv:96: the row has 3 cells, the header 2"
        in call(capsys, train, "mine.csv", *FAST).problem()
    )
    assert [path.name for path in folder.iterdir()] == ["mine.csv"]


def test_the_smallest_config(folder, capsys):
    (folder / "least.json").write_text('{"data": {"train": "mine.csv"}, "training": {"epochs": 1}}')
    outcome = call(capsys, train, "--config", "least.json", "--print-config")
    config = json.loads(outcome.out)
    assert config["run"] == "runs/mine" and config["encoder"]["name"] == "fasttext"
    assert config["training"]["epochs"] == 1 and config["data"]["dev_share"] == 0.15


def test_a_short_training_shows_its_course(folder, capsys):
    options = ("--set", "training.epochs=4", "--set", "training.batch_size=16")
    assert call(capsys, train, "mine.csv", *options, "--json").code == 0
    lines = map(json.loads, (folder / "runs/mine/metrics.jsonl").read_text().splitlines())
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps[0] == 1 and len(steps) >= 10 and steps[-1] == 24  # 94 examples, 16 per step


def test_init(folder, capsys):
    outcome = call(capsys, init, "mine.csv", "--set", "training.epochs=3")
    assert outcome.code == 0
    assert outcome.out.endswith("written: mine.json; train with `tfxc train --config mine.json`\n")
    assert load_config("mine.json").training.epochs == 3
    assert "this file already exists" in call(capsys, init, "mine.csv").problem()
    assert call(capsys, init, "mine.csv", "--force").code == 0
    assert load_config("mine.json").training.epochs > 3


def test_labels_that_may_be_several_are_warned_of_and_can_be_kept(folder, capsys):
    write(folder / "paths.csv", "text,label", pairs(labels=("law", "law|tax", "art", "art|oil")))
    keep = ("--set", "data.reader_options.label_separator=null")
    message = "paths.csv: every example has one label, but 2 of 4 label names"
    assert call(capsys, init, "paths.csv").err.count(message) == 1
    assert "warning" not in call(capsys, init, "paths.csv", "--force", *keep).err
    assert load_config("paths.json").data.reader_options["label_separator"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "neither a data file nor --config is given"),
        (
            ["mine.csv", "--config", "quickstart"],
            "both --config and a data file, 'mine.csv', are given",
        ),
        (["--config", "quickstart", "--set", "seed=1", "run=r"], "Write --set run=r, if it is"),
        (
            ["--config", "quickstart", "--preset", "fast"],
            "--preset: this option is for training on a data file",
        ),
        (["absent.csv"], "absent.csv: no such file"),
        (["mine.csv", "--label-column", "labl"], "did you mean 'label'"),
        (["mine.csv", "--dev", "absent.csv"], "absent.csv: no such file"),
        (["mine.csv", "--set", "training.epochs=three"], "--set: training.epochs: must be a num"),
        (["mine.csv", "--set", "training.epoch=3"], "--set: unknown key 'training.epoch', did"),
    ],
)
def test_refused_before_anything_is_written(folder, capsys, options, message):
    assert message in call(capsys, train, *options).problem()
    assert [path.name for path in folder.iterdir()] == ["mine.csv"]


def test_several_columns_of_texts(folder, capsys):
    """The label shows in the second only; empty cells are left out."""
    lines = [f"title {n % 3},{text},{label}" for n, (text, label) in enumerate(rows(94))]
    write(folder / "tickets.csv", "title,body,queue", [*lines, ",red fox,animal", "x,,animal"])
    columns = ["--text-column", "title", "--text-column", "body", "--label-column", "queue"]
    columns += ["--run", "runs/two"]
    outcome = call(capsys, train, "tickets.csv", *columns, *FAST)
    assert outcome.code == 0 and "texts 'title' + 'body', labels 'queue'" in outcome.out
    config = load_config("runs/two.json")
    assert config.data.reader_options["text_field"] == ["title", "body"]
    read, _ = tfxc.read("tickets.csv", text_column=["title", "body"], label_column="queue")
    assert read[0] == f"title 0\n{next(rows())[0]}" and read[-2:] == ["red fox", "x"]

    text, label = next(rows())
    write(folder / "new.csv", "body,title", [f"{text},title 0"])
    (answer,) = call(capsys, predict, "--run", "runs/two", "new.csv").out.splitlines()
    assert json.loads(answer)["labels"][0] == label
    write(folder / "half.csv", "body", [text])
    outcome = call(capsys, predict, "--run", "runs/two", "half.csv")
    assert outcome.code == 2 and "no column 'title', only 'body'" in outcome.err
    outcome = call(capsys, train, "tickets.csv", "--text-column", "title", "--text-column", "title")
    assert outcome.code == 2 and "neither a column nor a list of different columns" in outcome.err


def test_columns_of_labels_are_named_one_by_one(folder, capsys):
    lines = [f"{text},{n % 2},{int(n % 3 == 0)},1" for n, (text, _) in enumerate(rows(94))]
    write(folder / "flags.csv", "text,rude,odd,new", lines)
    outcome = call(
        capsys,
        init,
        "flags.csv",
        "--label-column",
        "rude",
        "--label-column",
        "odd",
        "--output",
        "a.json",
    )
    assert outcome.code == 0, outcome.err
    options = load_config("a.json").data.reader_options
    assert options == {"text_field": "text", "labels_field": ["rude", "odd"]}


def test_an_encoding_is_said_and_can_be_named(folder, capsys):
    table = "text,label\n" + "".join(f"{text} \u2013 5 €,{label}\n" for text, label in rows(94))
    (folder / "windows.csv").write_bytes(table.encode("cp1252"))
    outcome = call(capsys, init, "windows.csv", "--output", "a.json")
    assert "windows.csv: the text is read as cp1252, e.g. " in outcome.err
    assert "encoding 'cp1252'" in outcome.out
    assert load_config("a.json").data.reader_options["encoding"] == "cp1252"
    outcome = call(capsys, init, "windows.csv", "--encoding", "cp1250", "--output", "b.json")
    assert "is read as" not in outcome.err
    assert load_config("b.json").data.reader_options["encoding"] == "cp1250"


def test_a_test_file_without_labels(folder, capsys):
    """As those of competitions: its names or numbers of examples are no labels."""
    lines = [f"{n},{text},{label}" for n, (text, label) in enumerate(rows(94))]
    write(folder / "train.csv", "id,text,target", lines)
    write(folder / "test.csv", "id,text", [line.rpartition(",")[0] for line in lines])
    outcome = call(capsys, train, "train.csv", "--test", "test.csv", *FAST)
    assert outcome.code == 2
    assert (
        "test.csv: there is no column of labels: the training file's are in 'target'" in outcome.err
    )
