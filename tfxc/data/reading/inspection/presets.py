"""The config that a preset makes of what a file holds; docs/choosing.md has the measurements."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError
from tfxc.core.storage.reading import read_json
from tfxc.data.examples.kinds import DENSE, IMAGE, SPARSE, TEXT
from tfxc.data.reading.inspection.contents import Contents
from tfxc.data.reading.source_files import expand
from tfxc.pretrained.hub_models import hub_folder, is_hub_name
from tfxc.pretrained.static_tables import WORDLLAMA, wordllama_folder

# From so many labels on, a training step scores some of them only.
_MANY_LABELS = 50_000
_SAMPLED_LABELS = 8192
# Texts of more words are bags of words: order says little, and reading it takes long.
_LONG_TEXT = 150
# Texts of at most so many words are also n-grams of characters, of which longer ones have many.
_SHORT_TEXT = 40
_CHARACTERS = (2, 5)
# Of so few long texts every term counts; of so many short ones, terms of one text fill the memory.
_FEW_TEXTS = 20_000
_MANY_TEXTS = 200_000
# Texts along a tree of labels up to which that takes a minute or two.
_TREE_WITH_CHARACTERS = 100_000
# Up to so many labels, every one is scored: a tree saves little and loses some of the right ones.
_ONE_LEVEL = 3000
# Pairs of example and label beyond which that takes longer than a minute or two on two cores.
_MOST_PAIRS = 50_000_000
# Examples of a label from which on a static table hardly helps, its name as an example hardly does,
# and up to which there are so few that the logistic loss does.
_MANY_EXAMPLES = 50
_SOME_EXAMPLES = 20
_FEW_EXAMPLES = 10
# Pairs of example and one of at most so many labels from which on trees learn to weigh them.
_FUSED_PAIRS = 10_000
_FUSED_LABELS = 50
# Pairs of example and label for which that loss, which has no compiled solver, takes some seconds.
_LOGISTIC_PAIRS = 1_000_000
_ADAM = {"name": "adam"}
_PRESET_OF_KERAS_HUB = "keras_hub:"
_BASE_HIDDEN = 768  # units of BERT-base, assumed where the number is not known
_SMALL_HIDDEN = 384  # units of a model such as MiniLM


def usual_preset(contents: Contents) -> str:
    """Returns the preset where the user chooses none: of the quick ones, the better for such data.

    Args:
        contents: what the training file holds.

    Example:
        >>> usual_preset(Contents("delimited", {}, "text", 5000, 159, 2.4, True))
        'fast'
    """
    return "fast" if contents.kind == TEXT.name else "balanced"


def usual_table(contents: Contents, preset: str) -> str | None:
    """Returns the static table that a preset uses where the user names none; None for none.

    It is that of the package ``wordllama``, where that is installed, for short English texts with
    one label each: ``balanced`` uses it for all of them, ``fast`` where labels have few examples.

    Args:
        contents: what the training file holds.
        preset: as in ``model_of``.
    """
    english = contents.findings is not None and contents.findings.language == "English"
    if preset == "best" or not english or not _is_short(contents):
        return None
    # Of the tags of recipes it finds fewer.
    if contents.several_labels or not has_one_level(contents.examples, contents.labels):
        return None
    wanted = preset == "balanced" or _has_fewer_examples(contents, _MANY_EXAMPLES)
    return WORDLLAMA if wanted and wordllama_folder() is not None else None


def model_of(
    contents: Contents,
    preset: str,
    pretrained: str | None = None,
    encoder: str | None = None,
    static: str | None = None,
) -> dict[str, Any]:
    """Returns the sections of a config that describe the model and its training, as a nested dict.

    Args:
        contents: what the training file holds.
        preset: one of those of ``tfxc.core.shared_options.FileChoices``.
        pretrained: folder of a pretrained language model for preset ``best``, or its name on the
            Hugging Face Hub.
        encoder: name of an encoder that the user has chosen in place of the preset's.
        static: static table whose vectors ``fast`` and ``balanced`` use next to the terms; see
            ``tfxc.data.text.static``.

    Raises:
        ConfigError: ``pretrained`` or ``static`` does not fit the preset or the data.

    Example:
        >>> contents = Contents("svmlight", {}, "sparse", 5000, 159, 2.4, True)
        >>> model_of(contents, "balanced")["encoder"]["name"]
        'bag_mlp'
    """
    if pretrained is not None:
        if preset != "best":
            raise ConfigError(
                f"only --preset best takes a pretrained model, not {preset!r}",
                where="--pretrained",
                fix="leave one of the two options out",
            )
        if contents.kind != TEXT.name:
            raise ConfigError(
                f"a pretrained model reads texts, but the data are {contents.kind} features",
                where="--pretrained",
                fix="leave it out",
            )
        where = f"--pretrained {pretrained}"
        if not pretrained.startswith(_PRESET_OF_KERAS_HUB):
            folder = Path(expand(pretrained))
            if not folder.exists() and is_hub_name(pretrained):
                folder = hub_folder(pretrained, where)
                pretrained = str(folder)
            if not (folder / "config.json").is_file():
                raise ConfigError(
                    "this is not the folder of a pretrained model: it has no config.json",
                    where=where,
                    fix="see docs/pretrained.md",
                )
        return _pretrained(contents, pretrained)
    if encoder is not None:
        return _with_encoder(contents, encoder, small=preset != "best")
    if static is not None:
        if preset == "best" or contents.kind != TEXT.name:
            what = f"{contents.kind} features" if contents.kind != TEXT.name else "preset best"
            raise ConfigError(
                f"a static table is for texts, and presets fast and balanced, not for {what}",
                where="--static",
                fix="leave it out",
            )
        return _linear_with_table(contents, static)
    if contents.kind == IMAGE.name:
        return _images(contents, 0.3 if preset == "fast" else 1.0)
    if preset == "fast":
        return _linear(contents)
    if contents.kind != TEXT.name:
        return _with_encoder(contents, small_encoder(contents))
    in_words = contents.tokens == "words" and contents.length <= _LONG_TEXT
    if preset == "best" and in_words and not contents.several_labels:
        return _with_encoder(contents, "textcnn", small=False)
    return _fused(contents)


def small_encoder(contents: Contents) -> str:
    """Returns the encoder of a small network for examples that are not images.

    Args:
        contents: what the training file holds.

    Example:
        >>> small_encoder(Contents("delimited", {}, "text", 5000, 159, 2.4, True))
        'fasttext'
    """
    if contents.kind == DENSE.name:
        return "precomputed"
    if contents.kind == SPARSE.name or contents.length > _LONG_TEXT:
        return "bag_mlp"
    return "fasttext" if contents.tokens == "words" else "textcnn"


def _linear(contents: Contents) -> dict[str, Any]:
    """Returns a linear ranker, which is one classifier for each label."""
    ranker = {"threshold": 0.03 if _has_characters(contents) else 0.1}
    leaf = 100
    if has_one_level(contents.examples, contents.labels):
        leaf = _ONE_LEVEL
        ranker["epsilon"] = 0.4  # of more passes the order of the labels hardly changes
    elif _is_short(contents) and not contents.several_labels:
        ranker |= {"cost_positive": 5, "cost_negative": 5}  # labels of a leaf differ in a word
    recipe: dict[str, Any] = {
        "name": "xr_linear",
        "tree": {"max_leaf_size": leaf},
        "ranker": ranker,
    }
    model = _features(contents, bag=True) | {"recipe": recipe, "decision": _decision(contents)}
    named = contents.kind == TEXT.name and contents.named_labels
    if named and _has_fewer_examples(contents, _SOME_EXAMPLES):
        recipe["label_text_rows"] = "held_out"
        model["data"]["label_texts"] = "names"
    return model


def _has_fewer_examples(contents: Contents, limit: int) -> bool:
    """Tells whether labels that are all scored have fewer examples on average."""
    few = contents.examples * contents.labels_each < limit * contents.labels
    return few and has_one_level(contents.examples, contents.labels)


def _fused(contents: Contents) -> dict[str, Any]:
    """Returns the linear ranker, and next to it a memory of the examples and the labels' names."""
    model = _linear(contents)
    pairs = contents.examples * min(contents.labels, _FUSED_LABELS)
    if pairs < _FUSED_PAIRS or not _has_sklearn():
        return model
    model["recipe"] |= {"name": "fuse", "ranker_reads": "all"}
    model["recipe"].pop("label_text_rows", None)  # the memory has them
    if contents.named_labels:
        model["data"]["label_texts"] = "names"
    return model


