"""Presets of keras-hub, turned into folders as the model hubs lay them out."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError, missing_package
from tfxc.core.storage.cache import cache_of
from tfxc.core.storage.files import write_json
from tfxc.core.storage.ownership import atomic_folder
from tfxc.pretrained.weight_names import WORDS, layer_prefix, layer_weight_names

if TYPE_CHECKING:
    import keras
    import keras_hub

#: What a folder's path begins with that names a preset.
PREFIX = "keras_hub:"
_FAMILIES = {
    "BertBackbone": "bert",
    "DistilBertBackbone": "distilbert",
    "RobertaBackbone": "roberta",
    "XLMRobertaBackbone": "xlm-roberta",
    "AlbertBackbone": "albert",
    "ElectraBackbone": "electra",
    "DebertaV3Backbone": "deberta-v2",
}
_FILES = {"vocabulary.txt": "vocab.txt", "vocabulary.json": "vocab.json"}
_MODELS = {"xlm-roberta": "sentencepiece.bpe.model", "albert": "spiece.model"}


def preset_folder(preset: str, where: str) -> Path:
    """Returns the folder a preset was turned into, below ``TFXC_CACHE`` (or ``~/.cache/tfxc``).

    Args:
        preset: name or folder of a preset. keras-hub downloads what it does not have.
        where: config key, for messages.

    Raises:
        ConfigError: keras-hub is not installed, has no such preset, or the network is none of
            those built here.
    """
    changed = Path(preset) / "config.json"
    key = f"{preset} {changed.stat().st_mtime_ns if changed.is_file() else ''}"
    digest = hashlib.sha256(key.encode("utf-8")).hexdigest()[:8]
    folder = cache_of() / "presets" / f"{Path(preset).name}-{digest}"
    if not (folder / "config.json").is_file():
        with missing_package("hub", where=where):
            import keras_hub
            import safetensors.numpy
        try:
            body = keras_hub.models.Backbone.from_preset(preset, dtype="float32")
            tokens = keras_hub.tokenizers.Tokenizer.from_preset(preset)
        except (ValueError, OSError, ImportError) as error:
            raise ConfigError(
                f"keras-hub cannot load the preset {preset}: {str(error).splitlines()[0]}",
                where=where,
                fix="give the name or folder of a preset, with its tokenizer",
            ) from None
        family = _FAMILIES.get(type(body).__name__)
        if family is None:
            raise ConfigError(
                f"tfxc does not build networks of type {type(body).__name__}",
                where=where,
                fix=f"give a preset of {', '.join(_FAMILIES)}",
            )
        with atomic_folder(folder, "pretrained model") as scratch:
            safetensors.numpy.save_file(_arrays(body, family), scratch / "model.safetensors")
            tokens.save_assets(str(scratch))
            names = {**_FILES, "vocabulary.spm": _MODELS.get(family, "spm.model")}
            for name, ours in names.items():
                if (scratch / name).is_file():
                    (scratch / name).rename(scratch / ours)
            if (scratch / "vocab.txt").is_file():
                # Its lower case keeps accents, with which the models were not trained.
                lowercase = bool(tokens.lowercase)
                options = {"do_lower_case": lowercase, "strip_accents": lowercase}
                write_json(scratch / "tokenizer_config.json", options)
            write_json(scratch / "config.json", _config(body, family))
    return folder


def _layers(body: "keras_hub.models.Backbone") -> "list[keras.layers.Layer]":
    """Returns the different layers; groups of ALBERT hold one each."""
    layers = [part if isinstance(part, list) else [part] for part in body.transformer_layers]
    return [layer for group in layers for layer in group]


def _config(body: "keras_hub.models.Backbone", family: str) -> dict[str, Any]:
    """Returns the ``config.json`` of a network."""
    vocabulary_size, embedding_dim = body.token_embedding.embeddings.shape
    first = _layers(body)[0]
    name = getattr(first._feedforward_intermediate_dense.activation, "__name__", "")
    padding = 1 if family in ("roberta", "xlm-roberta") else 0
    config = {
        "model_type": family,
        "vocab_size": vocabulary_size,
        "embedding_size": embedding_dim,
        "pad_token_id": padding,
        "layer_norm_eps": body.embeddings_layer_norm.epsilon,
        "max_position_embeddings": body.max_sequence_length + 2 * padding,
        "hidden_size": body.hidden_dim,
        "dim": body.hidden_dim,
        "num_hidden_layers": body.num_layers,
        "n_layers": body.num_layers,
        "num_attention_heads": body.num_heads,
        "n_heads": body.num_heads,
        "intermediate_size": body.intermediate_dim,
        "hidden_act": "gelu_new" if "approximate" in name else "gelu",
        "hidden_dropout_prob": body.dropout,
        "dropout": body.dropout,
        "attention_probs_dropout_prob": body.dropout,
        "attention_dropout": body.dropout,
    }
    if family == "distilbert":
        config |= {"hidden_dim": body.intermediate_dim, "activation": config["hidden_act"]}
    if family == "albert":
        config["num_hidden_groups"] = body.num_groups
        config["inner_group_num"] = body.num_inner_repetitions
    if family == "deberta-v2":
        config |= {
            "relative_attention": True,
            "share_att_key": True,
            "pos_att_type": ["c2p", "p2c"],
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "type_vocab_size": 0,
            "position_buckets": body.bucket_size,
        }
    return config


def _arrays(body: "keras_hub.models.Backbone", family: str) -> dict[str, np.ndarray]:
    """Returns the weights by the names of the family's folders."""
    arrays = {WORDS: body.token_embedding.embeddings}
    arrays |= _norm("embeddings.LayerNorm", body.embeddings_layer_norm)
    if family == "deberta-v2":
        arrays["encoder.rel_embeddings.weight"] = body.relative_embeddings.rel_embeddings
        arrays |= _norm("encoder.LayerNorm", body.relative_embeddings.layer_norm)
    else:
        arrays |= _positions(body, family)
    if hasattr(body, "embeddings_projection"):
        mapping = "encoder.embedding_hidden_mapping_in"
        name = mapping if family == "albert" else "embeddings_project"
        arrays |= _linear(name, body.embeddings_projection)
    for number, layer in enumerate(_layers(body)):
        attention = layer._self_attention_layer
        inner = (attention._query_dense, attention._key_dense, attention._value_dense)
        parts = {
            "attention_in": inner,
            "attention_out": (attention._output_dense,),
            "feed_forward_in": (layer._feedforward_intermediate_dense,),
            "feed_forward_out": (layer._feedforward_output_dense,),
            "attention_norm": (layer._self_attention_layer_norm,),
            "feed_forward_norm": (layer._feedforward_layer_norm,),
        }
        for ours, theirs in layer_weight_names(family).items():
            for part, name in zip(parts[ours], theirs, strict=True):
                name = layer_prefix(family, number) + name
                arrays |= _norm(name, part) if ours.endswith("norm") else _linear(name, part)
    return {name: np.ascontiguousarray(values) for name, values in arrays.items()}


def _positions(body: "keras_hub.models.Backbone", family: str) -> dict[str, np.ndarray]:
    """Returns the vectors of positions, and of the token types."""
    holder = body if hasattr(body, "position_embedding") else body.embeddings
    positions = np.asarray(holder.position_embedding.position_embeddings)
    if family in ("roberta", "xlm-roberta"):
        positions = np.pad(positions, [[2, 0], [0, 0]])
    types = np.zeros((1, positions.shape[1]), np.float32)
    if hasattr(body, "segment_embedding"):
        types = body.segment_embedding.embeddings
    return {
        "embeddings.position_embeddings.weight": positions,
        "embeddings.token_type_embeddings.weight": types,
    }


def _linear(name: str, part: "keras.layers.Layer") -> dict[str, np.ndarray]:
    """Returns a linear map; the outputs of all heads are together."""
    bias = np.asarray(part.bias).reshape(-1)
    kernel = np.asarray(part.kernel).reshape(-1, len(bias)).T
    return {f"{name}.weight": kernel, f"{name}.bias": bias}


def _norm(name: str, part: "keras.layers.Layer") -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.asarray(part.gamma), f"{name}.bias": np.asarray(part.beta)}
