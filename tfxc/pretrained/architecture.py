"""Shapes of the pretrained networks, read from ``config.json``."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError
from tfxc.pretrained.folder import read_hub_config

_USUAL = {
    "hidden_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "feed_forward_dim": "intermediate_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
# Keys that have another name in a family; ``dropout`` and its like may be missing.
_NAMES = {
    "distilbert": {
        "hidden_dim": "dim",
        "num_layers": "n_layers",
        "num_heads": "n_heads",
        "feed_forward_dim": "hidden_dim",
        "activation": "activation",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
    },
    "xlnet": {
        "hidden_dim": "d_model",
        "num_layers": "n_layer",
        "num_heads": "n_head",
        "feed_forward_dim": "d_inner",
        "activation": "ff_activation",
        "dropout": "dropout",
        "attention_dropout": "dropout",
    },
}
_DEFAULTS = {"dropout": 0.1, "attention_dropout": 0.1, "activation": "gelu"}
_EPSILON = {"roberta": 1e-5, "xlm-roberta": 1e-5, "deberta-v2": 1e-7}
# The only values with which networks are built here.
_FIXED = {
    "position_embedding_type": "absolute",
    "conv_kernel_size": 0,
    "is_decoder": False,
    "inner_group_num": 1,
    "untie_r": True,
    "attn_type": "bi",
    "bi_data": False,
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What a pretrained network looks like.

    Attributes:
        family: ``model_type`` of config.json.
        vocabulary_size: rows of the published table.
        embedding_dim, hidden_dim, feed_forward_dim: widths of the words, the layers, and inside
            their second part.
        num_layers, num_heads: layers, and heads of each; a list where the layers differ.
        activation: name of the function inside a layer's second part.
        norm_epsilon: added to a variance.
        dropout, attention_dropout: shares it was trained with.
        initial_std: standard deviation of a random start.
        padding: id of the padding in the published table.
        max_positions: most ids of a text, 0 if there means no limit.
        shared_layers: number of different layers, that take equal turns; 0 if all differ.
        num_buckets, max_distance: of DeBERTa's relative positions.
        clamp: farthest distance of XLNet's relative positions, 0 if there is none.
        head_dim: width of a head, 0 where the heads of a layer share ``hidden_dim``.
    """

    family: str
    vocabulary_size: int
    embedding_dim: int
    hidden_dim: int
    num_layers: int
    num_heads: int | list[int]
    feed_forward_dim: int
    activation: str = "gelu"
    norm_epsilon: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    initial_std: float = 0.02
    padding: int = 0
    max_positions: int = 512
    shared_layers: int = 0
    num_buckets: int = 0
    max_distance: int = 0
    clamp: int = 0
    head_dim: int = 0

    @property
    def head_width(self) -> int:
        """Width of a head."""
        if self.head_dim:
            return self.head_dim
        assert isinstance(self.num_heads, int)  # several numbers come with a ``head_dim``
        return self.hidden_dim // self.num_heads

    def heads_wide(self, number: int) -> int:
        """Returns the width of all heads of layer ``number`` together."""
        heads = self.num_heads if isinstance(self.num_heads, int) else self.num_heads[number]
        return heads * self.head_width


def read_architecture(folder: Path) -> "Architecture":
    """Returns the ``Architecture`` of a model's folder.

    Raises:
        ConfigError: config.json is missing, of another model type, lacks a size, or describes a
            variant that is not built here.
    """
    config = read_hub_config(folder)
    where = folder / "config.json"
    family = config["model_type"]
    for key, only in _FIXED.items():
        if config.get(key, only) != only:
            raise ConfigError(
                f"{key} is {config[key]!r}, but only networks with {only!r} can be built",
                where=where,
                fix="choose another model",
            )
    names = {**_USUAL, **_NAMES.get(family, {})}
    values = {**_DEFAULTS, **{ours: config[key] for ours, key in names.items() if key in config}}
    missing = [key for ours, key in names.items() if ours not in values]
    missing += [key for key in ("vocab_size",) if key not in config]
    if missing:
        raise ConfigError(
            f"the key {missing[0]!r} is missing",
            where=where,
            fix="copy the whole folder of the model",
        )
    architecture = Architecture(
        family=family,
        vocabulary_size=config["vocab_size"],
        embedding_dim=config.get("embedding_size") or values["hidden_dim"],
        norm_epsilon=config.get("layer_norm_eps", _EPSILON.get(family, 1e-12)),
        initial_std=config.get("initializer_range", 0.02),
        padding=config["pad_token_id"],
        **values,
        **_family_values(config, where),
    )
    if architecture.hidden_dim % values["num_heads"]:
        raise ConfigError(
            f"the hidden size {architecture.hidden_dim} is not a multiple of the "
            f"{architecture.num_heads} heads",
            where=where,
            fix="copy the whole folder of the model",
        )
    return architecture


def _family_values(config: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """Attributes of ``Architecture`` that single families have, or read in another way."""
    family = config["model_type"]
    if family == "xlnet":
        return {"max_positions": 0, "clamp": max(0, config.get("clamp_len", 0))}
    positions = config.get("max_position_embeddings", 512)
    if family in ("roberta", "xlm-roberta"):
        # Positions are counted from after the padding's.
        return {"max_positions": positions - config["pad_token_id"] - 1}
    if family == "albert":
        shared = config.get("num_hidden_groups", 1)
        return {"max_positions": positions, "shared_layers": shared}
    if family != "deberta-v2":
        return {"max_positions": positions}
    kinds = config.get("pos_att_type") or []
    kinds = kinds.split("|") if isinstance(kinds, str) else kinds
    properties = {
        "relative_attention": config.get("relative_attention", False) is True,
        "share_att_key": config.get("share_att_key", False) is True,
        "pos_att_type c2p, p2c": sorted(kinds) == ["c2p", "p2c"],
        "norm_rel_ebd layer_norm": config.get("norm_rel_ebd", "none") == "layer_norm",
        "position_biased_input false": not config.get("position_biased_input", True),
        "type_vocab_size 0": not config.get("type_vocab_size", 0),
        "position_buckets": config.get("position_buckets", -1) > 0,
    }
    for name, present in properties.items():
        if not present:
            raise ConfigError(
                f"the model lacks {name}: of DeBERTa, only version 3 can be built",
                where=where,
                fix="choose another model",
            )
    distance = config.get("max_relative_positions", -1)
    return {
        "max_positions": positions,
        "num_buckets": config["position_buckets"],
        "max_distance": distance if distance > 0 else positions,
    }