def suits_dual_encoder(contents: Contents) -> bool:
    """Tells whether labels with texts are found best by these, as far as that can be told.

    Where each has many examples, a ranker or ``textcnn`` is better.

    Args:
        contents: what the training file holds.
    """
    few = contents.examples < _FEW_EXAMPLES * contents.labels
    return _is_short(contents) and few and not contents.several_labels


def dual_encoder(contents: Contents) -> dict[str, Any]:
    """Returns a network that reads texts and texts of labels alike, as bags of terms.

    The other labels of the batch are what an example is told apart from, so batches are large.

    Args:
        contents: what the training file of texts holds.
    """
    model = _features(contents, bag=True)
    if _is_short(contents):
        terms = {"ngram_range": [1, 2], "characters": list(_CHARACTERS), "min_df": 2}
        model["data"]["text_features"] = {"name": "tfidf", **terms, "token_pattern": r"\b\w+\b"}
    if contents.named_labels:
        model["data"]["label_texts"] = "names"
    return {
        **model,
        "encoder": {"name": "bag_mlp", "hidden": [256], "activation": "linear", "residual": 512},
        "head": {"name": "label_text"},
        "objective": {"name": "decoupled_softmax"},
        "decision": _decision(contents),
        "training": {
            "batch_size": 1024,
            "epochs": _epochs(contents, 500_000, 10, 20),
            "optimizer": {**_ADAM, "learning_rate": 0.01},
            "schedule": {"name": "linear"},
        },
    }


