"""What a head wants to know of the labels: their codes in an order of the data, their counts."""

from tfxc.data.label_vectors import label_vectors
from tfxc.errors import ConfigError
from tfxc.labels.label_order import clustered_order
from tfxc.labels.product_order import product_order
from tfxc.model import make_parts


def decided_codes(config, source, *, feature_kind="sparse", **decided):
    """Further arguments of ``build_model``: ``label_codes``, ``label_counts``, or none.

    Only a head with ``label_order="clusters"`` or ``"product"`` asks for codes: its labels are
    clustered by the features of their training examples. Only one with ``extra="frequency"`` asks
    for counts. Either is a pass over the split, before which the config is checked.

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
    orders = {"clusters": clustered_order, "product": product_order}
    order = orders.get(section.get("label_order"))
    if order is None:
        return {}
    _, head, _ = make_parts(config, feature_kind=feature_kind, **decided)
    vectors = label_vectors(source, decided["num_labels"])
    try:
        return {"label_codes": order(vectors, head.heads, config.seed)}
    except ValueError as error:
        raise ConfigError(str(error), where="head.heads", fix="use more values of it") from None
