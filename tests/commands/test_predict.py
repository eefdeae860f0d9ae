"""The command predict: files, pipes, a terminal, runs and SavedModels."""

import fcntl
import io
import json
import lzma
import os
import pty
import select
import shutil
import signal
import sys
import termios
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tests.processes import Started
from tests.small_runs import NAMES, TEXTS, make_run
from tfxc.commands import predict
from tfxc.core import cli
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.chunk import Chunk
from tfxc.decision.decision import Decision
from tfxc.decision.fitted import FittedDecision
from tfxc.exports.savedmodel import export_savedmodel
from tfxc.inference.predictors import RunPredictor
from tfxc.inference.savedmodel import SavedModelPredictor
from tfxc.ranker.ensemble import combine
from tfxc.runs.loaded import load_run

TFIDF = {"name": "tfidf"}


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    """A run on texts with its SavedModel of 4 labels."""
    head = {"name": "mach", "num_buckets": 4, "num_repetitions": 3}
    path = make_run(tmp_path_factory.mktemp("text") / "run", text_features=TFIDF, head=head)
    export_savedmodel(load_run(path), path / "savedmodel", k=4)
    return path


def expected(run, texts, k):
    """Label names and scores by brute force over the lookups of the MACH head."""
    loaded = load_run(run)
    matrix = loaded.text_features.transform(texts).toarray()
    weights = [np.asarray(weight.value) for weight in loaded.model.trainable_variables]
    table, bias, kernel, head_bias = weights
    hidden = np.maximum(matrix @ table + bias, 0)
    logits = np.einsum("nd,rdb->nrb", hidden, kernel) + head_bias
    lookups = loaded.model.head.lookups
    scores = sum(logits[:, r, lookups[r]] for r in range(len(lookups)))
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[NAMES[i] for i in row] for row in ids], np.take_along_axis(scores, ids, 1)


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def assert_answers(found, labels, scores):
    assert [answer["labels"] for answer in found] == labels
    np.testing.assert_allclose([answer["scores"] for answer in found], scores, rtol=1e-4, atol=1e-5)


def test_jsonl_with_and_without_labels_and_plain_text_agree(text_run, tmp_path, capsys):
    labels, scores = expected(text_run, TEXTS, 3)
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    labelled = [json.dumps({"text": text, "labels": ["not known"]}) for text in TEXTS]
    with lzma.open(tmp_path / "labelled.jsonl.xz", "wt") as stream:
        stream.write("\n".join(labelled))
    (tmp_path / "plain.txt").write_text("\r\n".join(TEXTS))
    for name in ("bare.jsonl", "labelled.jsonl.xz", "plain.txt"):
        arguments = ["--k", "3", str(tmp_path / name), "--batch-size", "2"]
        assert predict.main(["--run", str(text_run), *arguments]) == 0
        assert_answers(lines_of(capsys.readouterr().out), labels, scores)
    predict.main(["--model", str(text_run / "savedmodel"), *arguments])
    assert_answers(lines_of(capsys.readouterr().out), labels, scores)


def test_a_matrix_by_a_run_several_and_a_savedmodel(text_run, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(TEXTS))
    copy = shutil.copytree(text_run, tmp_path / "copy")
    models = (
        ["--run", str(text_run)],
        ["--model", str(text_run / "savedmodel")],
        ["--run", str(text_run), "--run", str(copy), "--ensemble", "average"],
    )
    labels, _ = expected(text_run, TEXTS, 3)
    for model in models:
        output = ["--k", "3", "--output", str(tmp_path / "P.npz")]
        predict.main([*model, str(tmp_path / "in.txt"), *output])
        matrix = scipy.sparse.load_npz(tmp_path / "P.npz")
        assert matrix.shape == (len(TEXTS), len(NAMES))
        assert [[NAMES[i] for i in row] for row in matrix.indices.reshape(-1, 3)] == labels


def test_output_file_table_and_min_score(text_run, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(TEXTS) + "\n")
    labels, scores = expected(text_run, TEXTS, 12)
    limit = float(np.median(scores))
    predict.main([
        "--run", str(text_run), str(tmp_path / "in.txt"), "--k", "12", "--format", "table",
        "--min-score", str(limit), "--output", str(tmp_path / "out" / "table.txt"),
    ])  # fmt: skip
    rows = (tmp_path / "out" / "table.txt").read_text().splitlines()
    assert len(rows) == len(TEXTS)
    for number, row in enumerate(rows):
        assert row.split()[0] == str(number + 1)
        kept = [label for label, score in zip(labels[number], scores[number], strict=True)
                if score >= limit]  # fmt: skip
        assert all(label in row for label in kept) and row.count(" | ") == max(len(kept) - 1, 0)


