"""Parameters of PECOS as configs: the published ones result in the configs that are here."""

import importlib
import json

import pytest

from tests.commands.calls import call
from tests.recipes.test_xr_published import SETS, set_of
from tests.source_tree import ROOT
from tfxc.core import registry
from tfxc.data.reading.inspection.completion import load_config
from tfxc.recipes.xr_transformer.pecos_params import convert_params
from tfxc.runs.writer import manifest_of, split_of

COMMAND = importlib.import_module("tfxc.commands.import")
# Of the published files (examples/xr-transformer-neurips21/params of PECOS): model; trees; steps,
# warm-up, learning rate; of the matchers: beam, threshold, initial, cost-sensitive, length,
# dropout; of the ranker: Cp, Cn, eps, threshold, rel_mode, only_topk.
PUBLISHED = {
    "eurlex4k_bert": (
        "bert-base-uncased", (16, 16, 16, 0), (8, None, 16, 0), [600, 800, 1200], 100, 5e-5,
        (5, 1e-3, "weighted-linear", False, 128, 0.1),
        ([1, 1, 1, 2], [2, 2, 2, 4], 0.1, 1e-3, "induce", [75, 75, 100, 25]),
    ),
    "wiki500k_bert1": (
        "bert-base-uncased", (8, 64, 16, 10011), (32, None, 100, 10011),
        [10_000, 10_000, 20_000, 20_000], 5000, 1e-4,
        (5, 1e-3, "weighted-linear", True, 128, 0.1),
        ([4] * 4, [1] * 4, 0.1, 1e-3, "induce", [50] * 4),
    ),
    "amazoncat13k_bert": (
        "bert-base-uncased", (8, 128, 16, 10), (8, 128, 16, 10), [5000, 10_000, 30_000], 1000, 5e-5,
        (50, 1e-4, "weighted-linear", True, 256, 0.05),
        ([0.25] * 3, [0.5] * 3, 0.01, 1e-4, "induce", [75, 100, 200]),
    ),
}  # fmt: skip


def tree_of(values):
    names = ("nr_splits", "min_codes", "max_leaf_size", "seed")
    given = dict(zip(names, values, strict=True))
    unused = {"imbalanced_ratio": 0.0, "imbalanced_depth": 100, "threads": -1}
    return {"__meta__": {}, **given, **unused, "spherical": True, "kmeans_max_iter": 20}


def layers_of(ranker):
    """The ranker's model_chain."""
    costs_p, costs_n, epsilon, least, *_ = ranker
    return [
        {
            "__meta__": {}, "threshold": least, "max_nonzeros_per_label": None, "Cp": p, "Cn": n,
            "solver_type": "L2R_L2LOSS_SVC_DUAL", "max_iter": 100, "eps": epsilon, "bias": 1.0,
        }
        for p, n in zip(costs_p, costs_n, strict=True)
    ]  # fmt: skip


def params_of(name):
    """A file of parameters with the keys of the published ones."""
    model, first, second, steps, warmup, rate, matcher, ranker = PUBLISHED[name]
    beam, threshold, initial, weighted, length, dropout = matcher
    of_all = {
        "model_shortcut": model, "negative_sampling": "tfn+man", "bootstrap_method": initial,
        "loss_function": "weighted-squared-hinge", "lr_schedule": "linear", "batch_size": 32,
        "threshold": threshold, "hidden_dropout_prob": dropout, "max_active_matching_labels": 500,
        "num_train_epochs": 10, "gradient_accumulation_steps": 1, "weight_decay": 0.0,
        "max_grad_norm": 1.0, "learning_rate": rate, "adam_epsilon": 1e-8, "save_steps": 200,
        "warmup_steps": warmup, "cost_sensitive_ranker": weighted, "use_gpu": True,
    }  # fmt: skip
    layers, (*_, mode, kept) = layers_of(ranker), ranker
    negatives = ["tfn"] * (len(kept) - 1) + ["tfn+man"]
    found = {"post_processor": "l3-hinge", "ensemble_method": "concat-only"}
    found |= {"only_topk": beam, "truncate_length": length}
    rules = ["l3-hinge"] * (len(kept) - 1) + ["noop"]
    chosen = zip(kept, rules, strict=True)
    return {
        "train_params": {
            "preliminary_indexer_params": tree_of(first),
            "refined_indexer_params": tree_of(second),
            "matcher_params_chain": [{**of_all, "max_steps": one} for one in steps],
            "ranker_params": {
                "mode": "full-model", "ranker_level": 1, "rel_mode": mode, "rel_norm": "l1",
                "hlm_args": {"neg_mining_chain": negatives, "model_chain": layers},
            },
            "do_fine_tune": True, "only_encoder": False, "fix_clustering": False,
            "max_match_clusters": 32768, "save_emb_dir": "",
        },
        "pred_params": {
            "matcher_params_chain": [found] * len(steps),
            "ranker_params": {
                "hlm_args": {
                    "model_chain": [{"only_topk": k, "post_processor": rule} for k, rule in chosen]
                }
            },
        },
    }  # fmt: skip


