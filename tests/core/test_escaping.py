"""Hostile label names, texts, file names and config values, wherever they are shown."""

import ast
import csv
import io
import json
import sys
import unicodedata

import numpy as np
import pytest

from tests.commands.calls import call
from tests.small_runs import make_run
from tests.source_tree import ROOT, python_files, tree_of
from tfxc.commands import evaluate, predict, train, tree
from tfxc.core import cli, escaping
from tfxc.core.errors import DataError, MachineError
from tfxc.core.escaping import SafeStream, csv_cell, html_text, json_text, markdown_text, one_line
from tfxc.core.progress import Progress
from tfxc.decision.decision import Decision
from tfxc.metrics.per_label import PerLabel
from tfxc.reports import tables

ESCAPE, CSI, REVERSED = "\x1b]0;owned\x07", "\x9b31m", "\u202egnp.exe"
HOSTILE = [
    f"owl{ESCAPE}", f"hen{CSI}", f"fox{REVERSED}", "=1+1", "@SUM(A1)", "-2+3+cmd|' /C calc'!A0",
    "a;=2+2", "<script>alert(1)</script>", "[x](javascript:alert(1))", "![i](http://a/b)", "p|q",
    "**bold** `code` \\*", "$\\frac{", "# head", "1. one", "日本 naïve", "tab\tcr\rdel\x7f",
]  # fmt: skip
# What the shown text may hold of control characters: line breaks and tabs of our own.
CONTROLS = {
    chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Cc"
}
REORDERING = {character for character in map(chr, range(0x2000, 0x2070))
              if unicodedata.bidirectional(character) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI",
                                                          "RLI", "FSI", "PDI"}}  # fmt: skip
UNSAFE = CONTROLS | REORDERING | {"\u2028", "\u2029"}


def unsafe(text, allowed="\n\t"):
    return sorted(set(text) & (UNSAFE - set(allowed)))


def test_no_control_character_is_left():
    everything = "".join(sorted(UNSAFE)) + "\ud800\udfff"
    assert len(UNSAFE) == 65 + 9 + 2
    for shown in (one_line, html_text, markdown_text):
        assert not unsafe(shown(everything), allowed="")
        shown(everything).encode("utf-8")
    assert one_line("a\x1b[2J\n\u202e日本") == r"a\x1b[2J\n\u202e日本"
    assert escaping.several_lines("a\n\tb\r") == "a\n\tb\\r"
    assert (
        one_line("ordinary naïve 日本 עברית 👩\u200d👧") == "ordinary naïve 日本 עברית 👩\u200d👧"
    )


def test_json_stays_exact():
    everything = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert json.loads(json_text("a\udc80b")) == "a\udc80b"
    text = json_text({"a": everything}, indent=2)
    assert json.loads(text) == {"a": everything} and not unsafe(text)
    assert "日本" in json_text("日本") and text.encode("utf-8")


@pytest.mark.parametrize(
    "text", [*HOSTILE, "2) two", "- item", "+ item", "===", "a&amp;b", "~~x~~"]
)
def test_markdown_shows_the_text_itself(text):
    """A renderer finds nothing but text, in a line and in a table's cell."""
    markdown_it = pytest.importorskip("markdown_it")
    renderer = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(
        ["table", "strikethrough"]
    )
    for source in (f"- {markdown_text(text)}", tables.markdown(("name",), [(text,)])):
        tokens = renderer.parse(source)
        kinds = {token.type for token in tokens} | {
            child.type for token in tokens for child in token.children or ()
        }
        known = {"inline", "text", "text_special", "bullet_list_open", "bullet_list_close"}
        known |= {"list_item_open", "list_item_close", "paragraph_open", "paragraph_close"}
        assert {kind for kind in kinds if kind[:2] not in ("ta", "th", "td", "tr", "tb")} <= known
        inline = [token for token in tokens if token.type == "inline"]
        shown = "".join(child.content for child in inline[-1].children)
        collapsed = " ".join(text.split()) if "|" in source[:1] else text
        assert shown == one_line(collapsed).strip()


@pytest.mark.parametrize("text", ["=1+1", "+a", "-a", "@x", "\tx", "\nx", "-1+cmd", "\uff1d1", "-"])
def test_cells_are_no_formulas(text):
    assert csv_cell(text) == f"'{text}"


