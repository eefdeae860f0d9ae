"""The command export with the formats onnx and litert."""

import contextlib
import io

import pytest

from tests.small_runs import NAMES, make_run
from tfxc.commands import export
from tfxc.core.errors import ConfigError

TFIDF = {"text_features": {"name": "tfidf"}}
WORDS = {
    "kind": "tokens",
    "text_features": {"name": "words", "max_length": 16},
    "encoder": {"name": "fasttext", "embedding_dim": 8},
    "objective": {"name": "softmax"},
}
DENSE = {"kind": "dense", "num_features": 7, "encoder": {"name": "precomputed"}}
IMAGES = {
    "kind": "image",
    "image_shape": [8, 8, 3],
    "encoder": {"name": "resnet", "depth": 10, "width": 4},
    "objective": {"name": "softmax"},
}


@pytest.mark.parametrize(
    ("form", "settings"),
    [
        ("onnx", TFIDF),
        ("litert", {}),
        ("litert", WORDS),
        ("onnx", DENSE),
        ("onnx", IMAGES),
        pytest.param("litert", TFIDF, marks=pytest.mark.slow),
        pytest.param("onnx", {}, marks=pytest.mark.slow),
        pytest.param("onnx", WORDS, marks=pytest.mark.slow),
        pytest.param("litert", DENSE, marks=pytest.mark.slow),
        pytest.param("litert", IMAGES, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_printed_lines_run(tmp_path, capsys, form, settings):
    if form == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
    run = make_run(tmp_path / "run", **settings)
    assert export.main(["--run", str(run), "--format", form, "--k", "3"]) == 0
    head, code = capsys.readouterr().out.split("\n\n")
    assert f"{run / form}: " in head and "MB" in head and "(batch, 3), best first" in head
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(code, {})
    (row,) = eval(output.getvalue())
    assert len(set(row)) == 3 and set(row) <= set(NAMES)


def test_what_does_not_go_together(tmp_path, capsys):
    run = str(make_run(tmp_path / "run", **DENSE))
    with pytest.raises(ConfigError, match=r"a SavedModel cannot be quantised to int8"):
        export.main(["--run", run, "--quantize", "int8"])
    with pytest.raises(ConfigError, match=r"--min-agreement: this option is for a quantised model"):
        export.main(["--run", run, "--format", "litert", "--min-agreement", "0.9"])
    for wrong in (["--format", "coreml"], ["--quantize", "int4"], ["--min-agreement", "2"]):
        with pytest.raises(SystemExit):
            export.main(["--run", run, *wrong])
    output = capsys.readouterr().err.replace("'", "")
    assert "savedmodel, onnx, litert" in output
    assert "must be a number from 0 to 1, not 2" in output


def test_quantised_next_to_the_exact_one(tmp_path, capsys):
    run = make_run(tmp_path / "run", **{**DENSE, "num_features": 200})
    for more in ([], ["--quantize", "int8", "--min-agreement", "0"]):
        export.main(["--run", str(run), "--format", "litert", *more])
    assert "with 8-bit weights the same best label for" in capsys.readouterr().out
    sizes = [(run / name / "model.tflite").stat().st_size for name in ("litert", "litert-int8")]
    assert sizes[1] < sizes[0]
