"""What keeps or finds wrong labels for head ``label_text``, as its arguments say."""

import math
from typing import TYPE_CHECKING, Any

from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.training.negatives.refresh_times import MINED, NEAR, RefreshTimes, check_first

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.sources.base import Source
    from tfxc.heads.base import Head
    from tfxc.techniques.base import Technique


def check_hard_labels(config: "Config") -> None:
    """Refuses what contradicts the arguments of head ``label_text``, before there are data.

    Raises:
        ConfigError: two settings say which examples make a batch, or the training ends before
            labels are mined, or batches are near ones, at all.
    """
    assert config.head is not None
    kind = registry.get("head", config.head.name)
    if not kind.reads_label_texts:
        return
    arguments = {**registry.arguments(kind), **config.head.section()}
    near = arguments.get("batching") == "near"
    if near:
        _refuse_other_order(config)
    last = math.ceil(config.training.epochs) - 1
    if arguments.get("mined"):
        check_first(arguments["mine_from"], last, *MINED)
    if near:
        check_first(arguments["mine_from"], last, *NEAR)


def techniques_of(head: "Head | Any", config: "Config", source: "Source") -> "list[Technique]":
    """Techniques around those of a config; none for a head that reads no texts.

    Args:
        head: of the model.
        config: its ``Config``.
        source: the training split.

    Raises:
        ConfigError: two settings say which examples make a batch.
    """
    if not head.reads_label_texts:
        return []
    size = config.training.batch_size
    techniques: list[Technique] = []
    times = RefreshTimes(head, source.num_examples, size)
    if head.batching == "near":
        from tfxc.training.negatives.near_batches import NearBatches

        _refuse_other_order(config)
        techniques.append(NearBatches(source, times, size, config.seed))
    if head.pre_batch:
        from tfxc.training.negatives.pre_batch import PreBatch

        techniques.append(PreBatch(size))
    if head.mined:
        from tfxc.training.negatives.mined_labels import MinedLabels

        techniques.append(MinedLabels(source, times, config.evaluation.batch_size))
    return techniques


def _refuse_other_order(config: "Config") -> None:
    if config.training.group_by_length:
        raise ConfigError(
            "it contradicts head.batching 'near'",
            where="training.group_by_length",
            fix="remove one of them: both say which examples make a batch",
        )
