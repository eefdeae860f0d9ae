import pytest

from tests.imports.text_classifier.project import write_project
from tfxc.commands.train import check_config
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.imports.text_classifier.mapping import mapped
from tfxc.imports.text_classifier.project import read_project


def found(folder, model_type="TextCNN", **changes):
    project = read_project(write_project(folder, model_type, **changes))
    result = mapped(project, "runs/x", "labels.txt", fill=False)
    check_config(parse_config(result.tree))
    return result


def test_the_shipped_example(tmp_path):
    tree = found(
        tmp_path, use_focal_loss=True, use_gan=True, gan_method="pgd", attack_round=3,
        multisample_dropout=True, dropout_round=5, warmup=True, num_warmup_steps=-1,
        metrics_average="binary", s_is_early_stop=True, s_patient=8, s_batch_size=16,
        s_learning_rate=0.001, s_epoch=100, seed=3407, val_file="dev.csv",
    ).tree  # fmt: skip
    assert tree["seed"] == 3407 and tree["objective"] == {"name": "focal"}
    assert tree["techniques"] == [
        {"name": "pgd", "rounds": 3},
        {"name": "multi_sample_dropout", "rounds": 5, "rate": 0.5},
    ]
    assert tree["encoder"] == {
        "name": "textcnn", "widths": [2, 3, 4], "num_filters": 3, "embedding_dim": 6,
        "initial_std": 1.0, "dropout": 0.0,
    }  # fmt: skip
    assert tree["training"]["optimizer"] == {
        "name": "adamw", "learning_rate": 0.001, "epsilon": 1e-8,
    }  # fmt: skip
    assert tree["training"]["schedule"] == {"name": "linear", "warmup": 0.1}
    assert tree["training"]["early_stopping"] == {"metric": "binary-F1", "patience": 8}
    assert tree["data"]["dev"] == str(tmp_path / "dev.csv") and "dev_share" not in tree["data"]
    assert tree["data"]["text_features"]["raw"] is True


@pytest.mark.parametrize(
    ("changes", "objective"),
    [
        ({}, {"name": "softmax", "label_smoothing": 0.0}),
        ({"use_label_smoothing": True, "smooth_factor": 0.2},
         {"name": "softmax", "label_smoothing": 0.2}),
        ({"use_focal_loss": True, "weight": [1, 2, 3]}, {"name": "focal", "alpha": [1, 2, 3]}),
        ({"use_poly_loss": True, "use_focal_loss": True}, {"name": "poly", "focal": True}),
        ({"multilabel": True}, {"name": "sigmoid", "reduction": "mean"}),
        ({"multilabel": True, "use_multilabel_categorical_cross_entropy": True}, {"name": "zlpr"}),
    ],
)  # fmt: skip
def test_objectives(tmp_path, changes, objective):
    tree = found(tmp_path, **changes).tree
    assert tree["objective"] == objective
    separator = tree["data"]["reader_options"].get("label_separator")
    assert separator == ("," if changes.get("multilabel") else None)


@pytest.mark.parametrize("model_type", ["FastText", "TextRNN", "TextRCNN", "Transformer"])
@pytest.mark.parametrize("method", ["fgsm", "fgm", "freelb", "awp"])
def test_every_network_and_attack(tmp_path, model_type, method):
    changes = {"encoder_num": 2, "head_num": 2, "use_gan": True, "gan_method": method, "ema": True}
    tree = found(tmp_path, model_type, **changes, use_r_drop=False).tree
    assert tree["encoder"]["name"] == model_type.lower()
    assert [technique["name"] for technique in tree["techniques"]] == [method, "ema"]


def test_words_and_folds(tmp_path):
    (tmp_path / "stop.txt").write_text("a\n")
    changes = {"token_level": "word", "stop_words": True, "stop_words_file": "stop.txt"}
    result = found(tmp_path, **changes, kfold=True, fold_splits=3)
    texts = result.tree["data"]["text_features"]
    assert texts["segmenter"] == "jieba" and texts["stop_words"] == str(tmp_path / "stop.txt")
    assert result.tree["recipe"] == {"name": "kfold", "folds": 3}
    assert "dev_share" not in result.tree["data"]