def test_nor_where_something_else_separates_cells():
    assert csv_cell("a;=1\t@b\n  +c; d, =e") == "a;'=1\t'@b\n  '+c; d, =e"


@pytest.mark.parametrize("value", [-1, -0.5, 7, "-1", "+1.5", "-1e-05; -2", "a=b", "a-1; b", ""])
def test_other_cells_stay(value):
    assert csv_cell(value) == value


def test_tables_of_hostile_labels(tmp_path):
    found = PerLabel(len(HOSTILE))
    count = len(HOSTILE)
    best = np.arange(count)[:, None]
    found.update(best, np.ones((count, 1)), np.roll(best, 1, axis=0))
    text = {row: f"=cmd {HOSTILE[row]}\nsecond line" for row in range(count)}
    rows = tables.write_tables(tmp_path, found, HOSTILE, np.ones(count, int), text)
    for name in ("labels", "confusions", "wrong"):
        content = (tmp_path / f"{name}.csv").read_text(encoding="utf-8")
        assert not unsafe(content)
        # Any separator that a spreadsheet may go by.
        for delimiter in ",;\t":
            for cells in csv.reader(io.StringIO(content), delimiter=delimiter):
                assert not [cell for cell in cells if cell.lstrip()[:1] in tuple("=+@") and cell]
    read = list(csv.DictReader((tmp_path / "labels.csv").open(newline="", encoding="utf-8")))
    assert {row["label"] for row in read} == {csv_cell(name) for name in HOSTILE}
    assert "<script>" not in tables.markdown(tables.WRONG_COLUMNS, rows[2], most=99)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on texts whose labels have hostile names that a file of names can hold."""
    names = [name for name in HOSTILE if "\r" not in name]
    return make_run(
        tmp_path_factory.mktemp("hostile") / "run", text_features={"name": "tfidf"}, names=names
    )


def names_of(run):
    return (run / "assets" / "labels.txt").read_text(encoding="utf-8").split("\n")[:-1]


def test_predictions(run, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("soup and tea\nbutter\n")
    names = names_of(run)
    command = ("--run", run, tmp_path / "texts.txt", "--reader", "lines", "--k", len(names))
    table = call(capsys, predict, *command, "--format", "table")
    assert table.code == 0 and not unsafe(table.out), table.err
    assert r"owl\x1b]0;owned\x07" in table.out and "日本 naïve" in table.out
    lines = call(capsys, predict, *command, "--format", "jsonl").out
    assert not unsafe(lines) and "日本" in lines
    for line in lines.splitlines():
        assert sorted(json.loads(line)["labels"]) == sorted(names)


def test_typed_texts_are_answered_safely():
    from tfxc.inference.predictors import Predictions

    answer = predict.ranking(Predictions([["a\n\x1b[2Jb"]], np.array([[0.5]])))
    assert answer == "    0.5000  a\\n\\x1b[2Jb"


def test_shown_predictions(tool, monkeypatch, capsys):
    """``show_predictions`` with a model that answers with hostile names."""
    import types

    import tensorflow as tf

    module = tool("show_predictions")
    names = tf.constant([[name.encode() for name in HOSTILE]])
    answer = {"serving_default": lambda text: {"labels": names}}
    model = types.SimpleNamespace(signatures=answer)
    monkeypatch.setattr(tf.saved_model, "load", lambda path: model)
    monkeypatch.setattr(
        module, "read_examples", lambda *_: [(f"x{ESCAPE} y", [HOSTILE[0], "a\nb"])]
    )
    assert module.main(["--run", "r", "--savedmodel", "m"]) == 0
    out = capsys.readouterr().out
    assert not unsafe(out) and r"true: owl\x1b]0;owned\x07, a\nb" in out and r"[owl\x1b" in out


def test_a_tree_of_hostile_labels(tmp_path, capsys):
    from tfxc.labels.cluster_tree import ClusterTree

    names = [name for name in HOSTILE if "\r" not in name]
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    half = len(names) // 2
    ClusterTree([[0, 0], [0] * half + [1] * (len(names) - half)]).save(tmp_path / "tree.npz")
    show = ("show", tmp_path / "tree.npz", "--names", tmp_path / "labels.txt")
    for more in ((), ("--label", names[0]), ("--output", tmp_path / "t.html")):
        outcome = call(capsys, tree, *show, *more)
        assert outcome.code == 0 and not unsafe(outcome.out), outcome.err
    assert call(capsys, tree, *show, "--output", tmp_path / "t.md").code == 0
    for name in ("t.html", "t.md"):
        written = (tmp_path / name).read_text(encoding="utf-8")
        assert not unsafe(written) and "<script>" not in written


def test_errors_are_one_line(tmp_path, capsys):
    for kind in (DataError, MachineError):
        error = kind(f"label {ESCAPE} of\n  several lines", where=f"a\n{CSI}.txt", fix="x\u202ey")
        assert not unsafe(str(error), allowed="") and "\\x1b]0;owned" in str(error)
        assert "of several lines" in str(error) and error.where == f"a\n{CSI}.txt"
    problem = call(capsys, train, "--config", tmp_path / f"{ESCAPE}no\nsuch.json").problem()
    assert not unsafe(problem, allowed="") and "such.json" in problem
    path = tmp_path / f"data{CSI}\n.jsonl"
    path.write_text('{"text": "x", "labels": "\x1b]0;t"}\n')
    problem = call(capsys, evaluate, "--run", tmp_path, "--data", path).problem()
    assert not unsafe(problem, allowed="")


def test_whatever_a_command_prints(capsys):
    """Not only what was thought of: standard output and standard error as a whole."""

    def main(_):
        print(f"{ESCAPE}one\ttwo\nthree")
        sys.stderr.writelines([f"{CSI}\n"])
        return 0

    with pytest.raises(SystemExit):
        cli.run(main)
    outcome = capsys.readouterr()
    assert outcome.out == "\\x1b]0;owned\\x07one\ttwo\nthree\n" and outcome.err == "\\x9b31m\n"
    assert not isinstance(sys.stdout, SafeStream)


def test_a_terminal_that_lacks_letters(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit):
        cli.run(lambda _: print("日本"))
    stream.flush()
    assert stream.buffer.getvalue() == b"\\u65e5\\u672c\n"


def test_the_progress_line(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    progress = Progress(f"reading {ESCAPE}\n.txt", 10, stream=SafeStream(terminal))
    monkeypatch.setattr(progress, "_interval", 0)
    monkeypatch.setenv("COLUMNS", "200")  # all of the line is shown
    progress.advance(1, f"note {CSI}")
    shown = terminal.getvalue()
    assert shown.startswith("\r\x1b[2K") and not unsafe(shown.removeprefix("\r\x1b[2K"))
    assert r"reading \x1b]0;owned\x07\n.txt" in shown and r"note \x9b31m" in shown


def test_the_log_of_a_run(tmp_path, capsys):
    from tfxc.runs.folder import RunFolder
    from tfxc.training.reporting import Reporter

    reporter = Reporter(RunFolder(tmp_path), 0, 10, 1)
    reporter.log(f"remark {ESCAPE}\nsecond")
    reporter.close()
    assert (tmp_path / "log.txt").read_text() == "remark \\x1b]0;owned\\x07\\nsecond\n"
    assert not unsafe(capsys.readouterr().out)


def calls_of(path):
    """(name of the called attribute, its keywords) of every call in a file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            yield name, {keyword.arg for keyword in node.keywords}


def test_there_is_one_way_to_write_such_text():
    for path in python_files("tfxc", "tools"):
        place, source = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        if "ensure_ascii" not in source and "csv" not in source:
            continue  # to parse it takes longer
        found = {name for name, keywords in calls_of(path) if "ensure_ascii" in keywords}
        # What is exported runs without tfxc; its test compares it with json_text.
        allowed = ("tfxc/core/escaping.py", "tfxc/exports/standalone/predict.py")
        assert not found or place in allowed, f"{place}: use escaping.json_text"
        # Files of predictions are read again, so their cells stay as they are.
        writers = ("tfxc/reports/tables.py", "tfxc/inference/prediction_files.py",
                   "tfxc/data/reading/inspection/cleaning.py")  # fmt: skip
        if "csv" in source and place not in writers:
            called = {name for name, _ in calls_of(path)}
            assert "writer" not in called, f"{place}: use tfxc.reports.tables.write_csv"


def test_report_lines_of_a_decision():
    found = PerLabel(2, Decision(), positive=1)
    found.update([[1]], np.ones((1, 1)), [[1]])
    (row, *_) = tables.average_rows(found, ["a", f"b{ESCAPE}"])
    assert row[0] == r"binary (b\x1b]0;owned\x07)"
