"""Weights of labels where they are true, for objectives over all labels in one group."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Unpack

import numpy as np
import tensorflow as tf
from annotated_types import MinLen

from tfxc.core.declared import FromData, LayerArguments, NotNegative
from tfxc.objectives.base import Objective

if TYPE_CHECKING:
    from tfxc.data.sources.providers import TrainingData
    from tfxc.ops.logit_group import LogitGroup

BALANCED = "balanced"


#: None, "balanced", or a weight per label.
ClassWeight = Literal["balanced"] | Annotated[Sequence[NotNegative], MinLen(1)] | None


#: What weights of labels need.
NEEDED = "weights of labels need a head whose columns are the labels, such as 'dense'"


def check_columns(
    name: str,
    num_weights: int,
    num_labels: int | None,
    num_groups: int,
    columns_are_labels: bool,
) -> None:
    """Refuses weights of labels with a head that does not have a column for each label.

    Args:
        name: of the argument with the weights.
        num_weights: how many there are.
        num_labels, num_groups, columns_are_labels: of the head; see ``ClassWeighted``.

    Raises:
        ValueError: it has not, or there is another number of labels.
    """
    if num_labels not in (None, num_weights):
        raise ValueError(f"{name}: there are {num_weights} weights for {num_labels} labels")
    if num_groups > 1:
        raise ValueError(f"{name}: {NEEDED}, not one with {num_groups} groups of columns")
    if not columns_are_labels:
        raise ValueError(f"{name}: {NEEDED}")


def counts_if_balanced(data: "TrainingData") -> np.ndarray | None:
    """Returns the provider of ``label_counts``: the training examples of each label, None if not
    needed.
    """
    return data.source.label_counts() if data.settings["class_weight"] == BALANCED else None


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """Returns weights under which all labels that occur count alike, 1 on average over the true
    labels.

    That is ``sum of counts / (labels that occur * count)``, as scikit-learn's ``"balanced"``.

    Args:
        counts: training examples of each label, (num_labels,).

    Returns:
        float32 (num_labels,); 1 for labels that do not occur.

    Example:
        >>> balanced_weights(np.array([4, 1, 0])).tolist()
        [0.625, 2.5, 1.0]
    """
    counts = np.asarray(counts, np.float64)
    occur = counts > 0
    weights = counts.sum() / (max(occur.sum(), 1) * np.maximum(counts, 1))
    return np.where(occur, weights, 1.0).astype(np.float32)


class ClassWeighted(Objective):
    """Base of the objectives with an argument ``class_weight``.

    The weights are saved with the model.

    Args:
        num_labels, num_groups: labels and logit groups of an example (from the data and the head).
        columns_are_labels: see ``heads.base.Head`` (from the head).
        class_weight: weight of each label where it is true, in order of the ids, ``"balanced"``
            for ``balanced_weights`` of the training split, or None for none.
        label_counts: (num_labels,) training examples of each label, for ``"balanced"`` (from the
            data); None if the weights are loaded.

    Raises:
        ValueError: a head with several groups or with other columns than the labels, or another
            number of weights.
    """

    providers = {"label_counts": counts_if_balanced}  # noqa: RUF012 (a class attribute)

    def __init__(
        self,
        num_labels: FromData[int | None],
        num_groups: FromData[int],
        columns_are_labels: FromData[bool],
        class_weight: ClassWeight,
        label_counts: FromData[Sequence[int] | np.ndarray | None],
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.num_labels = num_labels
        self.num_groups = num_groups
        self.columns_are_labels = columns_are_labels
        self.class_weight = class_weight
        self._label_counts = label_counts
        self.label_weights: Any = None
        if class_weight is None:
            return
        if class_weight != BALANCED:
            self.num_labels = len(class_weight)
        elif num_labels is None:
            raise ValueError("class_weight: 'balanced' needs num_labels")
        assert self.num_labels is not None
        check_columns("class_weight", self.num_labels, num_labels, num_groups, columns_are_labels)

    def build(self, input_shape: object = None) -> None:
        """Makes the weights of the labels, if there are any."""
        if self.class_weight is not None:
            kind = {"trainable": False, "autocast": False, "name": "label_weights"}
            self.label_weights = self.add_weight((self.num_labels,), self._start, "float32", **kind)

    def _start(self, shape, dtype=None):
        if self.class_weight != BALANCED:
            values = np.asarray(self.class_weight, np.float32)
        elif self._label_counts is None:  # the weights are loaded
            values = np.ones(shape, np.float32)
        else:
            values = balanced_weights(np.asarray(self._label_counts))
        return tf.reshape(tf.constant(values), shape)

    def weights_of_true(self, group: "LogitGroup") -> tf.Tensor | None:
        """Returns the weights of the true columns, float32 (batch, max_positives); None without
        any.

        Raises:
            ValueError: the columns are not the labels.
        """
        if self.label_weights is None:
            return None
        all_labels = group.log_weights is None and group.cross_replica is None
        return self.weights_at(group.positives, group.logits.shape[1] if all_labels else None)

    def weights_at(self, positives: tf.Tensor, columns: int | None) -> tf.Tensor | None:
        """Returns the ``weights_of_true`` of a group with this many columns, all of them labels.

        Args:
            positives: int64 (batch, max_positives) padded with -1.
            columns: None if the columns are no labels.

        Raises:
            ValueError: the columns are not the labels.
        """
        if self.label_weights is None:
            return None
        if columns != self.num_labels:
            raise ValueError(f"class_weight: {NEEDED}: columns {columns}, labels {self.num_labels}")
        return tf.gather(self.label_weights.value, tf.maximum(positives, 0))