def test_what_has_no_equal_is_listed(tmp_path):
    lines = found(
        tmp_path, swa=True, swa_start_step=5000, remove_special=True, stop_words=True,
        warmup=True, num_warmup_steps=30, f_epoch=9, mystery={"x": 1},
    ).without_equivalent  # fmt: skip
    keys = {line.partition(" = ")[0] for line in lines}
    listed = {"use_cuda", "remove_special", "stop_words", "swa", "num_warmup_steps", "mystery"}
    assert keys == listed
    assert lines[-1] == "mystery = {'x': 1}: no such key"


@pytest.mark.parametrize(
    ("changes", "listed"),
    [
        ({"use_focal_loss": True, "use_label_smoothing": True}, {"use_label_smoothing"}),
        ({"use_poly_loss": True, "use_focal_loss": True, "use_label_smoothing": True,
          "weight": [1, 2, 3]}, {"use_label_smoothing", "weight"}),
        ({"multilabel": True, "use_focal_loss": True, "use_poly_loss": True, "weight": [1, 2, 3],
          "use_label_smoothing": True},
         {"use_focal_loss", "use_poly_loss", "weight", "use_label_smoothing"}),
        ({"weight": [1, 2, 3]}, {"weight"}),
        ({"use_multilabel_categorical_cross_entropy": True},
         {"use_multilabel_categorical_cross_entropy"}),
    ],
)  # fmt: skip
def test_losses_without_effect_are_listed(tmp_path, changes, listed):
    lines = found(tmp_path, **changes).without_equivalent
    assert {line.partition(" = ")[0] for line in lines} == {"use_cuda", *listed}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train_file", 3, "train_file: 3 is not a text"),
        ("checkpoints_dir", ["x"], "is not a text"),
        ("weight", 0.5, "weight: 0.5 is not a list"),
        ("dropout_round", "5", "dropout_round: '5' is not an integer"),
        ("num_warmup_steps", "1", "num_warmup_steps: '1' is not an integer"),
        ("s_epoch", True, "epoch: True is not an integer"),
        ("s_learning_rate", "1e-3", "learning_rate: '1e-3' is not a number"),
        ("use_focal_loss", "no", r"use_focal_loss: 'no' is not a truth value \(True or False\)"),
        ("optimizer", 1, "optimizer: 1 is not a text"),
        ("classes", {"a": 0}, "the classes are {'a': 0} instead of a list of texts"),
        ("classes", "ab", "the classes are 'ab' instead of a list of texts"),
        ("classes", ["a", 1], "1 in the list of classes is not a text"),
    ],
)
def test_values_of_wrong_types(tmp_path, key, value, message):
    changes = {"multisample_dropout": True, "warmup": True, key: value}
    with pytest.raises(ConfigError, match=message):
        project = read_project(write_project(tmp_path, "TextCNN", **changes))
        mapped(project, "runs/x", "labels.txt", fill=False)
        project.checkpoint.exists()


def test_none_is_the_default(tmp_path):
    changes = dict.fromkeys(
        ("train_file", "val_file", "weight", "dropout_round", "checkpoints_dir")
    )
    result = found(tmp_path, **changes, multisample_dropout=True)
    assert result.tree["data"]["train"] == str(tmp_path) and not result.tree["techniques"]


def test_pretrained_networks_become_configs(tmp_path):
    path = write_project(
        tmp_path, "TextCNN", f_model_type="Bert", ptm="bert-base-chinese", f_epoch=3,
        noisy_tune=True, noise_lambda=0.1,
    )  # fmt: skip
    path.write_text(path.read_text().replace("'train_small_model'", "'finetune'"))
    tree = mapped(read_project(path), "runs/x", "labels.txt", fill=False).tree
    parse_config(tree)
    assert tree["encoder"] == {"name": "pretrained", "folder": "bert-base-chinese", "dropout": 0.5}
    assert tree["training"]["epochs"] == 3
    assert tree["techniques"] == [{"name": "noisy_tune", "intensity": 0.1}]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'train_small_model'", "'prune'", "stage 'prune' has no section prune_configure"),
        ("'train_small_model'", "'prunes'", "stage must be one of train_small_model, finetune"),
        ("'train_small_model'", "['prune']", r"stage must be one of .* not \['prune'\]"),
        ("'classes'", "'labels'", "there is no train_configure with the list of classes"),
        ("'TextCNN'", "'LSTM'", "'LSTM' is not a network that tfxc can build"),
        ("'num_filters': 3", "'num_filters': None", "TextCNN has no num_filters"),
    ],
)
def test_other_projects(tmp_path, old, new, message):
    path = write_project(tmp_path, "TextCNN")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message):
        mapped(read_project(path), "runs/x", "labels.txt", fill=False)


