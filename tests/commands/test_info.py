"""The command info."""

import json
import re

import pytest

from tests import tiny
from tests.small_runs import make_run
from tfxc.commands import info
from tfxc.core.errors import ConfigError
from tfxc.core.storage import checksums
from tfxc.runs.loaded import load_run


def test_run_shows_every_weight(tmp_path, capsys):
    head = {"name": "mach", "num_buckets": 4, "num_repetitions": 3}
    run = make_run(tmp_path / "run", head=head)
    assert info.main(["--run", str(run)]) == 0
    shown = capsys.readouterr().out
    parameters = sum(w.shape.num_elements() for w in load_run(run).model.trainable_variables)
    assert f"\n{parameters:,} parameters" in shown
    for shape in ("20 x 6", "3 x 6 x 4", "3 x 4"):
        assert f" {shape} " in shown
    assert "12 labels, 20 features (sparse)" in shown and "not finished" in shown
    (run / "summary.json").write_text(json.dumps({"steps": 1234, "dev": {"P@1": 0.5}}))
    checksums.record(run)
    info.main(["--run", str(run)])
    assert "finished at step 1,234, dev P@1 50.00" in capsys.readouterr().out


def test_config_shows_the_memory(tmp_path, capsys):
    from tfxc.data.reading.inspection.completion import load_config
    from tfxc.data.store.preparation import ensure_prepared

    path = tiny.write_config(tmp_path)
    arguments = ["--config", str(path), "--prepared", str(tmp_path / "prepared")]
    with pytest.raises(ConfigError, match="prepare"):
        info.main(arguments)
    assert not (tmp_path / "prepared").exists()
    ensure_prepared(load_config(path).data, tmp_path / "prepared", jobs=1)
    capsys.readouterr()
    info.main(arguments)
    shown = capsys.readouterr().out
    assert f"{60 * 32 + 32 + 32 * 30 + 30:,} parameters" in shown
    assert re.search(r"weights +\d+ MB", shown) and re.search(r"total +[\d,]+ MB", shown)


def test_separate_repetitions_are_counted(tmp_path, capsys):
    head = {"name": "mach", "num_buckets": 4, "num_repetitions": 3}
    run = make_run(tmp_path / "run", head={**head, "trunk": "separate"})
    tree = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**tree, "recipe": {"name": "repetitions"}}))
    info.main(["--run", str(run)])
    one = 20 * 6 + 6 + 6 * 4 + 4
    expected = f"{one:,} parameters per model, 3 times: {3 * one:,} parameters"
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --config RUN --run is required"),
        (["--run", "a", "--config", "b"], "--config: not allowed with argument --run"),
    ],
)
def test_one_of_run_and_config(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        info.main(arguments)
    assert stop.value.code == 2 and message in capsys.readouterr().err
