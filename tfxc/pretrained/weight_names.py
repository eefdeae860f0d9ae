"""Names of the weights in the folders of pretrained models, by family."""

from collections.abc import Mapping

WORDS = "embeddings.word_embeddings.weight"

# Parts of a layer: ours -> theirs, after the layer's own prefix.
_BERT = {
    "attention_in": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention_out": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "feed_forward_in": ("intermediate.dense",),
    "feed_forward_out": ("output.dense",),
    "feed_forward_norm": ("output.LayerNorm",),
}
_DISTILBERT = {
    "attention_in": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "attention_out": ("attention.out_lin",),
    "attention_norm": ("sa_layer_norm",),
    "feed_forward_in": ("ffn.lin1",),
    "feed_forward_out": ("ffn.lin2",),
    "feed_forward_norm": ("output_layer_norm",),
}
_ALBERT = {
    "attention_in": ("attention.query", "attention.key", "attention.value"),
    "attention_out": ("attention.dense",),
    "attention_norm": ("attention.LayerNorm",),
    "feed_forward_in": ("ffn",),
    "feed_forward_out": ("ffn_output",),
    "feed_forward_norm": ("full_layer_layer_norm",),
}
_DEBERTA = {
    **_BERT,
    "attention_in": (
        "attention.self.query_proj",
        "attention.self.key_proj",
        "attention.self.value_proj",
    ),
}
_XLNET = {
    "attention_norm": ("rel_attn.layer_norm",),
    "feed_forward_in": ("ff.layer_1",),
    "feed_forward_out": ("ff.layer_2",),
    "feed_forward_norm": ("ff.layer_norm",),
}
_PARTS: dict[str, Mapping[str, tuple[str, ...]]] = {
    "distilbert": _DISTILBERT,
    "albert": _ALBERT,
    "deberta-v2": _DEBERTA,
    "xlnet": _XLNET,
}
_LAYERS = {
    "distilbert": "transformer.layer.{}.",
    "albert": "encoder.albert_layer_groups.{}.albert_layers.0.",
    "xlnet": "layer.{}.",
}


def layer_weight_names(family: str) -> Mapping[str, tuple[str, ...]]:
    """Returns the parts of a layer, ``{ours: theirs}``; several of theirs are side by side in ours.

    Example:
        >>> layer_weight_names("albert")["feed_forward_in"]
        ('ffn',)
    """
    return _PARTS.get(family, _BERT)


def layer_prefix(family: str, number: int) -> str:
    """Returns what the names of layer ``number`` begin with.

    Example:
        >>> layer_prefix("bert", 3)
        'encoder.layer.3.'
    """
    return _LAYERS.get(family, "encoder.layer.{}.").format(number)