@pytest.fixture(scope="module")
def deciding_run(tmp_path_factory):
    """A run whose model decides on each label by itself; most of its labels pass."""
    path = tmp_path_factory.mktemp("deciding") / "run"
    return make_run(path, text_features=TFIDF, head={"name": "dense"})


def between(values, share):
    """A number that a share of the values is below, and none of them equals."""
    found = np.sort(values, axis=None)
    return float(found[int(share * found.size) :][:2].mean())


def test_all_labels_that_count_are_listed(deciding_run, tmp_path, capsys):
    """Labels of probability 0.5 or more, or those that reach another least score."""
    (tmp_path / "in.txt").write_text("\n".join(TEXTS) + "\n")
    loaded = load_run(deciding_run)
    ids, scores = RunPredictor(loaded, 12, False).find(Chunk([[]] * len(TEXTS), texts=TEXTS))
    likely = 1 / (1 + np.exp(-scores))
    middle, low = (between(likely, 0.5), between(scores, 0.2))
    cases = (
        ([], likely, 0.5),
        (["--min-score", str(middle)], likely, middle),
        (["--scores", "--min-score", str(low)], scores, low),
    )
    for more, values, least in cases:
        assert predict.main(["--run", str(deciding_run), str(tmp_path / "in.txt"), *more]) == 0
        printed = capsys.readouterr()
        found = lines_of(printed.out)
        passed = zip(ids, values >= least, strict=True)
        expected = [[NAMES[i] for i in row[kept]] for row, kept in passed]
        assert [answer["labels"] for answer in found] == expected
        for answer, row in zip(found, values, strict=True):
            np.testing.assert_allclose(answer["scores"], row[row >= least], atol=1e-5)
        note = "labels of probability 0.5 or more; --k K lists the best K\n"
        assert printed.err.endswith(note) == (not more)
    assert max(map(len, expected)) > 5, "more than are listed of other models"
    predict.main(["--run", str(deciding_run), str(tmp_path / "in.txt"), "--k", "2"])
    found = lines_of(capsys.readouterr().out)
    assert [len(answer["labels"]) for answer in found] == [2] * len(TEXTS)


def test_no_label_counts(deciding_run, tmp_path):
    (tmp_path / "in.txt").write_text(TEXTS[0] + "\n")
    arguments = ["--run", str(deciding_run), str(tmp_path / "in.txt"), "--min-score", "1"]
    predict.main([*arguments, "--output", str(tmp_path / "out.jsonl")])
    assert (tmp_path / "out.jsonl").read_text() == '{"labels": [], "scores": []}\n'
    predict.main([*arguments, "--output", str(tmp_path / "out.txt"), "--format", "table"])
    assert (tmp_path / "out.txt").read_text().split(maxsplit=1) == ["1", "(no label)\n"]


