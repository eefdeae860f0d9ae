"""What an XR-Transformer requires of config and data, before any work is done."""

from typing import TYPE_CHECKING

from tfxc.core.errors import ConfigError
from tfxc.data.examples.kinds import SPARSE

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.store.manifest import Manifest


_UNUSED = ("beam", "num_candidate_groups", "link")


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
