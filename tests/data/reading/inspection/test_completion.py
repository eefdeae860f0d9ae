"""Configs that a file makes."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import tiny
from tests.data.reading.inspection.test_contents import pairs, write
from tfxc.commands.train import check_config
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.data.reading.inspection import presets
from tfxc.data.reading.inspection.completion import Choice, complete, has_gaps, name_of
from tfxc.data.reading.inspection.contents import Contents
from tfxc.data.reading.inspection.presets import model_of, usual_table
from tfxc.data.reading.parsing.column_guess import Wanted

PLAIN = Contents("delimited", {}, "text", 5000, 20, 1.0, True, length=12, long=30)
KINDS = {
    "one label": {},
    "several labels": {"labels_each": 2.3},
    "many labels": {"labels": 80_000, "labels_each": 2.3},
    "Chinese": {"tokens": "characters", "length": 30, "long": 80},
    "long texts": {"length": 600, "long": 1500},
    "sparse": {"kind": "sparse"},
    "dense": {"kind": "dense"},
    "images": {"kind": "image", "image_shape": (28, 28, 1)},
    "few": {"examples": 12, "labels": 2},
}


def complete_tree(contents, preset):
    model = model_of(contents, preset)
    data = {"name": "a", "train": "a.csv", **model.pop("data", {})}
    return {"run": "runs/a", "data": data, **model}


@pytest.mark.parametrize("preset", ["fast", "balanced", "best"])
@pytest.mark.parametrize("kind", KINDS)
def test_presets_are_valid_configs_of_the_kind(kind, preset):
    contents = Contents(**{**vars(PLAIN), **KINDS[kind]})
    config = parse_config(complete_tree(contents, preset))
    check_config(config)
    if config.encoder is None:
        assert contents.kind != "image"
        fused = preset != "fast" and contents.kind == "text" and kind != "few"
        assert config.recipe.name == ("fuse" if fused else "xr_linear")
        return
    features = config.data.text_features
    given = {"text": "sparse"}.get(contents.kind, contents.kind)
    if features and features["name"] != "tfidf":
        given = "tokens"
    assert registry.get("encoder", config.encoder.name).input_kind == given


@pytest.mark.parametrize(
    ("more", "characters", "leaf", "threshold"),
    [
        ({}, [2, 5], 3000, 0.03),
        ({"length": 41}, None, 3000, 0.1),
        ({"tokens": "characters"}, None, 3000, 0.1),
        ({"labels": 3001}, None, 100, 0.1),
        ({"labels": 3001, "examples": 30_010}, [2, 5], 100, 0.03),
        ({"labels": 3001, "examples": 15_005, "labels_each": 2.0}, [2, 5], 100, 0.03),
        ({"labels": 3001, "examples": 30_009}, None, 100, 0.1),
        ({"labels": 3001, "examples": 100_001}, None, 100, 0.1),
        ({"labels": 2500, "examples": 20_001}, None, 100, 0.1),
        ({"kind": "sparse", "length": 0}, None, 3000, 0.1),
    ],
)
def test_what_the_linear_ranker_learns_from(more, characters, leaf, threshold):
    model = model_of(Contents(**{**vars(PLAIN), **more}), "fast")
    assert model["data"].get("text_features", {}).get("characters") == characters
    assert model["recipe"]["tree"] == {"max_leaf_size": leaf}
    ranker = model["recipe"]["ranker"]
    assert (ranker["threshold"], ranker.get("epsilon")) == (threshold, None if leaf == 100 else 0.4)


@pytest.mark.parametrize(
    ("more", "cost"),
    [
        ({}, None),
        ({"labels": 5000}, 5),
        ({"labels": 5000, "labels_each": 2.3}, None),
        ({"labels": 5000, "length": 41}, None),
        ({"labels": 5000, "tokens": "characters"}, None),
        ({"labels": 5000, "kind": "sparse"}, None),
    ],
)
def test_errors_cost_more_among_many_labels_of_short_texts(more, cost):
    ranker = model_of(Contents(**{**vars(PLAIN), **more}), "fast")["recipe"]["ranker"]
    assert ranker.get("cost_positive") == ranker.get("cost_negative") == cost


@pytest.mark.parametrize(
    ("more", "least"),
    [
        ({}, None),
        ({"examples": 100_000}, None),
        ({"labels": 5000}, None),
        ({"labels": 5000, "labels_each": 2.3}, 2),
        ({"examples": 200_001, "labels": 2}, 2),
        ({"length": 41}, None),
        ({"length": 41, "examples": 20_001}, 2),
        ({"length": 151}, None),
        ({"length": 151, "examples": 20_001}, 3),
        ({"tokens": "characters"}, 2),
    ],
)
def test_terms_of_one_text_count_where_they_help(more, least):
    contents = Contents(**{**vars(PLAIN), **more})
    assert model_of(contents, "fast")["data"]["text_features"].get("min_df") == least


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"data": {"train": "a"}}, True),
        ({"run": "r", "data": {"name": "n", "train": "a"}}, True),
        ({"run": "r", "data": {"name": "n", "train": "a"}, "recipe": "xr_linear"}, False),
        ({"run": "r", "data": {"train": "a"}, "recipe": {"name": "xr_linear"}}, True),
        ({"run": "r", "data": {"name": "n"}}, False),
        ({"run": "r"}, False),
    ],
)
def test_gaps(tree, expected):
    assert has_gaps(tree) is expected


def test_a_config_without_gaps_stays_as_it_is(tmp_path):
    tree = tiny.tiny_tree(tmp_path)
    found = complete(tree, Choice())
    assert found.tree == tree and found.contents is None and not found.lines()


@pytest.fixture
def table(tmp_path):
    return write(tmp_path / "mine.csv", "text,label", pairs())


def test_what_is_written_comes_first(table):
    tree = {
        "data": {"train": table, "dev_share": 0.3},
        "encoder": "textcnn",
        "training": {"epochs": 2, "optimizer": "adagrad"},
    }
    found = complete(tree, Choice()).tree
    assert found["data"]["dev_share"] == 0.3 and found["data"]["name"] == "mine"
    assert found["encoder"]["name"] == "textcnn" and found["run"] == "runs/mine"
    assert found["training"]["epochs"] == 2
    assert found["training"]["optimizer"] == {"name": "adagrad"}, "Adam's rate is not its own"
    assert found["objective"]["name"] == "softmax" and found["head"] == {"name": "dense"}
    config = parse_config(found)
    check_config(config)
    assert config.data.text_features["name"] == "words", "which the encoder reads"


@pytest.mark.parametrize(
    ("preset", "features", "encoder"),
    [
        (None, "words", "fasttext"),
        ("balanced", "words", "fasttext"),
        ("best", "words", "textcnn"),
        ("best", "tfidf", "bag_mlp"),
        ("balanced", "tfidf", None),
    ],
)
def test_text_features_that_a_network_reads(table, preset, features, encoder):
    tree = {"data": {"train": table, "text_features": features}}
    config = parse_config(complete(tree, Choice(preset)).tree)
    check_config(config)
    assert config.data.text_features["name"] == features
    assert (config.encoder and config.encoder.name) == encoder


def test_a_file_without_texts_of_labels(tmp_path):
    """Where the user wants none, none are examples."""
    table = write(tmp_path / "mine.csv", "text,label", pairs(40))
    tree = {"data": {"train": table, "label_texts": None}}
    found = complete(tree, Choice()).tree
    assert "label_text_rows" not in found["recipe"] and found["data"]["label_texts"] is None
    check_config(parse_config(found))


@pytest.mark.parametrize(("examples", "labels", "recipe"), [
    (199, 50, "xr_linear"), (200, 50, "fuse"), (199, 60, "xr_linear"), (4999, 2, "xr_linear"),
    (5000, 2, "fuse"),
])  # fmt: skip
def test_trees_need_enough_to_learn_from(monkeypatch, examples, labels, recipe):
    contents = Contents(**{**vars(PLAIN), "examples": examples, "labels": labels})
    assert model_of(contents, "balanced")["recipe"]["name"] == recipe
    monkeypatch.setattr(presets.importlib.util, "find_spec", lambda name: None)
    assert model_of(contents, "balanced")["recipe"]["name"] == "xr_linear"


def test_tokens_are_not_for_a_linear_ranker(table):
    tree = {"data": {"train": table, "text_features": "words"}}
    with pytest.raises(ConfigError, match=r"data.text_features does not apply") as error:
        complete(tree, Choice("fast"))
    assert error.value.where == "--preset"


def test_what_the_user_says_of_the_tables_holds_for_all_splits(tmp_path):
    """Only what was found in the training file is looked for again in the others."""
    data = {"reader_options": {"encoding": "cp1252"}}
    for split in ("train", "dev", "test"):
        rows = "".join(f"{pair}é\n".replace(",", ";") for pair in pairs(20))
        (tmp_path / f"{split}.csv").write_bytes(("text;label\n" + rows).encode("cp1252"))
        data[split] = str(tmp_path / f"{split}.csv")
    found = complete({"data": data}, Choice()).tree["data"]
    assert found["reader_options"]["encoding"] == "cp1252"
    assert not found.get("split_options")


def test_a_recipe_that_is_written(table):
    found = complete({"data": {"train": table}, "recipe": "xr_linear"}, Choice()).tree
    assert "encoder" not in found and found["data"]["text_features"]["name"] == "tfidf"
    check_config(parse_config(found))


def test_dev_split_and_lines(table, tmp_path):
    dev = write(tmp_path / "dev.csv", "text,label", pairs(9), ";")
    found = complete({"data": {"train": table, "dev": dev}}, Choice("fast"))
    assert "dev_share" not in found.tree["data"] and found.tree["run"] == "runs/mine"
    assert found.tree["data"]["split_options"] == {"dev": {"delimiter": ";"}}
    first, *_, second = found.lines()
    assert "40 examples, texts 'text', labels 'label', 3 labels, one each" in first
    assert second == "preset fast: recipe xr_linear"
    held_out = complete({"data": {"train": table}}, Choice())
    assert "15 % of the examples are held out" in held_out.lines()[-1]


def test_of_several_labels_every_example_is_held_out_once(tmp_path):
    lines = (f"text {i},{'|'.join('abc'[i % 3 :])}" for i in range(4000))
    table = write(tmp_path / "mine.csv", "text,labels", lines)
    found = complete({"data": {"train": table}}, Choice(refit=True))
    assert found.tree["refit"] == {"folds": 3}
    fused = complete({"data": {"train": table}}, Choice("balanced", refit=True))
    assert fused.tree["recipe"]["name"] == "fuse" and fused.tree["refit"] == {"folds": 3}
    network = {"data": {"train": table}, "encoder": "fasttext"}
    assert complete(network, Choice(refit=True)).tree["refit"] == {"share": 0.15}


FOLDS = {"folds": 5}


@pytest.mark.parametrize(
    ("preset", "rows", "more", "refit", "share"),
    [
        ("fast", 40, {}, FOLDS, None),
        ("fast", 2000, {}, {"share": 0.15}, None),
        ("balanced", 40, {}, FOLDS, None),
        ("balanced", 40, {"recipe": "fuse"}, FOLDS, None),
        ("balanced", 40, {"encoder": "fasttext"}, {"share": 0.15}, None),
        ("fast", 40, {"dev_share": 0.3}, {"share": 0.3}, None),
        ("fast", 40, {"dev_share": None}, None, None),
        ("fast", 40, {"dev": True}, None, None),
        ("fast", 40, {"refit": {"share": 0.4}}, {"share": 0.4}, None),
        ("fast", 40, {"refit": None}, None, 0.15),
        ("balanced", 40, {"recipe": "kfold"}, None, 0.15),
    ],
)
def test_a_model_of_a_file_is_trained_on_all_of_it_at_last(
    tmp_path, preset, rows, more, refit, share
):
    """Unless there is a dev split, or the user, or the recipe, says otherwise."""
    table = write(tmp_path / "mine.csv", "text,label", pairs(rows))
    keys = {key: value for key, value in more.items() if key in ("dev", "dev_share")}
    if "dev" in keys:
        keys["dev"] = write(tmp_path / "dev.csv", "text,label", pairs(9))
    others = {key: value for key, value in more.items() if key not in keys}
    tree = {"data": {"train": table, **keys}, **others}
    found = complete(tree, Choice(preset, refit=True))
    config = parse_config(found.tree)
    found_refit = config.refit and config.refit.model_dump(exclude_none=True)
    assert found_refit == refit and config.data.dev_share == share
    trainings = {None: 0, "share": 2, "folds": 6}[next(iter(refit), None) if refit else None]
    assert f"({trainings} trainings)" in found.lines()[-1] or not trainings
    once = parse_config(complete(tree, Choice(preset)).tree)
    assert once.refit is None or "refit" in more


@pytest.mark.parametrize(
    ("second", "more", "preset"),
    [
        ([], {}, "fast"),
        (["all"], {}, "fast"),
        ([], {"training": {"epochs": 2}}, "balanced"),
        (["all"], {"training": {"epochs": 2}}, "balanced"),
        (["all"], {"recipe": "kfold"}, "balanced"),
    ],
)
def test_the_usual_preset_of_texts(tmp_path, second, more, preset):
    rows = [{"text": f"word{n} and", "labels": [f"label{n % 2}", *second]} for n in range(40)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = complete({"data": {"train": str(tmp_path / "mine.jsonl")}, **more}, Choice())
    assert found.tree["run"] == "runs/mine" and found.preset == preset
    assert ("encoder" in found.tree) == (preset == "balanced")
    assert found.tree["decision"]["probabilities"] == {"name": "rows"}
    assert ("labels" in found.tree["decision"]) == bool(second)
    undivided = {"data": {"train": str(tmp_path / "mine.jsonl"), "dev_share": None}, **more}
    assert "decision" not in complete(undivided, Choice()).tree


@pytest.mark.parametrize(
    ("second", "more", "objective"),
    [
        (["all"], {}, "decoupled_softmax"),
        (["all"], {"objective": {"name": "zlpr"}}, "zlpr"),
        ([], {}, "decoupled_softmax"),
        ([], {"encoder": {"name": "fasttext"}}, "softmax"),
        (["all"], {"encoder": {"name": "fasttext"}}, "decoupled_softmax"),
    ],
)
def test_the_objective_suits_a_head_of_label_texts(tmp_path, second, more, objective):
    rows = [{"text": f"word{n} and", "labels": [f"label{n % 2}", *second]} for n in range(40)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {"data": {"train": str(tmp_path / "mine.jsonl")}, "head": {"name": "label_text"}}
    assert complete(tree | more, Choice()).tree["objective"] == {"name": objective}


@pytest.mark.parametrize(("words", "characters"), [(5, [2, 5]), (60, None)])
def test_a_head_of_label_texts_reads_both_alike(tmp_path, words, characters):
    rows = [{"text": f"word{n} " * words, "labels": [f"the label{n % 9}"]} for n in range(40)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"train": str(tmp_path / "mine.jsonl")}
    head = {"name": "label_text"}
    found = complete({"data": data, "head": head}, Choice()).tree
    assert found["data"]["label_texts"] == "names" and found["head"] == head
    assert found["data"]["text_features"].get("characters") == characters
    assert found["encoder"]["name"] == "bag_mlp" and found["training"]["batch_size"] == 1024
    data = {**data, "label_texts": "texts.jsonl", "text_features": {"name": "words"}}
    found = complete({"data": data, "head": head}, Choice()).tree
    assert found["data"]["label_texts"] == "texts.jsonl" and found["encoder"]["name"] == "fasttext"
    del data["text_features"]
    found = complete({"data": data}, Choice(preset="best")).tree
    assert (found.get("head") == head) == (words == 5)
    for other in ({"recipe": {"name": "fuse"}}, {"encoder": {"name": "fasttext"}}):
        found = complete({"data": data, **other}, Choice(preset="best")).tree
        assert found.get("head") != head
    for preset in ("fast", "balanced"):
        assert "head" not in complete({"data": data}, Choice(preset=preset)).tree
    free = {"data": {**data, "missing_texts": "free"}, "head": {"free_vectors": True}}
    found = complete(free, Choice(preset="best")).tree
    assert (found["head"] == {**head, "free_vectors": True}) == (words == 5)
    (tmp_path / "numbers.csv").write_text(
        "text,label\n" + "".join(f"a {n},{n % 3}\n" for n in range(9))
    )
    with pytest.raises(ConfigError, match="have names without words"):
        complete({"data": {"train": str(tmp_path / "numbers.csv")}, "head": head}, Choice())
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 3))
    data["train"] = str(tmp_path / "many.jsonl")  # 13 of each label
    assert complete({"data": data}, Choice(preset="best")).tree.get("head") != head


def test_an_option_of_one_split_is_named_as_such(table, tmp_path):
    dev = write(tmp_path / "dev.csv", "text,label", pairs(9))
    data = {"train": str(table), "dev": str(dev), "split_options": {"dev": {"quotes": 1}}}
    with pytest.raises(ConfigError, match=r"^data\.split_options\.dev\.quotes: must be true or"):
        complete({"data": data}, Choice())


def test_dev_of_another_format(table, tmp_path):
    other = tmp_path / "dev.jsonl"
    other.write_text('{"text": "a", "labels": ["animal"]}\n')
    with pytest.raises(ConfigError, match=r"the format jsonl, but the training file has delimited"):
        complete({"data": {"train": table, "dev": str(other)}}, Choice())


def test_pretrained(table, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    choice = Choice(pretrained=str(tmp_path / "model"), wanted=Wanted())
    with pytest.raises(
        ConfigError, match=r"--pretrained .*not the folder of a pretrained model: .*config.json"
    ):
        complete({"data": {"train": table}}, choice)
    (tmp_path / "model" / "config.json").write_text(json.dumps({"hidden_size": 384}))
    found = complete({"data": {"train": table}}, choice).tree
    assert found["run"] == "runs/mine-best" and found["encoder"]["name"] == "pretrained"
    check_config(parse_config(found))
    monkeypatch.setattr(presets, "hub_folder", lambda name, where: tmp_path / "model")
    from_hub = complete({"data": {"train": table}}, Choice(pretrained="somebody/tiny")).tree
    assert from_hub == found, "of the same folder"
    with pytest.raises(ConfigError, match=r"only --preset best takes a pretrained model, not"):
        complete({"data": {"train": table}}, Choice("fast", choice.pretrained))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/train.jsonl.xz", "a"),
        ("train.csv", "train"),
        ("my data.csv", "my-data"),
        ("é.csv", "data"),
    ],
)
def test_names(path, name):
    assert name_of(path) == name


FEW = {"examples": 100}
ENGLISH = {"findings": SimpleNamespace(language="English")}


@pytest.mark.parametrize(
    ("more", "preset", "expected"),
    [
        ({}, "balanced", "wordllama"),
        ({}, "fast", None),
        ({"examples": 999}, "fast", "wordllama"),
        ({"examples": 1000}, "fast", None),
        (FEW, "best", None),
        ({**FEW, "findings": SimpleNamespace(language="German")}, "fast", None),
        ({**FEW, "findings": None}, "fast", None),
        ({**FEW, "length": 41}, "fast", None),
        ({**FEW, "labels_each": 1.5}, "fast", None),
    ],
)
def test_tables_that_are_used_unasked(monkeypatch, more, preset, expected):
    contents = Contents(**{**vars(PLAIN), **ENGLISH, **more})
    monkeypatch.setattr(presets, "wordllama_folder", lambda: Path("."))
    assert usual_table(contents, preset) == expected
    monkeypatch.setattr(presets, "wordllama_folder", lambda: None)
    assert usual_table(contents, preset) is None


@pytest.mark.parametrize(
    ("more", "loss", "names"),
    [({"examples": 200}, "logistic", "names"), ({"examples": 201}, None, "names"),
     ({"examples": 200, "named_labels": False}, "logistic", None),
     ({"examples": 400}, None, None), ({"examples": 399}, None, "names"),
     ({"examples": 399, "labels_each": 2.0}, None, None),
     ({"examples": 199, "labels_each": 2.0}, None, "names"),
     ({"examples": 1001, "labels": 1000}, None, "names"),
     ({"examples": 9000, "labels": 3001}, None, None)],
)  # fmt: skip
def test_the_linear_ranker_with_a_table(more, loss, names):
    contents = Contents(**{**vars(PLAIN), "named_labels": True, **more})
    plain = model_of(contents, "fast")["data"]["text_features"]
    model = model_of(contents, "fast", static="x.vec")
    assert model["data"]["text_features"] == {"name": "static", "table": "x.vec", "terms": plain}
    assert model["recipe"]["ranker"].get("loss") == loss
    rows = model["recipe"].get("label_text_rows")
    assert rows == (None if names is None else "held_out")
    assert model["data"].get("label_texts") == names
    tree = {"run": "r", **model, "data": {"name": "a", "train": "a.csv", **model["data"]}}
    check_config(parse_config(tree))


@pytest.mark.parametrize("named", [True, False])
def test_the_ranker_with_a_memory(named):
    """Names that are words are texts of the labels."""
    contents = Contents(**{**vars(PLAIN), "labels_each": 2.0, "named_labels": named, "labels": 600})
    linear, model = (model_of(contents, preset) for preset in ("fast", "balanced"))
    assert model["data"].pop("label_texts", None) == ("names" if named else None)
    assert model["recipe"].pop("ranker_reads") == "all"
    linear["data"].pop("label_texts", None)
    assert linear["recipe"].pop("label_text_rows", None) == ("held_out" if named else None)
    assert model == linear | {"recipe": {**linear["recipe"], "name": "fuse"}}
    assert model_of(contents, "best") == model_of(contents, "balanced")


@pytest.mark.parametrize(
    ("more", "preset", "problem"),
    [({"kind": "sparse"}, "fast", "not for sparse features"), ({}, "best", "not for preset best")],
)
def test_tables_that_do_not_fit(more, preset, problem):
    with pytest.raises(ConfigError, match=problem):
        model_of(Contents(**{**vars(PLAIN), **more}), preset, static="x.vec")


def test_a_table_is_for_features_that_are_not_chosen(table):
    tree = {"data": {"train": table}}
    found = complete(tree, Choice(static="x.vec")).tree["data"]["text_features"]
    assert (found["name"], found["table"]) == ("static", "x.vec")
    assert complete(tree, Choice()).tree["data"]["text_features"]["name"] == "tfidf"
    terms = {"data": {"train": table, "text_features": {"name": "tfidf"}}}
    network = {**tree, "encoder": {"name": "textcnn"}}
    recipe = {**tree, "recipe": {"name": "fit"}}
    for other, name in ((terms, "data.text_features"), (network, "encoder"), (recipe, "recipe")):
        with pytest.raises(ConfigError, match=rf"{name} chooses another.*eave {name} out") as error:
            complete(other, Choice(static="x.vec"))
        assert error.value.where == "--static"
    with pytest.raises(ConfigError, match=r"encoder does not apply.*eave encoder out") as error:
        complete(network, Choice(preset="fast"))
    assert error.value.where == "--preset"