def _decision(contents: Contents) -> dict[str, Any]:
    """Returns how scores become probabilities, a network's too: it is often too sure of itself, or,
    trained with smoothed labels, not sure enough.
    """
    decision = {"probabilities": {"name": "rows"}}
    if contents.several_labels:
        decision["labels"] = {"name": "f_measure"}
    return decision


def _linear_with_table(contents: Contents, table: str) -> dict[str, Any]:
    """Returns the linear ranker over terms and the vectors of a static table."""
    model = _linear(contents)
    ranker = model["recipe"]["ranker"]
    ranker["threshold"] = 0.03  # the vectors have many small weights
    data: dict[str, Any] = model["data"]
    data["text_features"] = {"name": "static", "table": table, "terms": data["text_features"]}
    few = contents.examples <= _FEW_EXAMPLES * contents.labels and not contents.several_labels
    few = few and _has_sklearn() and has_one_level(contents.examples, contents.labels)
    if few and contents.examples * contents.labels <= _LOGISTIC_PAIRS:
        ranker |= {"loss": "logistic", "cost_positive": 10, "cost_negative": 10, "epsilon": 0.1}
        ranker["post_processor"] = "sigmoid"
    return model


def _has_sklearn() -> bool:
    """Tells whether there is scikit-learn, which tfxc-light lacks."""
    return importlib.util.find_spec("sklearn") is not None


def has_one_level(examples: int, labels: int) -> bool:
    """Tells whether the linear ranker scores every label, without a tree.

    Args:
        examples, labels: numbers of them.

    Example:
        >>> has_one_level(10_000, 100), has_one_level(1_000_000, 100)
        (True, False)
    """
    return labels <= _ONE_LEVEL and examples * labels <= _MOST_PAIRS


def _has_characters(contents: Contents) -> bool:
    """Tells whether n-grams of characters are features next to those of words.

    Each weighs less than a word, so that smaller weights count. Along a tree they cost several
    times the time, and labels of few examples are told apart by single words.
    """
    if has_one_level(contents.examples, contents.labels):
        return _is_short(contents)
    enough = contents.examples * contents.labels_each >= _FEW_EXAMPLES * contents.labels
    return _is_short(contents) and enough and contents.examples <= _TREE_WITH_CHARACTERS


def _is_short(contents: Contents) -> bool:
    """Tells whether the examples are texts of a few words."""
    of_words = contents.kind == TEXT.name and contents.tokens == "words"
    return of_words and contents.length <= _SHORT_TEXT


def _pretrained(contents: Contents, folder: str) -> dict[str, Any]:
    """Returns settings of fine-tuning: the larger the network, the smaller the learning rate."""
    path = Path(expand(folder)) / "config.json"
    architecture = read_json(path, fix="see docs/pretrained.md") if path.is_file() else {}
    small = architecture.get("hidden_size", _BASE_HIDDEN) <= _SMALL_HIDDEN
    length = min(256, max(32, 2 * contents.long))
    return {
        "data": {"text_features": {"name": "pretrained", "folder": folder, "max_length": length}},
        "encoder": {"name": "pretrained", "folder": folder, "pooling": "mean"},
        **_head_and_objective(contents, sequence=True),
        "training": {
            "batch_size": 32,
            "epochs": _epochs(contents, 45_000, 2, 10),
            "group_by_length": True,
            "optimizer": {
                "name": "adamw",
                "learning_rate": 2e-4 if small else 5e-5,
                "weight_decay": 0.01,
            },
            "schedule": {"name": "linear", "warmup": 0.1},
        },
    }


def _with_encoder(contents: Contents, name: str, small: bool = True) -> dict[str, Any]:
    """Returns a network around an encoder; one without settings of its own here has its
    defaults.
    """
    settings = _SMALL if small else _LARGE
    rate, batch, seen, most = _RATES.get(name, (0.001, 64, 300_000, 30))
    return {
        **_features(contents, bag=name in _BAGS),
        "encoder": {"name": name, **settings.get(name, {})},
        **_head_and_objective(contents, sequence=name not in _BAGS),
        "training": {
            "batch_size": batch,
            "epochs": _epochs(contents, seen, 3, most),
            "optimizer": {**_ADAM, "learning_rate": rate},
            "schedule": {"name": "linear", "warmup": 0.1},
        },
    }


