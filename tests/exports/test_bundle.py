"""What is exported next to a model, and that it runs with nothing but NumPy and the runtime."""

import json
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from tests.small_runs import make_run
from tfxc.commands import export, predict
from tfxc.core.errors import ConfigError
from tfxc.core.storage.ownership import MARKER
from tfxc.data.text.registry import build_text_features
from tfxc.exports import bundle
from tfxc.exports.convert import export_model
from tfxc.exports.standalone.predict import Predictor, Problem
from tfxc.runs.loaded import load_run

BLOCKED = ("tensorflow", "keras", "tfxc", "sklearn", "scipy", "tokenizers")
# Runs predict.py as a script would be, in a Python that has none of these packages.
ALONE = f"""
import importlib.abc, runpy, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Blocker())
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
LINES = [
    "Melt the butter, then add flour.",
    "",
    "İSTANBUL ΟΔΟΣ Straße naïve e\u0301 Ǆ",
    "日本語のテキスト、中文 한국어 ไทย",
    "👩‍👩‍👧 \u200b\u2028\x1c soup\x00tea \uffff\ufeff",
    "tea and butter " * 400,
    "   \t ",
]
TOKENS = {"kind": "tokens", "encoder": {"name": "fasttext", "embedding_dim": 8}}
RUNS = {
    "characters": {
        "text_features": {"name": "characters", "max_length": 40},
        "kind": "tokens",
        "encoder": {"name": "textcnn", "embedding_dim": 8, "num_filters": 4},
    },
    "words": {"text_features": {"name": "words", "min_count": 1}, **TOKENS},
    "fasttext": {
        "text_features": {"name": "fasttext", "min_count": 1, "buckets": 99, "min_chars": 2,
                          "max_chars": 4},
        **TOKENS,
    },
    "tfidf": {"text_features": {"name": "tfidf", "ngram_range": [1, 2]}},
    "hashing": {"text_features": {"name": "hashing", "num_features": 64}},
    "pecos_tfidf": {"text_features": {"name": "pecos_tfidf", "analyzer": "char"}},
    "joined": {
        **TOKENS,
        "kind": "joined",
        "text_features": {
            "name": "joined", "tokens": {"name": "words", "min_count": 1},
            "terms": {"name": "tfidf"},
        },
    },
}  # fmt: skip


def answered(path):
    """Labels and scores in lines of JSON."""
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [one["labels"] for one in found], np.array([one["scores"] for one in found])


def alone(folder, *arguments):
    """What predict.py of an export prints where nothing else is installed."""
    command = [sys.executable, "-c", ALONE, str(folder / "predict.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)


@pytest.mark.parametrize(
    ("form", "name", "given"),
    [
        ("onnx", "characters", []),
        ("onnx", "tfidf", ["--probabilities"]),
        ("runtime", "tfidf", ["--probabilities"]),
        ("runtime", "words", []),
        *(
            pytest.param(form, name, [], marks=pytest.mark.slow)
            for form in ("onnx", "runtime")
            for name in ("words", "fasttext", "hashing", "pecos_tfidf", "joined")
        ),
    ],
)
def test_predicts_alone_as_tfxc_does(tmp_path, form, name, given):
    if form == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
    run, texts = make_run(tmp_path / "run", **RUNS[name]), tmp_path / "texts.txt"
    texts.write_bytes("".join(f"{line}\n" for line in LINES).encode("utf-8"))
    export.main(["--run", str(run), "--format", form, "--k", "4", *given])
    found = alone(run / form, texts)
    assert found.returncode == 0, found.stderr[-2000:]
    (tmp_path / "found.jsonl").write_text(found.stdout, "utf-8")
    wanted = ["--run", str(run), str(texts), "--output", str(tmp_path / "wanted.jsonl")]
    assert predict.main([*wanted, "--k", "4", *(given or ["--scores"])]) == 0
    labels, scores = answered(tmp_path / "found.jsonl")
    expected_labels, expected = answered(tmp_path / "wanted.jsonl")
    assert labels == expected_labels and len(labels) == len(LINES)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert not given or scores.max() <= 1


def test_a_changed_bit_in_any_file_is_reported(tmp_path):
    pytest.importorskip("onnxruntime")
    run = load_run(make_run(tmp_path / "run", text_features={"name": "tfidf"}))
    folder = export_model(run, tmp_path / "out", "onnx").folder
    expected = Predictor(folder)(LINES)
    assert Predictor(folder)(line for line in LINES) == expected
    for wrong in (LINES[0], b"bytes", None, [b"bytes"], [None]):
        with pytest.raises(Problem, match="these are no texts"):
            Predictor(folder)(wrong)
    with pytest.raises(Problem, match="--k: -1 is not from 1 to "):
        Predictor(folder)(LINES, -1)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in [path for path in files if path.name != MARKER and "__pycache__" not in str(path)]:
        before = path.read_bytes()
        for place in (0, len(before) // 2, len(before) - 1):
            changed = bytearray(before)
            changed[place] ^= 1
            path.write_bytes(changed)
            with pytest.raises(Problem, match=f"{path.name}: .*damaged"):
                Predictor(folder)
        path.unlink()
        with pytest.raises(Problem, match=f"{path.name}: cannot be read"):
            Predictor(folder)
        path.write_bytes(before)
    assert Predictor(folder)(LINES) == expected


@pytest.fixture
def interpreter(monkeypatch):
    """The package ai-edge-litert, played by TensorFlow's own copy of it."""
    module = types.ModuleType("ai_edge_litert.interpreter")
    module.Interpreter = tf.lite.Interpreter
    monkeypatch.setitem(sys.modules, "ai_edge_litert", types.ModuleType("ai_edge_litert"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "text_features.tokenize", raising=False)
    monkeypatch.delitem(sys.modules, "text_features", raising=False)


@pytest.mark.parametrize("name", ["tfidf", pytest.param("words", marks=pytest.mark.slow)])
@pytest.mark.parametrize("link", ["softmax", pytest.param("sigmoid", marks=pytest.mark.slow)])
def test_litert_and_probabilities(tmp_path, interpreter, name, link):
    run = load_run(make_run(tmp_path / "run", objective={"name": link}, **RUNS[name]))
    done = export_model(run, tmp_path / "out", "litert", 12, probabilities=True)
    assert done.probabilities and done.missing is None
    found = Predictor(done.folder)(LINES)
    total = sum(found[0].scores)
    assert (abs(total - 1) < 1e-5) == (link == "softmax") and max(found[0].scores) <= 1
    assert len(found) == len(LINES) and len(Predictor(done.folder)(LINES[:1], 2)[0].labels) == 2


@pytest.mark.slow  # test_litert_of_single_examples is its fast guard
def test_single_examples_are_asked_for_one_by_one(tmp_path, interpreter):
    settings = {**RUNS["words"], "encoder": {"name": "textrnn", "embedding_dim": 4,
                                             "hidden_dim": 4}}  # fmt: skip
    run = load_run(make_run(tmp_path / "run", **settings))
    done = export_model(run, tmp_path / "out", "litert", 12)
    assert done.batch == 1
    found = Predictor(done.folder)(LINES)
    features = run.text_features.kind.tensors_of(
        run.text_features.kind.arrays_of(run.text_features.transform(LINES))
    )
    _, scores = run.model.find_top_k(features["tokens"], 12)
    np.testing.assert_allclose([one.scores for one in found], scores, rtol=1e-4, atol=1e-5)


def test_a_model_without_probabilities_is_refused(tmp_path):
    run = make_run(tmp_path / "run", objective={"name": "hinge"})
    with pytest.raises(ConfigError, match="its scores are margins"):
        export.main(["--run", str(run), "--format", "litert", "--probabilities"])


@pytest.mark.parametrize(
    ("section", "missing"),
    [
        ({"name": "words", "token_pattern": r"\pL+"}, "token_pattern"),
        ({"name": "tfidf", "token_pattern": "[[:alpha:]]+"}, "token_pattern"),
        ({"name": "tfidf", "token_pattern": "(?i)[a-z]+"}, "token_pattern"),
        ({"name": "tfidf", "token_pattern": "[a-z]+$"}, "token_pattern"),
        ({"name": "tfidf", "token_pattern": "a{,3}"}, "token_pattern"),
        ({"name": "tfidf", "token_pattern": r"[^ ,]+|(?:\d-)+"}, None),
        ({"name": "words", "segmenter": "jieba"}, "segmenter 'jieba'"),
        ({"name": "hashing"}, None),
    ],
)
def test_what_cannot_be_cut_without_tfxc(section, missing):
    found = bundle.missing_in_tokenizer(build_text_features(section))
    assert found is None if missing is None else missing in found


def test_an_export_without_programs_says_why(tmp_path, capsys):
    section = {"name": "tfidf", "token_pattern": "[[:alpha:]]+"}
    run = make_run(tmp_path / "run", text_features=section)
    export.main(["--run", str(run), "--format", "litert"])
    assert "no predict.py: it does not know the token_pattern" in capsys.readouterr().out
    assert (run / "litert" / "text_features" / "idf.npy").is_file()
    assert not (run / "litert" / "predict.py").exists()


def test_a_tokenizer_that_cuts_otherwise_is_a_bug(tmp_path, monkeypatch):
    run = load_run(make_run(tmp_path / "run", text_features={"name": "tfidf"}))
    monkeypatch.setattr(bundle.tokenize, "unit", lambda weights, norm: weights * 1.001)
    with pytest.raises(RuntimeError, match=r"tokenize\.py does not cut texts as the run's"):
        export_model(run, tmp_path / "out", "litert")
    assert not (tmp_path / "out").exists()
