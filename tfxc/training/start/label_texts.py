"""Weights of labels that begin with the vectors of the labels' texts."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.core.registry import LABEL_TEXTS

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.label_texts.prepared import LabelTexts
    from tfxc.model import XCModel


def start_from_label_texts(
    model: "XCModel", config: "Config", label_texts: "Callable[[], LabelTexts] | None"
) -> int:
    """Gives labels the weights that the encoder makes of their texts, if ``head.start`` says so.

    A weight vector keeps the length of its random start, on average over the labels. Labels without
    a text keep the start itself, and so do biases.

    Args:
        model: built ``XCModel``.
        config: its ``Config``.
        label_texts: function without arguments that returns those of the data; None where there can
            be none.

    Returns:
        Number of labels with such weights; 0 where the config wants none.

    Raises:
        ConfigError: there are no texts, or the head has no weight vector for each label.

    Example:
        >>> start_from_label_texts(model, config, load_texts)              # doctest: +SKIP
        150
    """
    assert config.head is not None
    if config.head.section().get("start") != LABEL_TEXTS:
        return 0
    from tfxc.heads.dense import Dense
    from tfxc.heads.sampled.head import Sampled
    from tfxc.inference.embedder import vectors_of_texts

    head = model.head
    if not isinstance(head, (Dense, Sampled)) or head.fused_variables:
        raise ConfigError(
            f"head {type(head).__name__} has no weights that start {LABEL_TEXTS!r} could set",
            where="head.start",
            fix="choose another start, or head 'dense' or 'sampled', not a fused one",
        )
    if label_texts is None or config.data.label_texts is None:
        raise ConfigError(
            f"start {LABEL_TEXTS!r} needs data.label_texts, which is not set",
            where="head.start",
            fix="name their file there, or 'names'; or choose another start",
        )
    texts = label_texts()
    by_rows = isinstance(head, Sampled)
    kernel = head.kernel.numpy() if by_rows else head.kernel.numpy().T.copy()
    length = float(np.sqrt(np.mean(np.square(kernel).sum(axis=1))))
    labels = np.flatnonzero(texts.given)
    if len(labels):
        kernel[labels] = length * vectors_of_texts(model, texts.rows.select(labels))
    head.kernel.assign(kernel if by_rows else kernel.T)
    return len(labels)
