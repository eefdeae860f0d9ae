"""A static table made of a pretrained language model, without any text."""

from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.errors import ConfigError, missing_package
from tfxc.core.progress import Progress
from tfxc.core.storage.files import write_json
from tfxc.core.storage.ownership import atomic_folder
from tfxc.data.text.static import zipf_weights
from tfxc.data.text.subwords import PretrainedTokens
from tfxc.data.text.subwords_pruning import ordered_pieces
from tfxc.pretrained.folder import open_folder, read_json, tokeniser_folder
from tfxc.pretrained.static_tables import EMBEDDINGS, TOKENIZER
from tfxc.pretrained.tokenizer_json import missing_in_json, tokenizer_json

_BATCH = 1024
_ALONE = 3  # ids of a token between special ones
_LENGTH = 512  # of a text; it is written into tokenizer.json, and not heeded


def distill_static(written: str, output: str | Path, dim: int = 256) -> tuple[int, int]:
    """Writes the static table of a pretrained model, as Model2Vec makes it.

    Each token goes through the model alone, between the special tokens; the mean of the last
    layer's vectors is its own. The first ``dim`` principal components of all tokens stay, each
    token times its weight by Zipf's law, see ``zipf_weights``.

    Args:
        written: the model's folder, or ``"keras_hub:NAME"``.
        output: the folder to write, which Model2Vec can read, too.
        dim: length of the vectors, at most that of the model's.

    Returns:
        Number of tokens, and length of the vectors.

    Raises:
        ConfigError: the folder does not hold what is needed, or its tokeniser cannot be written.

    Reference: Tulkens and van Dongen, Model2Vec, 2024, https://github.com/MinishLab/model2vec.
    """
    with missing_package("hub", where="--to static"):
        import safetensors.numpy

    tokens = PretrainedTokens(written, _ALONE).fit([])
    subwords = tokens.subwords
    assert subwords is not None, "it is fitted"
    pieces = ordered_pieces(subwords)
    file = tokeniser_folder(open_folder(written, "FOLDER")) / TOKENIZER
    padding = subwords.settings["padding"]
    order = np.arange(len(pieces))
    if file.is_file():
        content = read_json(file)
        order[[0, padding]] = order[[padding, 0]]  # its ids are those of the model's files
    else:
        missing = missing_in_json(subwords)
        if missing is not None:
            raise ConfigError(
                f"no {TOKENIZER} can be written of {missing}",
                where=file.parent,
                fix="copy the model's tokenizer.json next to its other files",
            )
        content = tokenizer_json(subwords, pieces, _LENGTH)
    vectors = _token_vectors(written, tokens, len(pieces))
    table = _principal(vectors, dim)[order] * zipf_weights(len(pieces))[:, None]
    with atomic_folder(output, "static table") as scratch:
        safetensors.numpy.save_file(
            {EMBEDDINGS: np.ascontiguousarray(table, np.float32)}, scratch / "model.safetensors"
        )
        write_json(scratch / TOKENIZER, content, indent=None)
        about = {"model_type": "model2vec", "normalize": True, "hidden_dim": table.shape[1]}
        write_json(scratch / "config.json", about, indent=1)
    return table.shape


def _token_vectors(written: str, tokens: PretrainedTokens, count: int) -> np.ndarray:
    """Returns the model's mean vector of each token by the ids of text features, float32."""
    import tensorflow as tf

    from tfxc.encoders.pretrained.encoder import Pretrained

    subwords = tokens.subwords
    assert subwords is not None, "it is fitted"
    settings: dict[str, Any] = {"name": tokens.name, **tokens.settings()}
    encoder = Pretrained(count, written, pooling="mean", trainable=False, text_features=settings)
    swapped = {0: subwords.settings["padding"], subwords.settings["padding"]: 0}
    around = [
        [swapped.get(number, number) for number in subwords.settings[part]]
        for part in ("prefix", "suffix")
    ]
    parts = []
    with Progress("reading tokens", unit="tokens", total=count) as progress:
        for first in range(0, count, _BATCH):
            ids = [[*around[0], i, *around[1]] for i in range(first, min(first + _BATCH, count))]
            parts.append(encoder(tf.constant(ids, tf.int32)).numpy())
            progress.advance(len(ids))
    vectors = np.concatenate(parts)
    vectors[0] = vectors[1:].mean(axis=0)  # padding, which no text holds: becomes 0
    return vectors


def _principal(vectors: np.ndarray, dim: int) -> np.ndarray:
    """Returns the first principal components of rows."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    return centred @ axes[:, ::-1][:, :dim].astype(np.float32)