def plan_of(config):
    """What a training with a config plans: levels, trees, ranker."""
    num_labels, num_features, _ = SETS[set_of(config)]
    manifest = manifest_of(
        "set", num_labels=num_labels, split=split_of([5] * 9), feature_kind="joined",
        num_features=num_features, vocabulary_size=9,
    )  # fmt: skip
    recipe = registry.create("recipe", config.recipe.section())
    found = recipe.planned(config, manifest)
    trees = [tree._clustering for tree in (found.first, found.second)]
    return found.plan, trees, found.ranker.of_layers(found.layers), found.ranker.relevance_mode


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameters_are_the_published_configs(name, tmp_path, capsys):
    (tmp_path / "params.json").write_text(json.dumps(params_of(name)))
    arguments = ("pecos_params", tmp_path / "params.json", "--run", "runs/x", "--gpus", 8)
    outcome = call(capsys, COMMAND, *arguments, "--write-config", tmp_path / "base.json")
    assert outcome.code == 0, outcome.err
    ours = json.loads((ROOT / "configs" / "xr_transformer" / f"{name}.json").read_text())
    base = json.loads((tmp_path / "base.json").read_text())
    assert base["data"]["text_features"] == ours["data"]["text_features"]
    assert base["encoder"] == ours["encoder"] and base["objective"] == ours["objective"]
    assert {**ours["training"], **base["training"]} == ours["training"]
    whole = {key: ours[key] for key in ("run", "data")} | {"extends": "base.json"}
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    expected = plan_of(load_config(ROOT / "configs" / "xr_transformer" / f"{name}.json", []))
    found = plan_of(load_config(tmp_path / "whole.json", []))
    assert found == expected


def test_keys_without_an_equal_are_printed(tmp_path, capsys):
    (tmp_path / "params.json").write_text(json.dumps(params_of("eurlex4k_bert")))
    arguments = ("pecos_params", tmp_path / "params.json", "--run", "runs/x")
    arguments += ("--write-config", tmp_path / "base.json")
    lines = call(capsys, COMMAND, *arguments).out.splitlines()
    keys = {line.partition(":")[0].rpartition(".")[2] for line in lines[:-1]}
    assert keys == {
        "imbalanced_ratio", "imbalanced_depth", "threads", "max_active_matching_labels",
        "num_train_epochs", "save_steps", "use_gpu", "save_emb_dir", "post_processor",
    }  # fmt: skip
    assert all(line.endswith("no equivalent, not used") for line in lines[:-1])


