"""What an XR-Transformer asks of config and data, before any work is done."""

from tfxc import registry
from tfxc.errors import ConfigError
from tfxc.labels.tree_building import level_sizes
from tfxc.recipes._linear_settings import TreeSettings, ranker_settings
from tfxc.recipes._xr_plan import ENSEMBLES, INITIAL, NEGATIVES, Plan, fine_tuned_levels, per_level

TREE = ("nr_splits", "min_codes", "max_leaf_size", "spherical", "seed")
_UNUSED = ("beam", "num_candidate_groups", "link")


def check_fit(config, manifest):
    """Refuses a config or data that the recipe cannot work with.

    Raises:
        ConfigError: it says what is expected.
    """
    if config.head.name != "tree":
        raise ConfigError(
            f"head 'tree' expected, found {config.head.name!r}",
            where="head.name",
            fix="use 'tree': its arguments are those of the first label tree",
        )
    for name in _UNUSED:
        if name in config.head.section():
            raise ConfigError(
                "recipe 'xr_transformer' has no use for it",
                where=f"head.{name}",
                fix="remove it; see recipe.only_topk and recipe.ranker",
            )
    if manifest.feature_kind not in ("joined", "sparse"):
        raise ConfigError(
            f"texts as tokens and as terms expected, the data holds {manifest.feature_kind}",
            where="data.text_features",
            fix="use text_features 'joined'",
        )
    _refuse_training(config)


def _refuse_training(config):
    """Refuses settings of a training that has one model and measures it on the way."""
    training = config.training
    unused = {
        "training.early_stopping": training.early_stopping,
        "training.watch": training.watch,
        "training.keep": training.keep == "best",
        "evaluation.test_on_improvement": config.evaluation.test_on_improvement,
        "evaluation.full_loss": config.evaluation.full_loss,
    }
    for where, given in unused.items():
        if given:
            raise ConfigError(
                "means nothing to recipe 'xr_transformer': labels are found by a ranker, when all "
                "levels are trained",
                where=where,
                fix="remove it",
            )


def tree_settings(recipe, config, num_labels):
    """How the two trees are built, and the sizes of their levels.

    Returns:
        ``((first, sizes), (second, sizes))`` with ``TreeSettings`` and lists of int.

    Raises:
        ConfigError: an unknown key, or an impossible value.
    """
    known = registry.arguments(registry.get("head", "tree"))
    given = {"seed": config.seed, **config.head.section()}
    first = {name: given.get(name, known[name]) for name in TREE}
    second, found = recipe.refined_tree, []
    if isinstance(second, dict | None):
        second = {**first, **(second or {})}
    for settings, where in ((first, "head"), (second, "recipe.refined_tree")):
        tree = TreeSettings(settings, where=where)
        shape = {name: tree.arguments[name] for name in TREE[:3]}
        try:
            found.append((tree, level_sizes(num_labels, **shape)))
        except ConfigError as error:
            raise ConfigError(
                error.problem, where=f"{where}.{error.where}", fix=error.fix
            ) from None
    return tuple(found)


def plan_of(recipe, config, sizes):
    """The ``Plan`` of the fine-tuned levels.

    Args:
        recipe: ``XrTransformer``.
        config: ``Config``.
        sizes: nodes of all levels of the first tree.

    Raises:
        ConfigError: a value that is not allowed, or a list of another length than there are levels.
    """
    sizes = sizes[: fine_tuned_levels(sizes, recipe.max_match_clusters)]
    negatives = recipe.negatives
    if negatives is None:
        negatives = config.head.section().get("negatives", "tfn+man")
    if recipe.ensemble not in ENSEMBLES:
        raise ConfigError(
            f"one of {', '.join(ENSEMBLES)} expected, found {recipe.ensemble!r}",
            where="recipe.ensemble",
        )
    epochs = per_level(recipe.epochs, sizes, "epochs")
    plan = Plan(
        count=len(sizes),
        negatives=per_level(negatives, sizes, "negatives", NEGATIVES),
        initial=per_level(recipe.initial or "linear", sizes, "initial", INITIAL),
        epochs=[config.training.epochs if value is None else value for value in epochs],
        steps=per_level(recipe.steps, sizes, "steps", whole=True),
        warmup_steps=per_level(recipe.warmup_steps, sizes, "warmup_steps", whole=True),
        only_topk=recipe.only_topk,
        ensemble=recipe.ensemble,
        threshold=recipe.threshold,
        cost_sensitive=recipe.cost_sensitive,
        threads=recipe.threads,
    )
    for steps, warmup in zip(plan.steps, plan.warmup_steps, strict=True):
        if warmup is not None and (steps is None or warmup >= steps):
            raise ConfigError(
                f"fewer steps of warm-up than {steps} steps expected, found {warmup}",
                where="recipe.warmup_steps",
            )
    return plan


def settings_of_ranker(recipe, config, sizes):
    """``RankerSettings`` that fit the second tree.

    Args:
        recipe: ``XrTransformer``.
        config: ``Config``.
        sizes: nodes of all levels of the tree.

    Raises:
        ConfigError: a value that is not allowed, or a list of another length than there are levels.
    """
    given = recipe.ranker
    if isinstance(given, dict | None):
        given = {"threshold": 0.001, **(given or {})}
    settings = ranker_settings(given, config.seed)
    if settings.mode != "full-model":
        raise ConfigError(
            f"mode 'full-model' expected, found {settings.mode!r}", where="recipe.ranker.mode"
        )
    settings.solvers(sizes)  # refuses lists of another length
    return settings
