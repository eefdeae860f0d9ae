"""Which keys of a preset are tried with other values, and which values."""

import pytest

from tests.data.reading.inspection.test_contents import pairs, rows, write
from tfxc.core.config import changed, parse_config
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.shared_options import FileChoices
from tfxc.data.reading.inspection.completion import presets_of
from tfxc.data.reading.inspection.preset_space import tunables


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tfxc.data.reading.inspection.presets._FUSED_PAIRS", 0)
    write(tmp_path / "mine.csv", "text,label", pairs(94))
    return "mine.csv"


def test_every_value_makes_a_config(file):
    """The preset's own value is among them."""
    presets = presets_of(file, FileChoices(), [])
    assert [preset.preset for preset in presets] == ["fast", "balanced", "best"]
    for preset in presets:
        keys = tunables(preset.tree, {})
        assert len(keys) >= 5
        for values, usual in keys:
            ends = values.choices or [values.low, values.high]
            assert (usual in ends) if values.choices else (values.low <= usual <= values.high)
            for value in ends:
                tree = changed(preset.tree, [f"{values.key}={json_text(value)}"])
                assert parse_config(tree) != parse_config(preset.tree) or value == usual


def test_the_same_examples_are_held_out(file):
    """Also where the presets alone would do it in different ways."""
    presets = presets_of(file, FileChoices(), [])
    assert [preset.tree["refit"] for preset in presets] == 3 * [{"folds": 5}]
    assert {preset.tree["run"] for preset in presets} == {"runs/mine-minutes"}


def test_presets_of_one_model_are_one(file, tmp_path):
    lines = [f"{text},{n % 2},{int(n % 3 == 0)}" for n, (text, _) in enumerate(rows(60))]
    write(tmp_path / "flags.csv", "text,odd,third", lines)
    several = presets_of("flags.csv", FileChoices(), [])
    assert [preset.preset for preset in several] == ["fast", "balanced"]
    (one,) = presets_of(file, FileChoices(preset="balanced"), [])
    assert one.tree["recipe"]["name"] == "fuse"
    (one,) = presets_of(file, FileChoices(), ["data.name=mine", "recipe=xr_linear"])
    assert one.preset == "fast"


def test_presets_that_do_not_fit_are_left_out(file):
    others = presets_of(file, FileChoices(), ["head=mach"])
    assert "fast" not in [preset.preset for preset in others]
    assert {preset.tree["head"]["name"] for preset in others} == {"mach"}
    with pytest.raises(ConfigError, match="preset fast is a linear ranker"):
        presets_of(file, FileChoices(preset="fast"), ["head=mach"])
    with pytest.raises(ConfigError, match="nowhere"):
        presets_of(file, FileChoices(pretrained="nowhere"), ["head=mach"])


def test_what_is_given_stays(file):
    changes = ["data.text_features.min_df=2", 'recipe.ranker={"threshold": 0.2}']
    preset, *_ = presets_of(file, FileChoices(preset="fast"), changes)
    free = {key.values.key for key in tunables(preset.tree, {})}
    kept = free - {key.values.key for key in tunables(preset.tree, changed({}, changes))}
    assert kept == {"data.text_features.min_df", "recipe.ranker.threshold"}
