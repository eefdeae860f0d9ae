import json
from pathlib import Path

import pytest

from tfxc.commands.train import check_config
from tfxc.core.config import Config, Method, changed, merge, parse_config
from tfxc.core.errors import ConfigError
from tfxc.core.storage.reading import read_json
from tfxc.data.reading.inspection.completion import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def tree(**changes):
    """The least a config holds."""
    least = {
        "run": "runs/x",
        "data": {"name": "set", "train": "train.txt"},
        "encoder": {"name": "bag_mlp"},
        "head": {"name": "mach", "num_buckets": 8},
        "objective": {"name": "sigmoid"},
    }
    return {**least, **changes}


def write(folder, name="config.json", **changes):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(changes if "extends" in changes else tree(**changes)))
    return path


def test_defaults():
    config = parse_config(tree())
    assert config.recipe.name == "fit"
    assert config.training.batch_size == 256
    assert config.training.optimizer.section() == {"name": "adam"}
    assert config.evaluation.k == [1, 3, 5]
    assert config.techniques == []
    assert config.head.section() == {"name": "mach", "num_buckets": 8}


def test_to_json_gives_the_same_config_again():
    given = tree(
        techniques=[{"name": "ema", "decay": 0.9}],
        training={"early_stopping": {"patience": 2}, "schedule": {"name": "linear", "end": 0.1}},
        evaluation={"propensity": [0.5, 0.4]},
        about={"paper": "Überschrift"},
    )
    config = parse_config(given)
    assert "Überschrift" in config.to_json()
    assert parse_config(json.loads(config.to_json())) == config
    assert config.evaluation.propensity == (0.5, 0.4)


def test_extends_goes_from_file_to_file(tmp_path):
    write(tmp_path, "base.json", training={"epochs": 3, "batch_size": 32}, seed=1)
    write(tmp_path, "middle.json", extends="base.json", training={"epochs": 4}, seed=2)
    path = write(tmp_path, "deep/top.json", extends="../middle.json", training={"log_every": 5})
    config = load_config(path)
    assert (config.training.epochs, config.training.batch_size) == (4, 32)
    assert (config.training.log_every, config.seed) == (5, 2)


def test_extends_in_a_circle(tmp_path):
    write(tmp_path, "one.json", extends="two.json")
    write(tmp_path, "two.json", extends="one.json")
    with pytest.raises(ConfigError, match="'extends' refers back to this file"):
        load_config(tmp_path / "one.json")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "config.json: 'extends' must be a file name, not 5"),
        (["base.json"], "'extends' must be a file name, not .'base.json'"),
        ("", "it is a folder, not a file"),
        ("absent.json", "absent.json: no such config file.*Configs there: config.json"),
    ],
)
def test_bad_extends(tmp_path, value, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, extends=value))


def test_another_method_inherits_no_arguments(tmp_path):
    write(tmp_path, "base.json", training={"optimizer": {"name": "sgd", "momentum": 0.9}})
    other = {"training": {"optimizer": {"name": "adam", "beta_1": 0.8}}}
    config = load_config(write(tmp_path, "one.json", extends="base.json", **other))
    assert config.training.optimizer.section() == {"name": "adam", "beta_1": 0.8}
    same = {"training": {"optimizer": {"name": "sgd", "nesterov": True}}}
    config = load_config(write(tmp_path, "two.json", extends="base.json", **same))
    found = config.training.optimizer.section()
    assert found == {"name": "sgd", "momentum": 0.9, "nesterov": True}
    unnamed = {"training": {"optimizer": {"momentum": 0.5}}}
    config = load_config(write(tmp_path, "three.json", extends="base.json", **unnamed))
    assert config.training.optimizer.section() == {"name": "sgd", "momentum": 0.5}


def test_merge_leaves_its_arguments_alone():
    base, change = {"a": {"b": 1, "c": [1]}}, {"a": {"b": 2}, "d": None}
    assert merge(base, change) == {"a": {"b": 2, "c": [1]}, "d": None}
    assert base == {"a": {"b": 1, "c": [1]}}
    assert change == {"a": {"b": 2}, "d": None}


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("training.epochs=2.5", "training.epochs", 2.5),
        ("run=runs/other", "run", "runs/other"),
        ('run="5"', "run", "5"),
        ("training.clip_norm=null", "training.clip_norm", None),
        ("evaluation.k=[1, 10]", "evaluation.k", [1, 10]),
        ("head.aggregate=median", "head.aggregate", "median"),
        ("data.reader_options.sep==", "data.reader_options.sep", "="),
        ("techniques.0.decay=0.5", "techniques.0.decay", 0.5),
        ('techniques.0={"name": "other"}', "techniques.0.name", "other"),
        ("training.schedule.name=linear", "training.schedule.name", "linear"),
    ],
)
def test_set(tmp_path, text, path, expected):
    config = load_config(write(tmp_path, techniques=[{"name": "ema"}]), [text])
    node = config.model_dump()
    for part in path.split("."):
        node = node[int(part)] if isinstance(node, list) else node[part]
    assert node == expected