_BAGS = ("bag_mlp", "precomputed")
_TEXTCNN = {"widths": [1, 2, 3], "dropout": 0.5, "word_dropout": 0.1}
_SMALL: Mapping[str, dict[str, Any]] = {
    "fasttext": {"hidden_dim": 512, "dropout": 0.5, "word_dropout": 0.1},
    "textcnn": {**_TEXTCNN, "embedding_dim": 128, "num_filters": 128},
    "bag_mlp": {"hidden": [512], "dropout": 0.5, "initial_std": 0.1},
}
_LARGE = {**_SMALL, "textcnn": {**_TEXTCNN, "embedding_dim": 300, "num_filters": 256}}
# Learning rate, batch, the number of examples that training sees in all, and the most epochs.
_RATES = {
    "fasttext": (0.002, 64, 300_000, 60),
    "textcnn": (0.001, 64, 250_000, 60),
    "bag_mlp": (0.003, 128, 250_000, 20),
    "precomputed": (0.003, 128, 300_000, 60),
}


def _head_and_objective(contents: Contents, sequence: bool) -> dict[str, Any]:
    """Returns head, objective and decision of a network."""
    head: dict[str, Any] = {"name": "dense"}
    decision = _decision(contents)
    if contents.labels > _MANY_LABELS:
        head = {"name": "sampled", "num_extra": _SAMPLED_LABELS, "extra": "uniform"}
    if contents.several_labels:
        name = "zlpr" if sequence and contents.labels <= _MANY_LABELS else "sigmoid"
        return {"head": head, "objective": {"name": name}, "decision": decision}
    smoothing = {"label_smoothing": 0.1} if 10 < contents.labels <= _MANY_LABELS else {}
    return {"head": head, "objective": {"name": "softmax", **smoothing}, "decision": decision}


def _images(contents: Contents, share: float) -> dict[str, Any]:
    height, width, _ = contents.image_shape or (28, 28, 1)
    batch = 128 if contents.examples > 10_000 else 32
    return {
        **_features(contents, bag=False),
        "encoder": {
            "name": "resnet",
            "depth": 10,
            "stem": "cifar",
            "width": 16,
            "mean": 0.5,
            "std": 0.25,
            "pooling": "flatten" if height * width <= 48 * 48 else "average",
            "embedding_dim": 512,
            "embedding": "hidden",
        },
        **_head_and_objective(contents, sequence=True),
        "training": {
            "batch_size": batch,
            "epochs": _epochs(contents, share * 200_000, round(share * 10), round(share * 60)),
            "optimizer": {**_ADAM, "learning_rate": 0.002},
            "schedule": {"name": "cosine", "warmup": 0.05},
            "augmentation": [
                {"name": "affine", "rotation": 8, "scale": [0.9, 1.1], "translate": 0.06}
            ],
        },
    }


def _features(contents: Contents, bag: bool) -> dict[str, Any]:
    """Returns how the examples become features."""
    if contents.kind == IMAGE.name:
        sizes = contents.image_shape or ()
        return {"data": {"images": dict(zip(("height", "width", "channels"), sizes, strict=False))}}
    if contents.kind == SPARSE.name:
        return {"data": {"normalise": "l2"}}
    if contents.kind != TEXT.name:
        return {}
    if not bag:
        length = min(512, max(32, 8 * -(-3 * contents.long // 16)))  # 1.5 times as much
        return {"data": {"text_features": {"name": contents.tokens, "max_length": length}}}
    terms: dict[str, Any] = {"name": "tfidf"}
    if contents.tokens == "characters":
        terms |= {"ngram_range": [1, 3], "token_pattern": r"\S", "min_df": 2}
    else:
        long = contents.length > _LONG_TEXT
        terms["ngram_range"] = [1, 1 if long else 2]
        if _has_characters(contents):
            terms["characters"] = list(_CHARACTERS)
        if (least := _min_df(contents)) > 1:
            terms["min_df"] = least
    return {"data": {"text_features": terms}}


def _min_df(contents: Contents) -> int:
    """Returns of how many texts a term must be at least.

    In short texts a term of one text says much: a rare word, the name of a thing. It says too much
    along a tree of several labels each, whose classifiers learn such texts by heart.
    """
    if contents.length > _SHORT_TEXT:
        if contents.examples <= _FEW_TEXTS:
            return 1
        return 3 if contents.length > _LONG_TEXT else 2
    along_tree = not has_one_level(contents.examples, contents.labels)
    many = contents.examples > _MANY_TEXTS
    return 2 if many or (along_tree and contents.several_labels) else 1


def _epochs(contents: Contents, seen: float, fewest: int, most: int) -> int:
    """Passes over the file that show about ``seen`` examples, within bounds."""
    return max(fewest, min(most, round(seen / max(1, contents.examples))))
