"""The command configs."""

import json

from tests.commands.calls import call
from tests.source_tree import ROOT
from tfxc.commands import configs


def test_all_are_listed(capsys):
    lines = call(capsys, configs).out.splitlines()
    expected = {
        path.relative_to(ROOT / "configs").with_suffix("").as_posix()
        for path in (ROOT / "configs").rglob("*.json")
    }
    assert {line.split()[0] for line in lines} == expected
    first = json.loads((ROOT / "configs/quickstart.json").read_text())["about"]["paper"]
    line = next(line for line in lines if line.startswith("quickstart "))
    assert first[:40] in line


def test_filtered_by_a_word(capsys):
    found = json.loads(call(capsys, configs, "BANKING77", "--json").out)
    assert "textcnn_banking77" in found and "quickstart" not in found
    assert found["textcnn_banking77"]["command"].startswith("tfxc train")
    assert "contains 'nonsense'" in call(capsys, configs, "nonsense").problem()
