"""The command export."""

import contextlib
import io

import pytest
import tensorflow as tf

from tests.small_runs import make_run
from tfxc.commands import export
from tfxc.core.errors import ConfigError, UserError


@pytest.mark.parametrize("settings", [
    {"text_features": {"name": "tfidf"}},
    {},
    {"kind": "dense", "num_features": 7, "encoder": {"name": "precomputed"}},
])  # fmt: skip
def test_the_printed_lines_run(tmp_path, capsys, settings):
    run = make_run(tmp_path / "run", **settings)
    assert export.main(["--run", str(run), "--k", "3"]) == 0
    printed = capsys.readouterr().out
    head, code = printed.split("\n\n")
    assert str(run / "savedmodel") in head and "MB" in head and "(batch, 3)" in head
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(code, {})
    assert "shape=(1, 3)" in output.getvalue()


def test_output_folder_and_errors(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    export.main(["--run", str(run), "--output", str(tmp_path / "a" / "b")])
    assert tf.saved_model.contains_saved_model(str(tmp_path / "a" / "b"))
    assert not (run / "savedmodel").exists()
    with pytest.raises(ConfigError, match="labels"):
        export.main(["--run", str(run), "--k", "0"])


def test_labels_that_are_not_asked_for_are_as_many_as_there_are(tmp_path, capsys):
    run = make_run(tmp_path / "run", names=["a", "b", "c"])
    export.main(["--run", str(run)])
    assert "(batch, 3), best first" in capsys.readouterr().out


def test_a_full_disk_is_reported_and_leaves_nothing_behind(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")

    def fail(*_, **__):
        raise tf.errors.ResourceExhaustedError(
            None, None, "saved_model.pb: No space left on device"
        )

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(UserError, match="out: cannot write: the disk is full"):
        export.main(["--run", str(run), "--output", str(tmp_path / "out")])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