def test_ids_and_texts(text_run, tmp_path, capsys):
    files = {
        "in.txt": "soup\n\nstew\n",
        "in.jsonl": '{"text": "soup", "uid": "a-1"}\n\n{"text": "stew", "uid": 7}\n',
        "in.csv": "uid,text\na-1,soup\n7,stew\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        named = [] if name == "in.txt" else ["--reader-option", "id_field=uid"]
        predict.main(["--run", str(text_run), str(tmp_path / name), "--k", "1", "--with-id",
                      "--with-text", *named])  # fmt: skip
        found = lines_of(capsys.readouterr().out)
        assert all(list(answer) == ["id", "text", "labels", "scores"] for answer in found)
        pairs = [(answer["id"], answer["text"]) for answer in found]
        plain = [(1, "soup"), (2, ""), (3, "stew")]
        assert pairs == (plain if name == "in.txt" else [("a-1", "soup"), ("7", "stew")])
    predict.main(["--run", str(text_run), str(tmp_path / "in.csv"), "--with-id"])
    assert [answer["id"] for answer in lines_of(capsys.readouterr().out)] == [1, 2]
    predict.main(["--run", str(text_run), str(tmp_path / "in.txt"), "--with-text", "--k", "1",
                  "--format", "table"])  # fmt: skip
    assert capsys.readouterr().out.splitlines()[2].endswith("<- stew")
    wrong = (
        ('{"text": "soup"}', "there is no key 'uid', only 'text'"),
        ('{"text": "soup", "uid": []}', r"'uid' is \[\], neither a text nor an integer"),
    )
    for content, problem in wrong:
        (tmp_path / "in.jsonl").write_text(content + "\n")
        with pytest.raises(DataError, match=problem):
            predict.main(["--run", str(text_run), str(tmp_path / "in.jsonl"), *named])


@pytest.mark.parametrize("option", [("--with-id",), ("--output", "out.jsonl")])
def test_a_terminal_has_no_such_answers(text_run, monkeypatch, option):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(
        ConfigError, match=f"{option[0]}: this option does not apply to examples that are typed"
    ):
        predict.main(["--run", str(text_run), *option])


def test_there_is_no_text_of_features(tmp_path):
    run = make_run(tmp_path / "run", kind="sparse", normalise="l2")
    with pytest.raises(ConfigError, match="--with-text: the model reads"):
        predict.main(["--run", str(run), "x.npz", "--with-text"])


def test_a_failed_file_leaves_no_output(text_run, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "soup"}\n{"title": "soup"}\n')
    arguments = ["--run", str(text_run), str(tmp_path / "in.jsonl"), "--batch-size", "1"]
    with pytest.raises(DataError, match=r"in.jsonl:2.*'text'.*text_field"):
        predict.main([*arguments, "--output", str(tmp_path / "out.jsonl")])
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("name", ["in.jsonl", "link.jsonl"])
def test_the_input_is_not_replaced(text_run, tmp_path, name):
    content = '{"text": "soup"}\n'
    (tmp_path / "in.jsonl").write_text(content)
    (tmp_path / "link.jsonl").symlink_to("in.jsonl")
    arguments = ["--run", str(text_run), str(tmp_path / "in.jsonl")]
    with pytest.raises(ConfigError, match=r"--output: .* is the input file"):
        predict.main([*arguments, "--output", str(tmp_path / name)])
    assert (tmp_path / "in.jsonl").read_text() == content


def test_reader_options(text_run, tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text('{"body": "soup"}\n')
    arguments = ["--run", str(text_run), str(tmp_path / "in.jsonl")]
    predict.main([*arguments, "--reader-option", "text_field=body"])
    assert len(lines_of(capsys.readouterr().out)[0]["labels"]) == 5
    with pytest.raises(SystemExit):
        predict.main([*arguments, "--reader-option", "text_field"])
    assert "'text_field' is not KEY=VALUE" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="has no argument 'body'"):
        predict.main([*arguments, "--reader-option", "body=1"])
    with pytest.raises(DataError, match="no such file"):
        predict.main(["--run", str(text_run), str(tmp_path / "missing.jsonl")])


@pytest.mark.parametrize("model", ["run", "saved"])
def test_sparse_and_dense_lines_of_a_pipe(tmp_path, capsys, monkeypatch, model):
    kinds = {
        "sparse": ({"normalise": "l2"}, b"3:1 7:0.5\n\n7:0.5 3:1\n"),
        "dense": ({"encoder": {"name": "precomputed"}, "num_features": 2}, b"1 2\n-1,0.5\n1,2"),
    }
    for kind, (parts, lines) in kinds.items():
        run = make_run(tmp_path / kind, kind=kind, **parts)
        source = ["--run", str(run)]
        if model == "saved":
            export_savedmodel(load_run(run), run / "savedmodel", k=3)
            source = ["--model", str(run / "savedmodel")]
        (tmp_path / "lines").write_bytes(lines)
        with open(tmp_path / "lines") as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            predict.main([*source, "--k", "2"])
        found = lines_of(capsys.readouterr().out)
        assert len(found) == 3 and found[0] == found[2] and found[0] != found[1]


def test_a_pipe_is_answered_line_by_line(text_run, monkeypatch):
    labels, _ = expected(text_run, TEXTS, 1)
    (asked, asking), (answered, answering) = os.pipe(), os.pipe()
    found = []

    def converse():
        with open(asking, "wb") as questions, open(answered, "rb") as answers:
            for text in TEXTS:
                questions.write(text.encode() + b"\n")
                questions.flush()  # and the answer comes although the pipe stays open
                found.append(json.loads(answers.readline())["labels"])
            questions.write(b"last, without a line end")
            questions.close()
            found.append(lines_of(answers.read().decode()))

    other = threading.Thread(target=converse, daemon=True)
    other.start()
    with open(asked) as stdin, open(answering, "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        patch.setattr(sys, "stdout", stdout)
        assert predict.main(["--run", str(text_run), "--k", "1"]) == 0
    other.join()
    assert found[:-1] == labels and len(found[-1]) == 1


def conversations(terminal, arguments):
    """Three of them at a terminal of its own, in one process."""
    os.setsid()
    for descriptor in (0, 1):
        os.dup2(os.open(terminal, os.O_RDWR), descriptor)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # A test run in the background of a shell ignores Ctrl-C, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    for _ in range(3):
        try:
            cli.run(predict.main, arguments)
        except SystemExit as ended:
            print("ended with", ended.code, flush=True)


def test_typed_examples(text_run):
    """Three conversations at a terminal: one is ended by Ctrl-D, one by Ctrl-C, one by a word."""
    ours, theirs = pty.openpty()
    arguments = ["--run", str(text_run), "--k", "2"]
    process = Started(conversations, os.ttyname(theirs), arguments)
    labels, scores = expected(text_run, ["chicken soup"], 2)
    shown = _read_until(ours, b"> ")
    for ending, then in ((b"\x04", b"> "), (b"\x03", b"> "), (b"exit\n", b"ended with 0\r\n")):
        assert b"Ctrl-D quits" in shown
        os.write(ours, b"chicken soup\n")
        shown = _read_until(ours, b"> ")
        for label, score in zip(labels[0], scores[0], strict=True):
            assert f"{score:.3f}"[:-1] in shown.decode() and label in shown.decode()
        shown = _read_until(ours, then, key=ending)
        assert b"ended with 0\r\n" in shown
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors
    os.close(theirs)
    os.close(ours)


def _read_until(descriptor, ending, key=b""):
    """What is shown up to ``ending``, after typing ``key``.

    It is typed half a second later, and again after a long silence: Python does not notice a
    Ctrl-C between the moment it shows a prompt and the one it waits for input.
    """
    shown = b""
    time.sleep(0.5 if key else 0)
    os.write(descriptor, key)
    while not shown.endswith(ending):
        if select.select([descriptor], [], [], 30 if key else None)[0]:
            shown += os.read(descriptor, 1000)
        else:
            os.write(descriptor, key)
    return shown


def test_wrong_k_and_wrong_kind(text_run, tmp_path, monkeypatch):
    loaded = load_run(text_run)
    with pytest.raises(ConfigError, match="k: must be from 1 to 12, the number of labels"):
        RunPredictor(loaded, 13)
    with pytest.raises(ConfigError, match="k: must be from 1 to 4, the number of labels"):
        SavedModelPredictor(text_run / "savedmodel", 5)
    with pytest.raises(ConfigError, match="not a SavedModel"):
        SavedModelPredictor(text_run)
    vectors = Chunk(labels=[[]], features=np.ones((1, 2), np.float32))
    for predictor in (RunPredictor(loaded), SavedModelPredictor(text_run / "savedmodel")):
        with pytest.raises(DataError, match="texts"):
            predictor(vectors, "x.npz")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit):
        predict.main(["--batch-size", "0", "--run", str(text_run)])


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (("scores",), "this SavedModel does not output ids, labels and scores"),
        (("ids", "labels", "scores"), "not written by tfxc export: its inputs are x"),
    ],
)
def test_savedmodels_of_others(tmp_path, outputs, message):
    module = tf.Module()
    module.answer = tf.function(
        lambda x: dict.fromkeys(outputs, x),
        input_signature=[tf.TensorSpec((None, 3), name="x")],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path / "served"), module.answer)
    with pytest.raises(ConfigError, match=message):
        SavedModelPredictor(tmp_path / "served")