def test_set_of_another_method_drops_the_arguments(tmp_path):
    """Those of the file: what is set stays, in any order."""
    path = write(tmp_path)
    for named in ("head.name=dense", "head=dense"):
        for changes in ([named, "head.initial_std=0.1"], ["head.initial_std=0.1", named]):
            config = load_config(path, changes)
            assert config.head.section() == {"name": "dense", "initial_std": 0.1}
    tree = {"techniques": [{"name": "ema", "decay": 0.9}]}
    given = ["techniques.0.start=2", "techniques.0.name=swa"]
    assert changed(tree, given)["techniques"] == [{"name": "swa", "start": 2}]
    tree = {"encoder": {"name": "a", "x": 1}}
    for first in (["encoder=b", "encoder.y=2"], ['encoder={"name": "b", "y": 2}']):
        assert changed(tree, [*first, "encoder=c"]) == {"encoder": {"name": "c"}}
        assert changed(tree, [*first, "encoder.name=b"])["encoder"] == {"name": "b", "y": 2}
        assert changed(tree, [*first, "encoder=a"]) == {"encoder": {"name": "a"}}
    given = ['techniques=[{"name": "fgm"}, {"name": "ema"}]', "techniques.1.name=swa"]
    assert changed(tree, given)["techniques"] == [{"name": "fgm"}, {"name": "swa"}]
    with pytest.raises(ConfigError, match="'0' is a value, not a section"):
        changed({"techniques": ["ema"]}, ["techniques.0.name=swa"])
    config = load_config(path, ["head.name=mach"])
    assert config.head.section() == {"name": "mach", "num_buckets": 8}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training.epochs", "--set: 'training.epochs' is not KEY=VALUE"),
        ("=3", "--set: '=3' is not KEY=VALUE"),
        ("run.deeper=3", "--set run.deeper: 'run' is a value, not a section"),
        (
            "techniques.1.decay=1",
            "techniques.1.decay: '1' is not the index of an item of a list of 1",
        ),
        ("techniques.0.name.x=1", "'name' is a value, not a section"),
        ("techniques.x=1", "'x' is not the index of an item of a list of 1"),
        ("training.epoch=3", "unknown key 'training.epoch', did you mean 'epochs'"),
        ("trainin.epochs=3", "unknown key 'trainin', did you mean 'training'"),
    ],
)
def test_bad_set(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, techniques=[{"name": "ema"}]), [text])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sead": 1}, "unknown key 'sead', did you mean 'seed'.*Use one of: about, data"),
        (
            {"data": {"name": "a", "train": "b", "reeder": 1}},
            "'data.reeder', did you mean 'reader'",
        ),
        ({"training": {"early_stopping": {"patient": 3}}}, "patient', did you mean 'patience'"),
        ({"training": {"batch_size": 0}}, "training.batch_size: .*at least 1, not 0"),
        ({"training": {"batch_size": 2.5}}, "training.batch_size: must be an integer .*, not 2.5"),
        ({"training": {"epochs": "many"}}, "training.epochs: must be a number .*, not 'many'"),
        (
            {"training": {"precision": "float8"}},
            "training.precision: must be one of float32, .*, not 'float8'",
        ),
        ({"encoder": 5}, "encoder: must be a section, not 5"),
        ({"encoder": {"hidden": [3]}}, "'encoder.name' is missing"),
        ({"techniques": [{"decay": 1}]}, "'techniques.0.name' is missing"),
        ({"evaluation": {"k": [0]}}, r"evaluation.k.0: .*at least 1, not 0"),
        (
            {"data": {"name": "a", "train": "b", "images": {"height": 8}}},
            r"^here.json: data.images: height and width go .* width is missing.*Add width",
        ),
        (
            {"data": {"name": "a", "train": "b", "images": {}, "normalise": "l2"}},
            r"^here.json: data.normalise: .* does not apply to images. Remove it",
        ),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config(tree(**changes), where="here.json")
    assert str(caught.value).startswith("here.json: ")


def test_missing_section():
    incomplete = tree()
    del incomplete["run"]
    with pytest.raises(ConfigError, match=r"'run' is missing.*Add 'run'"):
        parse_config(incomplete)


@pytest.mark.parametrize("part", ["encoder", "head", "objective"])
def test_the_recipe_says_which_parts_it_needs(part):
    config = parse_config(tree(**{part: None}))
    with pytest.raises(ConfigError, match=f"^{part}: recipe 'fit' needs the section '{part}'"):
        check_config(config)
    only = {kind: None for kind in ("encoder", "head", "objective") if kind != part}
    config = parse_config(tree(recipe={"name": "xr_linear"}, **only))
    with pytest.raises(
        ConfigError, match=f"^{part}: '{part}' does not apply to recipe 'xr_linear'"
    ):
        check_config(config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"run": "x",\n "data": }', r"config.json:2: not valid JSON: .* in column 10. Correct"),
        ("[1]", "the file does not contain a JSON object"),
        ("", "config.json:1: not valid JSON"),
        ('{"run": "\xe9"}', "config.json:1: not valid JSON.*codec"),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_data_file_for_a_config(tmp_path):
    path = tmp_path / "my.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(ConfigError, match=r"or give a data file without --config\.$"):
        load_config(path)