# The block for a self-distillation in the README of text_classifier_torch.
SELF_DISTILLATION = {
    "self_distillation": True, "distillation_method": "mse",
    "teacher_model_type": "Bert", "student_model_type": "Bert",
    "checkpoints_dir": "checkpoints/example2_distillation_1",
    "epoch": 100, "batch_size": 32, "learning_rate": 0.0001, "print_per_batch": 50,
    "is_early_stop": True, "patient": 2, "alpha": 0.1, "temperature": 4,
    "student_model_name": "distillation_model.bin", "teacher_model_name": "torch.bin",
    "distill_mlm_config": {"hidden_size": 768, "num_hidden_layers": 3, "vocab_size": 21128},
    "intermediate_matches": [
        {"layer_T": teacher, "layer_S": student, "feature": "hidden", "loss": "hidden_mse",
         "weight": 1}
        for teacher, student in ((0, 0), (4, 1), (8, 2), (12, 3))
    ],
}  # fmt: skip
PRUNING = {
    "model_type": "Bert", "from_config": True, "where": "pipline", "min_count": 1,
    "intermediate_size": 2048, "num_attention_heads": 8, "iters": 4,
    "teacher_checkpoint_dir": "checkpoints/distillation", "teacher_model_name": "model.bin",
    "checkpoints_dir": "checkpoints/pruned", "prune_model_name": "prune_model.bin",
}  # fmt: skip


def of_stage(folder, stage, section, **changes):
    """``Mapped`` of a project in a stage that has a section of its own."""
    changes = {"f_model_type": "Bert", "ptm": "bert-base-chinese", "f_epoch": 9, **changes}
    path = write_project(folder, "TextCNN", **changes)
    name = {"distillation": "distill_configure", "prune": "prune_configure"}[stage]
    text = path.read_text().replace("'train_small_model'", repr(stage))
    path.write_text(f"{text}{name} = {section!r}\n")
    result = mapped(read_project(path), "runs/x", "labels.txt", fill=False)
    config = parse_config(result.tree)
    check_config(config)
    registry.create("recipe", config.recipe.section())
    return result


def keys_of(result):
    return {line.partition(" = ")[0] for line in result.without_equivalent}


def test_a_distillation_into_a_small_network(tmp_path):
    section = {
        **SELF_DISTILLATION, "self_distillation": False, "student_model_type": "TextCNN",
        "distillation_method": "kl", "mystery": 1,
    }  # fmt: skip
    losses = {"use_focal_loss": True, "use_gan": True, "gan_method": "pgd", "ema": True}
    result = of_stage(tmp_path, "distillation", section, **losses)
    teacher = str(tmp_path / "checkpoints" / "torch.bin")
    assert result.tree["recipe"] == {
        "name": "distill", "teachers": [teacher], "hard_weight": 0.1, "temperature": 4,
        "distance": "kl", "squared": False,
    }  # fmt: skip
    assert result.tree["encoder"]["name"] == "textcnn"
    assert result.tree["training"]["epochs"] == 100
    assert result.tree["objective"] == {"name": "softmax"} and not result.tree["techniques"]
    unused = {"distill_mlm_config", "intermediate_matches", "teacher_model_name", "mystery"}
    assert keys_of(result) == {"use_cuda", "use_focal_loss", "use_gan", "ema", *unused}