def test_savedmodel_refuses_features_beyond_its_own(tmp_path):
    run = make_run(tmp_path / "run")
    export_savedmodel(load_run(run), run / "savedmodel")
    predictor = SavedModelPredictor(run / "savedmodel")
    from tfxc.data.reading.typed_examples import chunk_of_lines

    assert len(predictor(chunk_of_lines(["19:1"], "sparse")).labels[0]) == 5
    with pytest.raises(DataError, match="space the model was trained on"):
        predictor(chunk_of_lines(["20:1"], "sparse"))


@pytest.fixture(scope="module")
def other_run(tmp_path_factory):
    """A run on the same texts, with its labels in another order."""
    folder = tmp_path_factory.mktemp("other")
    return make_run(folder / "run", text_features={"name": "hashing"}, names=NAMES[::-1])


@pytest.mark.parametrize("method", ["average", "softmax_average"])
def test_an_ensemble_of_runs(text_run, other_run, method, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    lists = []
    for run in (text_run, other_run):
        found = RunPredictor(load_run(run), 12)(Chunk(labels=[[]] * 5, texts=TEXTS))
        lists.append(([[NAMES.index(name) for name in row] for row in found.labels], found.scores))
    ids, scores = combine(lists, method, 3)
    runs = ["--run", str(text_run), "--run", str(other_run)]
    predict.main([*runs, str(tmp_path / "in.txt"), "--k", "3", "--ensemble", method])
    answers = lines_of(capsys.readouterr().out)
    assert_answers(answers, [[NAMES[i] for i in row] for row in ids], scores)
    if method == "softmax_average":
        predict.main([*runs, str(tmp_path / "in.txt"), "--k", "3"])
        assert lines_of(capsys.readouterr().out) == answers
        predict.main([*runs, str(tmp_path / "in.txt"), "--k", "3", "--weights", "3,1"])
        ids, scores = combine(lists, method, 3, [0.75, 0.25])
        found = lines_of(capsys.readouterr().out)
        assert_answers(found, [[NAMES[i] for i in row] for row in ids], scores)
        assert found != answers


def test_an_ensemble_has_no_decision_of_its_runs(text_run, other_run, tmp_path, capsys):
    """A rule of one run's probabilities says nothing of what several give together."""
    shutil.copytree(text_run, tmp_path / "decided")
    FittedDecision(None, Decision(0.9, probabilities=True, at_most=12)).save(tmp_path / "decided")
    (tmp_path / "in.txt").write_text("soup\n")
    asked = ["--run", str(tmp_path / "decided"), "--run", str(other_run), str(tmp_path / "in.txt")]
    for more, length, note in (([], 5, "several runs: the best 5 labels; "), (["--k", "3"], 3, "")):
        predict.main([*asked, *more])
        captured = capsys.readouterr()
        assert [len(line["labels"]) for line in lines_of(captured.out)] == [length]
        assert note in captured.err and ("what one run returns" in captured.err) == bool(note)


def test_some_repetitions_have_no_decision_of_all(text_run, tmp_path, capsys):
    """Their scores are others than those that the decision was learned of."""
    run = tmp_path / "decided"
    shutil.copytree(text_run, run)
    FittedDecision(None, Decision(-100.0, at_most=12)).save(run)
    (tmp_path / "in.txt").write_text("soup\n")
    for more, length in (([], 12), (["--repetitions", "2"], 5)):
        predict.main([str(run), str(tmp_path / "in.txt"), *more])
        found = lines_of(capsys.readouterr().out)
        assert [len(line["labels"]) for line in found] == [length], more


def test_bad_ensembles(text_run, other_run, tmp_path):
    (tmp_path / "in.txt").write_text("soup\n")
    one, other, file = ["--run", str(text_run)], ["--run", str(other_run)], str(tmp_path / "in.txt")
    for more in (["--ensemble", "average"], ["--top", "7"], ["--weights", "1"]):
        with pytest.raises(ConfigError, match=rf"{more[0]}: this option combines several runs"):
            predict.main([*one, file, *more])
    with pytest.raises(ConfigError, match="the same run is named twice"):
        predict.main([*one, "--run", f"{text_run}/", file])
    with pytest.raises(ConfigError, match="--ensemble average"):
        predict.main([*one, *other, file, "--probabilities"])
    with pytest.raises(ConfigError, match=r"weights: .* number of at least 0 for each of 2 models"):
        predict.main([*one, *other, file, "--weights", "1,2,3"])
    with pytest.raises(ConfigError, match="k: must be from 1 to 12, the number of labels"):
        predict.main([*one, *other, file, "--k", "13"])
    fewer = make_run(tmp_path / "fewer", text_features=TFIDF, names=NAMES[1:])
    with pytest.raises(ConfigError, match="its 11 labels are not the 12 of the first run"):
        predict.main([*one, "--run", str(fewer), file])
    bags = make_run(tmp_path / "bags")
    with pytest.raises(
        ConfigError, match=r"bags: the run reads 'sparse', but the first run reads 'text'"
    ):
        predict.main([*one, "--run", str(bags), file])