@pytest.mark.parametrize(
    ("changes", "folder", "pooling"),
    [
        ({"model_shortcut": "roberta-base"}, "${TFXC_MODELS}/roberta-base", "pooler"),
        ({"model_shortcut": "xlnet-base-cased"}, "${TFXC_MODELS}/xlnet-base-cased", "first"),
        ({"model_shortcut": "distilbert-base-uncased"},
         "${TFXC_MODELS}/distilbert-base-uncased", "first"),
        ({"model_shortcut": "/models/bert"}, "/models/bert", "pooler"),
        ({"model_shortcut": "./bert"}, "./bert", "pooler"),
        ({"model_shortcut": "bert", "init_model_dir": "matcher"}, "matcher", "first"),
        ({"model_shortcut": "bert-base-cased", "init_model_dir": ""},
         "${TFXC_MODELS}/bert-base-cased", "pooler"),
        ({"model_shortcut": None}, None, "pooler"),
    ],
)  # fmt: skip
def test_the_encoder(tmp_path, monkeypatch, changes, folder, pooling):
    """A checkpoint of PECOS says its family itself, of a model of the hub the name does."""
    monkeypatch.chdir(tmp_path)
    matcher = tmp_path / "matcher"
    for part in ("text_encoder", "text_tokenizer"):
        (matcher / part).mkdir(parents=True)
    (matcher / "text_encoder" / "config.json").write_text('{"model_type": "distilbert"}')
    params = params_of("eurlex4k_bert")
    for level in params["train_params"]["matcher_params_chain"]:
        level |= changes
    (tmp_path / "params.json").write_text(json.dumps(params))
    config, notes = convert_params(tmp_path / "params.json")
    encoder = {"name": "pretrained", "pooling": pooling, "dropout": 0.1}
    assert config["encoder"] == encoder | ({"folder": folder} if folder else {})
    assert config["data"]["text_features"]["tokens"].get("folder") == folder
    assert not any("init_model_dir" in note or "model_shortcut" in note for note in notes)


def test_parameters_of_xlinear(tmp_path):
    ranker = params_of("eurlex4k_bert")["train_params"]["ranker_params"]
    layers = ranker["hlm_args"]["model_chain"]
    layers[1]["solver_type"] = "L2R_LR_DUAL"
    layers[0] |= {"solver_type": "L2R_L1LOSS_SVC_DUAL", "max_nonzeros_per_label": 7}
    params = {"train_params": {**ranker, "rel_norm": "no-norm"}}
    params |= {"pred_params": {"hlm_args": {"model_chain": {"only_topk": 20}}}}
    params["indexer_params"] = tree_of((4, None, 50, 3))
    (tmp_path / "params.json").write_text(json.dumps(params))
    config, notes = convert_params(tmp_path / "params.json")
    assert config["recipe"]["name"] == "xr_linear"
    tree = {"nr_splits": 4, "max_leaf_size": 50, "seed": 3, "spherical": True, "max_iter": 20}
    assert config["recipe"]["tree"] == tree
    ranker = config["recipe"]["ranker"]
    assert ranker["loss"] == ["hinge", "logistic", "squared-hinge", "squared-hinge"]
    assert ranker["max_nonzeros"] == [7, 0, 0, 0] and ranker["relevance_norm"] == "none"
    assert (ranker["only_topk"], ranker["cost_positive"]) == (20, [1, 1, 1, 2])
    assert len(notes) == 3 and "indexer_params.threads: no equivalent, not used" in notes


def test_what_differs_between_levels_is_noted(tmp_path):
    params = params_of("eurlex4k_bert")
    chain = params["train_params"]["matcher_params_chain"]
    chain[1]["learning_rate"], chain[1]["warmup_steps"] = 1e-3, 7
    (tmp_path / "params.json").write_text(json.dumps(params))
    config, notes = convert_params(tmp_path / "params.json")
    assert config["training"]["optimizer"]["learning_rate"] == 5e-5
    assert config["recipe"]["warmup_steps"] == [100, 7, 100]
    noted = "train_params.matcher_params_chain.learning_rate: one value for all levels here"
    assert sum(note.startswith(noted) for note in notes) == 1


def test_what_cannot_be_converted(tmp_path, capsys):
    path, params = tmp_path / "params.json", params_of("eurlex4k_bert")
    layers = params["train_params"]["ranker_params"]["hlm_args"]["model_chain"]
    layers[2]["solver_type"] = "L2R_L9"
    output = ("--run", "runs/x", "--write-config", tmp_path / "base.json")
    for content, message in (
        (json.dumps(params), "hlm_args.model_chain.solver_type: ["),
        ("{}", "there are no train_params of pecos.xmc.xtransformer.train"),
        (
            '{"train_params": {"matcher_params_chain": 3}}',
            "3 is neither a section nor a list of sections",
        ),
        ("[]", "params.json"),
    ):
        path.write_text(content)
        assert message in call(capsys, COMMAND, "pecos_params", path, *output).problem()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["params.json"]
