"""What a head wants to know of the labels: codes in an order of the data, counts, a tree."""

from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.data.kinds import TOKENS
from tfxc.labels.label_embeddings import pifa_of_source
from tfxc.labels.label_order import clustered_order
from tfxc.labels.product_order import product_order
from tfxc.labels.tree_building import ClusteringSettings, build_tree
from tfxc.model import make_parts


def decided_codes(config, source, *, feature_kind="sparse", **decided):
    """Further arguments of ``build_model``: ``label_codes``, ``label_counts``, ``label_tree``.

    Only a head with ``label_order="clusters"`` or ``"product"`` asks for codes: its labels are
    clustered by the features of their training examples. Only one with ``extra="frequency"`` asks
    for counts, and only one that takes a ``label_tree`` for that. Each is a pass over the split,
    before which the config is checked.

    Args:
        config: ``Config``.
        source: the training split, a ``Source``.
        feature_kind, decided: as for ``build_model``.

    Raises:
        ConfigError: an argument does not fit.
    """
    section = config.head.section()
    if section.get("extra") == "frequency":
        make_parts(config, feature_kind=feature_kind, **decided)
        return {"label_counts": source.label_counts()}
    if "label_tree" in registry.get("head", section["name"]).from_data:
        _, head, _ = make_parts(config, feature_kind=feature_kind, **decided)
        return {"label_tree": _tree(head, source, decided["num_labels"])}
    orders = {"clusters": clustered_order, "product": product_order}
    order = orders.get(section.get("label_order"))
    if order is None:
        return {}
    _, head, _ = make_parts(config, feature_kind=feature_kind, **decided)
    vectors = pifa_of_source(source, decided["num_labels"])
    try:
        return {"label_codes": order(vectors, head.heads, config.seed)}
    except ValueError as error:
        raise ConfigError(str(error), where="head.heads", fix="use more values of it") from None


def _tree(head, source, num_labels):
    if source.kind is TOKENS:
        raise ConfigError(
            "a tree of labels is built from bags of terms, the data holds lists of tokens only",
            where="data.text_features",
            fix="use text_features 'joined', which give both",
        )
    names = ("nr_splits", "min_codes", "max_leaf_size", "spherical", "seed")
    settings = {name: getattr(head, name) for name in names}
    return build_tree(pifa_of_source(source, num_labels), ClusteringSettings(**settings))
