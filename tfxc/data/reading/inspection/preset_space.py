"""What may be changed of a preset's config, to see whether it becomes better."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tfxc.core.config import named
from tfxc.tuning.space import Values

# Arguments of encoders that are widths of a layer.
_WIDTHS = ("hidden_dim", "num_filters")


class Tunable(NamedTuple):
    """A key of a config that matters.

    Attributes:
        values: what it may be.
        usual: what it is in the preset.
    """

    values: Values
    usual: Any


def tunables(tree: Mapping[str, Any], given: Mapping[str, Any]) -> list[Tunable]:
    """Returns the keys of a preset's config that matter, with values near the preset's own.

    Args:
        tree: the config as a nested dict, see ``Completed.tree``.
        given: what the user has chosen of it, which stays as it is.

    Example:
        >>> tree = {"data": {}, "recipe": {"name": "xr_linear"}}
        >>> [key.values.key for key in tunables(tree, {})][:2]
        ['recipe.ranker.cost_positive', 'recipe.ranker.cost_negative']
    """
    recipe = named("recipe", tree.get("recipe", "fit"))
    if recipe.get("name") == "xr_linear":
        found = _of_ranker(tree, recipe)
    elif recipe.get("name") == "fuse":
        found = [*_of_ranker(tree, recipe), *_of_memory(recipe)]
    else:
        found = _of_network(tree)
    return [key for key in found if not _has(given, key.values.key)]


def _has(tree: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return False
        tree = tree[part]
    return True


def _of_ranker(tree: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[Tunable]:
    ranker = recipe.get("ranker", {})
    found = [
        _between("recipe.ranker.cost_positive", 0.4, 4.0, ranker.get("cost_positive", 1.0)),
        _between("recipe.ranker.cost_negative", 0.4, 2.5, ranker.get("cost_negative", 1.0)),
        _one_of("recipe.ranker.threshold", [0.0, 0.01, 0.03, 0.1], ranker.get("threshold", 0.1)),
    ]
    terms = named("text_features", tree["data"].get("text_features"))
    if terms is not None and terms["name"] == "static":
        usual = terms.get("weight", 1.0)
        return [*found, _between("data.text_features.weight", 0.5, 2.0, usual)]
    if terms is None or terms["name"] != "tfidf":
        return found
    shortest, longest = terms.get("ngram_range", (1, 1))
    lengths = [[shortest, last] for last in range(max(shortest, longest - 1), longest + 2)]
    found += [
        _one_of("data.text_features.ngram_range", lengths, [shortest, longest]),
        _one_of("data.text_features.min_df", [1, 2, 3], terms.get("min_df", 1)),
    ]
    if characters := terms.get("characters"):
        lengths = [[2, 4], [2, 5], [1, 5], [3, 6]]
        found.append(_one_of("data.text_features.characters", lengths, characters))
    return found


def _of_memory(recipe: Mapping[str, Any]) -> list[Tunable]:
    return [
        _one_of("recipe.neighbours", [20, 50, 100], recipe.get("neighbours", 50)),
        _between("recipe.power", 1.0, 4.0, recipe.get("power", 2.0)),
    ]


def _of_network(tree: Mapping[str, Any]) -> list[Tunable]:
    training = tree.get("training", {})
    encoder = tree.get("encoder") or {}
    objective = tree.get("objective") or {}
    found = []
    if rate := training.get("optimizer", {}).get("learning_rate"):
        found.append(_between("training.optimizer.learning_rate", rate / 3, rate * 3, rate))
    if epochs := training.get("epochs"):
        lengths = [max(1, epochs // 2), epochs, 2 * epochs]
        found.append(_one_of("training.epochs", lengths, epochs))
    for name, most in (("dropout", 0.7), ("word_dropout", 0.3)):
        if name in encoder:
            share = encoder[name]
            found.append(Tunable(Values(f"encoder.{name}", None, 0.0, max(most, share)), share))
    for name in _WIDTHS:
        if width := encoder.get(name):
            found.append(_one_of(f"encoder.{name}", [width // 2, width, 2 * width], width))
    if "label_smoothing" in objective:
        shares = [0.0, 0.05, 0.1, 0.2]
        share = objective["label_smoothing"]
        found.append(_one_of("objective.label_smoothing", shares, share))
    return found


def _between(key: str, low: float, high: float, usual: float) -> Tunable:
    ends = (min(low, usual), max(high, usual))
    return Tunable(Values(key, None, *ends, logarithmic=True), usual)


def _one_of(key: str, choices: list[Any], usual: Any) -> Tunable:
    return Tunable(Values(key, choices if usual in choices else [usual, *choices]), usual)
