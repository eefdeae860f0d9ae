"""What an XR-Transformer requires of config and data, before any work is done."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.data.kinds import SPARSE
from tfxc.labels.tree_shape import tree_in_order
from tfxc.model import make_components
from tfxc.ranker.settings import RankerSettings
from tfxc.recipes.xr_linear.settings import TreeSettings, checked_settings, ranker_settings
from tfxc.recipes.xr_linear.stages import estimate_lines, need_split
from tfxc.recipes.xr_transformer.plan import Plan, fine_tuned_levels, per_level

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.manifest import Manifest
    from tfxc.recipes.xr_transformer.recipe import XRTransformer


TREE = ("nr_splits", "min_codes", "max_leaf_size", "spherical", "seed")
_UNUSED = ("beam", "num_candidate_groups", "link")


class Planned(NamedTuple):
    """What a config comes to on its data.

    Attributes:
        first, second: ``TreeSettings`` of the trees of the levels and of the ranker.
        plan: ``Plan`` of the fine-tuned levels, None if nothing is fine-tuned.
        ranker: ``RankerSettings``.
        levels, layers: nodes of each level of the first and of the second tree.
    """

    first: TreeSettings
    second: TreeSettings
    plan: Plan | None
    ranker: RankerSettings
    levels: list[int]
    layers: list[int]


def planned(recipe: "XRTransformer", config: "Config", manifest: "Manifest") -> Planned:
    """Checks a config against its data, and says what it comes to.

    Args:
        recipe: ``XRTransformer``.
        config: ``Config``.
        manifest: the data's ``Manifest``.

    Raises:
        ConfigError: data or config do not fit the method.
    """
    check_fit(config, manifest)
    assert config.objective is not None, "``check_config`` has asked for one"
    link = registry.get("objective", config.objective.name).link
    if recipe.ensemble != "concat-only" and link == "softmax":
        raise ConfigError(
            f"{recipe.ensemble!r} needs an objective that scores each cluster by itself, and "
            f"{config.objective.name!r} does not",
            where="recipe.ensemble",
            fix="use 'concat-only', or an objective such as squared_hinge or sigmoid",
        )
    if recipe.calibrate is not None:
        need_split(manifest, "dev", "recipe.calibrate")
    (first, levels), (second, layers) = tree_settings(recipe, config, manifest)
    plan = plan_of(recipe, config, levels) if recipe.do_fine_tune else None
    if recipe.fix_clustering:
        second = first
        layers = levels
    return Planned(first, second, plan, settings_of_ranker(recipe, config, layers), levels, layers)


def stage_lines(recipe: "XRTransformer", config: "Config", manifest: "Manifest") -> Iterator[str]:
    """Yields lines about what the stages will take; raises as ``planned`` does."""
    _, _, plan, ranker, levels, layers = planned(recipe, config, manifest)
    train = manifest.split("train")
    yield from unused_lines(recipe)
    if plan is not None:
        sizes = ", ".join(f"{size:,}" for size in levels)
        yield f"first tree: levels of {sizes} nodes, {plan.count} of them are fine-tuned on"
        for level in range(plan.count):
            steps = plan.steps[level]
            epochs = plan.epochs[level]
            if steps is None:
                steps = max(1, math.ceil(epochs * train.examples / config.training.batch_size))
            line = f"  level {level + 1}: {steps:,} steps"
            if level:
                line += f", negatives {plan.negatives[level]}"
                line += f", the head begins with {plan.initial[level]}"
            yield line
    if recipe.only_encoder:
        return
    encoder, _, _ = make_components(config, **manifest.dimensions)
    width = encoder.compute_output_shape((None, manifest.num_features))[-1]
    memory = recipe.memory_gb
    yield f"ranker on {manifest.num_features:,} terms and vectors of {width:,}:"
    yield from estimate_lines(manifest, layers, ranker, memory, recipe.threads, width)


def unused_lines(recipe: "XRTransformer") -> Iterator[str]:
    """Yields a line for each switch that makes other settings of the config ineffective."""
    of_ranker = ("refined_tree", "ranker", "memory_gb")
    of_levels = ("first_tree", "negatives", "initial", "epochs", "steps", "warmup_steps")
    unused = {
        "do_fine_tune is false": of_levels if not recipe.do_fine_tune else (),
        "only_encoder is true": of_ranker if recipe.only_encoder else (),
        "fix_clustering is true": ("refined_tree",) if recipe.fix_clustering else (),
    }
    for why, names in unused.items():
        keys = [f"recipe.{name}" for name in names if getattr(recipe, name) is not None]
        if recipe.fix_clustering and "recipe.first_tree" in keys:
            keys.remove("recipe.first_tree")  # the ranker's
        if keys:
            yield f"not used, as recipe.{why}: {', '.join(keys)}"


def trial(recipe: "XRTransformer", config: "Config", manifest: "Manifest") -> dict[str, Any] | None:
    """Arguments of ``build_model`` for the widest level, with a tree that stands for the real one.

    Returns:
        dict, or None if nothing is fine-tuned.
    """
    _, _, plan, _, levels, _ = planned(recipe, config, manifest)
    if plan is None:
        return None
    last = plan.count - 1
    data_dependent = {"label_tree": tree_in_order(levels), "level": last}
    if last:  # whatever its negatives are: the most that a text sees
        nodes = min(plan.only_topk, levels[last - 1])
        matched = np.full((manifest.split("train").examples, plan.only_topk), -1, np.int32)
        matched[:, :nodes] = np.arange(nodes)
        data_dependent["matched"] = matched
    return data_dependent


def check_fit(config: "Config", manifest: "Manifest") -> None:
    """Refuses a config or data that the recipe cannot work with.

    Raises:
        ConfigError: the key is named.
    """
    assert config.head is not None, "``check_config`` has asked for one"
    if config.head.name != "tree":
        raise ConfigError(
            f"recipe 'xr_transformer' does not work with head {config.head.name!r}",
            where="head.name",
            fix="use 'tree': its arguments are those of the first label tree",
        )
    for name in _UNUSED:
        if name in config.head.section():
            raise ConfigError(
                "recipe 'xr_transformer' does not use this key",
                where=f"head.{name}",
                fix="remove it; see recipe.only_topk and recipe.ranker",
            )
    if not manifest.kind.holds(SPARSE):
        raise ConfigError(
            "recipe 'xr_transformer' needs tokens and terms of the texts, and the features are "
            f"{manifest.feature_kind}",
            where="data.text_features",
            fix="use text_features 'joined'",
        )
    # These are of a training that has one model and measures it on the way.
    training = config.training
    unused = {
        "training.early_stopping": training.early_stopping,
        "training.watch": training.watch,
        "training.keep": training.keep == "best",
        "evaluation.test_on_improvement": config.evaluation.test_on_improvement,
        "evaluation.full_loss": config.evaluation.full_loss,
    }
    for where, is_set in unused.items():
        if is_set:
            raise ConfigError(
                "it does not apply to recipe 'xr_transformer', whose labels are predicted by a "
                "ranker that is trained after all levels",
                where=where,
                fix="remove it",
            )


def tree_settings(
    recipe: "XRTransformer", config: "Config", manifest: "Manifest"
) -> tuple[tuple[TreeSettings, list[int]], tuple[TreeSettings, list[int]]]:
    """Says how the two trees are built, and the sizes of their levels.

    Args:
        recipe: ``XRTransformer``.
        config: ``Config``.
        manifest: the data's ``Manifest``.

    Returns:
        ``((first, sizes), (second, sizes))`` with ``TreeSettings`` and lists of int.

    Raises:
        ConfigError: an unknown key, or an impossible value.
    """
    assert config.head is not None, "``check_fit`` has asked for one"
    head = config.head.section()
    known = registry.arguments(registry.get("head", "tree"))
    shape = {name: head.get(name, known[name]) for name in TREE if name != "seed"}
    shape["seed"] = head.get("seed", config.seed)
    above = {name: shape[name] for name in ("nr_splits", "min_codes")}
    first = TreeSettings(recipe.first_tree, where="recipe.first_tree", above=above)
    if first.file is None:
        section = recipe.first_tree or {}
        for name in TREE:
            if name in section:
                raise ConfigError(
                    "this setting belongs to the head",
                    where=f"recipe.first_tree.{name}",
                    fix=f"set head.{name}",
                )
        where = "recipe.first_tree" if section else "head"
        first = TreeSettings({**shape, **section}, where=where, where_shape="head")
    first.check_texts(config.data)
    sizes = first.sizes(manifest.num_labels, manifest.num_features)
    second = TreeSettings(recipe.refined_tree, where="recipe.refined_tree", above=above)
    if second.file is None:
        section = recipe.refined_tree or {}
        if section.get("join") == "convex":
            raise ConfigError(
                "'convex' needs label features like those of the second tree, which are terms and "
                "encodings, and labels have no encodings",
                where="recipe.refined_tree.join",
                fix="set it to 'concat'",
            )
        second = TreeSettings({**shape, **section}, where="recipe.refined_tree")
    second.check_texts(config.data)
    second_sizes = second.sizes(manifest.num_labels, manifest.num_features)
    return (first, sizes), (second, second_sizes)


def plan_of(recipe: "XRTransformer", config: "Config", sizes: Sequence[int]) -> Plan:
    """Returns the ``Plan`` of the fine-tuned levels.

    Args:
        recipe: ``XRTransformer``.
        config: ``Config``.
        sizes: nodes of all levels of the first tree.

    Raises:
        ConfigError: a value that is not allowed, or a list of another length than there are levels.
    """
    sizes = sizes[: fine_tuned_levels(sizes, recipe.max_match_clusters)]
    negatives = recipe.negatives
    if negatives is None:
        assert config.head is not None, "``check_fit`` has asked for one"
        negatives = config.head.section().get("negatives", "tfn+man")
    epochs = per_level(recipe.epochs, sizes, "epochs")
    plan = Plan(
        count=len(sizes),
        negatives=per_level(negatives, sizes, "negatives"),
        initial=per_level(recipe.initial or "linear", sizes, "initial"),
        epochs=[config.training.epochs if value is None else value for value in epochs],
        steps=per_level(recipe.steps, sizes, "steps"),
        warmup_steps=per_level(recipe.warmup_steps, sizes, "warmup_steps"),
        only_topk=recipe.only_topk,
        ensemble=recipe.ensemble,
        threshold=recipe.threshold,
        cost_sensitive=recipe.cost_sensitive,
        threads=recipe.threads,
    )
    for steps, warmup in zip(plan.steps, plan.warmup_steps, strict=True):
        if warmup is not None and (steps is None or warmup >= steps):
            raise ConfigError(
                f"{warmup} warm-up steps are not fewer than the {steps} steps",
                where="recipe.warmup_steps",
                fix="choose fewer",
            )
    return plan


def settings_of_ranker(
    recipe: "XRTransformer", config: "Config", sizes: Sequence[int]
) -> RankerSettings:
    """Returns ``RankerSettings`` that fit the second tree.

    Args:
        recipe: ``XRTransformer``.
        config: ``Config``.
        sizes: nodes of all levels of the tree.

    Raises:
        ConfigError: a value that is not allowed, or a list of another length than there are levels.
    """
    section = {"threshold": 0.001, **(recipe.ranker or {})}
    return checked_settings(ranker_settings(section, config.seed), sizes)