def test_a_byte_order_mark(tmp_path):
    """As editors of Windows write it."""
    path = write(tmp_path, "config.json")
    path.write_text("\ufeff" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_config(path) and read_json(path)


def test_missing_file_names_its_neighbours(tmp_path):
    write(tmp_path, "quickstart.json")
    with pytest.raises(ConfigError, match=r"no such config file.*Configs there: quickstart.json"):
        load_config(tmp_path / "quickstrat.json")
    with pytest.raises(ConfigError, match=r"no such config file.*Check the path"):
        load_config(tmp_path / "absent" / "quickstart.json")
    with pytest.raises(ConfigError, match="it is a folder, not a file"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.rglob("*.json")), ids=lambda path: str(path.relative_to(CONFIGS))
)
def test_shipped_config(path):
    config = load_config(path)
    assert isinstance(config, Config)
    check_config(config)


def test_there_are_configs():
    assert (CONFIGS / "quickstart.json").is_file()


@pytest.mark.parametrize("value", ["Infinity", "NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize("key", ["training.epochs", "training.optimizer.learning_rate"])
def test_values_that_are_not_finite(tmp_path, key, value):
    section, *_, last = key.split(".")
    inner = f'"{last}": {value}' if key.count(".") == 1 else f'"optimizer": {{"{last}": {value}}}'
    path = tmp_path / "config.json"
    path.write_text(
        f'{{"run": "r", "data": {{"name": "d", "train": "t"}}, "{section}": {{{inner}}}}}'
    )
    with pytest.raises(ConfigError, match=rf"config\.json: {key}: must be a number"):
        load_config(path)
    path.write_text('{"run": "r", "data": {"name": "d", "train": "t"}}')
    with pytest.raises(ConfigError, match=rf"{key}: must be a number"):
        load_config(path, [f"{key}={value}"])


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("seed=-1", "seed"),
        (f"seed={2**32}", "seed"),
        ("data.seed=-1", "data.seed"),
        ("training.epochs=1e12", "training.epochs"),
        (f"training.batch_size={10**30}", "training.batch_size"),
    ],
)
def test_numbers_out_of_range(tmp_path, change, where):
    path = tmp_path / "config.json"
    path.write_text('{"run": "r", "data": {"name": "d", "train": "t"}}')
    with pytest.raises(ConfigError, match=where):
        load_config(path, [change])


def test_a_path_that_is_no_unicode(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"run": "r", "data": {"name": "d", "train": "\\udcff"}}')
    with pytest.raises(ConfigError, match=r"data\.train: .* is not a text in UTF-8"):
        load_config(path)


def test_extends_through_a_link_to_itself(tmp_path):
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "config.json").write_text('{"extends": "loop.json"}')
    with pytest.raises(ConfigError, match=r"loop\.json: too many levels of symbolic links"):
        load_config(tmp_path / "config.json")


def test_a_name_is_short_for_a_section(tmp_path):
    sections = {
        "encoder": "textcnn",
        "head": "mach",
        "objective": "softmax",
        "recipe": "kfold",
        "techniques": ["ema", {"name": "fgm"}],
        "training": {"optimizer": "adagrad", "schedule": "linear", "augmentation": ["affine"]},
        "data": {"name": "a", "train": "b", "text_features": "words"},
    }
    config = parse_config(tree(**sections))
    assert config.encoder == Method(name="textcnn") and config.recipe == Method(name="kfold")
    assert [technique.name for technique in config.techniques] == ["ema", "fgm"]
    training = config.training
    assert (training.optimizer.name, training.schedule.name) == ("adagrad", "linear")
    assert training.augmentation == [Method(name="affine")]
    assert config.data.text_features == {"name": "words"}


def test_a_name_is_a_section_for_extends_and_set(tmp_path):
    write(tmp_path, "base.json", encoder={"name": "fasttext", "hidden_dim": 7})
    same = write(tmp_path, "same.json", extends="base.json", encoder="fasttext")
    assert load_config(same).encoder.section() == {"name": "fasttext", "hidden_dim": 7}
    other = write(tmp_path, "other.json", extends="base.json", encoder="textcnn")
    assert load_config(other).encoder.section() == {"name": "textcnn"}
    changes = ["encoder=textrnn", "encoder.hidden_dim=9", "training.optimizer=sgd"]
    config = load_config(other, changes)
    assert config.encoder.section() == {"name": "textrnn", "hidden_dim": 9}
    assert config.training.optimizer.name == "sgd"


def test_configs_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart", "quickstart.json", "configs/quickstart.json"):
        assert load_config(name).run == "runs/quickstart"
    write(tmp_path, "quickstart.json", run="mine")
    assert load_config("quickstart.json").run == "mine", "a file of that name comes first"
    with pytest.raises(ConfigError, match=r"quikstart.*did you mean 'quickstart', which comes"):
        load_config("quikstart")
