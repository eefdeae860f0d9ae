"""What a head wants to know of the labels: their codes in an order of the data, their counts."""

from tfxc.data.label_vectors import label_vectors
from tfxc.errors import ConfigError
from tfxc.labels.label_order import clustered_order
from tfxc.model import make_parts


def decided_codes(config, source, *, feature_kind="sparse", **decided):
    """Further arguments of ``build_model``: ``label_codes``, ``label_counts``, or none.

    Only a head with ``label_order="clusters"`` asks for codes: its labels are clustered by the
    features of their training examples. Only one with ``extra="frequency"`` asks for counts. Either
    is a pass over the split, before which the config is checked.

    Args:
        config: ``Config``.
        source: the training split, a ``Source``.
        feature_kind, decided: as for ``build_model``.

    Raises:
        ConfigError: an argument does not fit, or the examples are images.
    """
    section = config.head.section()
    if section.get("extra") == "frequency":
        make_parts(config, feature_kind=feature_kind, **decided)
        return {"label_counts": source.label_counts()}
    if section.get("label_order") != "clusters":
        return {}
    if feature_kind == "image":
        raise ConfigError(
            "labels can be clustered by sparse or dense features, the data holds images",
            where="head.label_order",
            fix='use "given" or "random"',
        )
    _, head, _ = make_parts(config, feature_kind=feature_kind, **decided)
    vectors = label_vectors(source, decided["num_labels"])
    return {"label_codes": clustered_order(vectors, head.heads, config.seed)}
