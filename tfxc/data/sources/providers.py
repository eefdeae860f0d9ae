"""Arguments that depend on the data: who finds them, by the argument's name.

A class marks such arguments by ``FromData`` in its constructor. There are two sorts:

* What the manifest of the data, or the recipe, knows of itself: ``num_labels``, ``num_features``,
  ``image_shape``, ``vocabulary_size``, ``num_examples``, ... They are there whenever a model is
  made, also for a run that is loaded.
* What it takes a look at the training examples to find. A **provider** finds it when training
  starts, and only then: a model that is loaded is made without the argument, so what is needed
  later must be kept with the weights. The providers of tfxc are in ``PROVIDERS``; a class of
  your own provides its own in its attribute ``providers``, which is used first::

      class Aged(Dense):
          providers = {"ages": lambda data: ages_of(data.source, data.known["num_labels"])}

          def __init__(self, num_labels: FromData[int], *, ages: FromData[np.ndarray]):
              super().__init__(num_labels)
              self.ages = ages
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.data.sources.base import Source

if TYPE_CHECKING:
    import scipy.sparse

    from tfxc.labels.cluster_tree import ClusterTree


_TREE = ("nr_splits", "min_codes", "max_leaf_size", "spherical", "seed")


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What a provider may look at.

    Attributes:
        source: the training split.
        known: what the manifest and the recipe know, by argument, e.g. ``num_labels``.
        settings: the arguments of the head, encoder or objective that are in the config, and the
            defaults of the others.
        seed: of the config.
        make: makes the head, encoder or objective without what is still to be found. So a config
            that cannot be is refused before a pass over the examples.
    """

    source: Source
    known: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int
    make: Callable[[], Any]


# Finds the value of an argument; None leaves it out.
Provider = Callable[[TrainingData], Any]


def label_codes(data: "TrainingData") -> np.ndarray | None:
    """Returns the codes of the labels where their order is one of similarity.

    Returns:
        int32 (num_labels,), None for another ``label_order``.

    Raises:
        ConfigError: the sizes of the digits are impossible.
    """
    order: Callable[..., np.ndarray]
    if data.settings["label_order"] == "clusters":
        from tfxc.labels.label_order import clustered_order as order
    elif data.settings["label_order"] == "product":
        from tfxc.labels.product_order import product_order as order
    else:
        return None
    head = data.make()
    vectors = _label_vectors(data, "to order the labels by")
    try:
        return order(vectors, head.heads, data.seed)
    except ValueError as error:
        raise ConfigError(str(error), where="head.heads", fix="choose other sizes") from None


def label_counts(data: "TrainingData") -> np.ndarray | None:
    """Returns the number of training examples of each label where ``extra`` uses frequencies, else
    None.
    """
    if data.settings["extra"] != "frequency":
        return None
    data.make()
    return data.source.label_counts()


def label_tree(data: "TrainingData") -> "ClusterTree":
    """Returns the ``ClusterTree`` of the labels, by the features of their training examples.

    Raises:
        ConfigError: the examples are tokens only.
    """
    from tfxc.labels.tree_building import ClusteringSettings, build_tree

    head = data.make()
    settings = {name: getattr(head, name) for name in _TREE}
    vectors = _label_vectors(data, "to build the label tree from")
    return build_tree(vectors, ClusteringSettings(**settings))


def _label_vectors(data: TrainingData, purpose: str) -> "np.ndarray | scipy.sparse.csr_matrix":
    """Returns the ``pifa_of_source`` of the training split, if its features can be averaged."""
    kind = data.source.kind
    if not (kind.is_matrix or kind.is_image):
        raise ConfigError(
            f"{kind.description} have no bags of terms {purpose}",
            where="data.text_features",
            fix="use text_features 'joined', which provide bags and tokens",
        )
    from tfxc.labels.label_embeddings import pifa_of_source

    return pifa_of_source(data.source, data.known["num_labels"])


PROVIDERS: Mapping[str, Provider] = {
    "label_codes": label_codes,
    "label_counts": label_counts,
    "label_tree": label_tree,
}