def test_a_self_distillation(tmp_path):
    result = of_stage(tmp_path, "distillation", SELF_DISTILLATION, num_warmup_steps=-1)
    recipe = result.tree["recipe"]
    assert recipe["matches"] == [
        {"layer_teacher": teacher, "layer_student": student, "feature": "hidden",
         "loss": "hidden_mse", "weight": 1}
        for teacher, student in ((0, 0), (4, 1), (8, 2), (12, 3))
    ]  # fmt: skip
    assert (recipe["distance"], recipe["hard_weight"], recipe["temperature"]) == ("mse", 0.0, 4)
    encoder = {"name": "pretrained", "folder": "bert-base-chinese", "num_layers": 3}
    assert result.tree["encoder"] == {**encoder, "dropout": 0.5}
    assert result.tree["data"]["text_features"]["folder"] == "bert-base-chinese"
    assert result.tree["training"]["schedule"] == {"name": "linear", "warmup": 0.1}
    said = {"alpha", "distillation_method", "distill_mlm_config", "teacher_model_name"}
    assert keys_of(result) == {"use_cuda", *said}


def test_matches_of_attention_and_projections(tmp_path):
    matches = [
        {"layer_T": 11, "layer_S": 2, "feature": "attention", "loss": "attention_ce", "weight": 2},
        {"layer_T": [0, 0], "layer_S": [0, 0], "feature": "hidden", "loss": "mmd", "weight": 1},
        {"layer_T": 4, "layer_S": 1, "feature": "hidden", "loss": "hidden_mse",
         "proj": ["linear", 384, 768, {"lr": 1e-3}]},
    ]  # fmt: skip
    section = {**SELF_DISTILLATION, "intermediate_matches": matches}
    result = of_stage(tmp_path, "distillation", section)
    attention, pair, projected = result.tree["recipe"]["matches"]
    assert (attention["layer_teacher"], attention["layer_student"]) == (12, 3)
    assert pair["layer_teacher"] == [0, 0] and projected["projection"] == "linear"
    assert "intermediate_matches" in keys_of(result)


def test_folds_teach_in_turns(tmp_path):
    section = {**SELF_DISTILLATION, "self_distillation": False, "student_model_type": "FastText"}
    result = of_stage(tmp_path, "distillation", section, kfold=True, fold_splits=2)
    folder = tmp_path / "checkpoints"
    recipe = result.tree["recipe"]
    assert recipe["teachers"] == [str(folder / "torch.bin_1"), str(folder / "torch.bin_2")]
    assert recipe["turns"] == [1, 1] and result.tree["training"]["epochs"] == 200
    assert result.tree["data"]["dev_share"] == 0.15


@pytest.mark.parametrize(
    ("where", "sizes", "min_count"),
    [
        ("vocabulary", {}, 1),
        ("transformer", {"num_heads": 8, "feed_forward_dim": 2048, "iters": 4}, None),
        ("pipline", {"num_heads": 8, "feed_forward_dim": 2048, "iters": 4}, 1),
    ],
)
def test_pruning(tmp_path, where, sizes, min_count):
    result = of_stage(tmp_path, "prune", {**PRUNING, "where": where})
    source = str(tmp_path / "checkpoints" / "distillation" / "model.bin")
    recipe = {"name": "prune", "source": source, "finetune": False, **sizes}
    assert result.tree["recipe"] == recipe
    assert result.tree["data"]["text_features"].get("min_count") == min_count
    assert result.tree["encoder"]["folder"] == "bert-base-chinese"
    assert keys_of(result) == {"use_cuda", "from_config", "teacher_model_name"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student_model_type": "LSTM"}, "'LSTM' is not a network that tfxc knows"),
        ({"intermediate_matches": [{"layer_T": 1}]}, "lacks layer_T, layer_S or loss"),
        ({"intermediate_matches": [{"layer_T": "1", "layer_S": 1, "loss": "cos"}]},
         "number 1: layer_T is '1', which is not the number of a layer"),
        ({"intermediate_matches": [{"layer_T": 1, "layer_S": 1, "loss": "best"}]}, "best"),
        ({"distill_mlm_config": 3}, "distill_mlm_config: 3 is not a dict"),
    ],
)  # fmt: skip
def test_distillations_that_cannot_be(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        of_stage(tmp_path, "distillation", {**SELF_DISTILLATION, **change})
