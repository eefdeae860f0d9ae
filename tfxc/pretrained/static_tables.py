"""Static tables: a vector for each token, whatever stands around it."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfxc.core.errors import ConfigError, DataError
from tfxc.pretrained.folder import model_path, read_json
from tfxc.pretrained.weights import read_tensors
from tfxc.pretrained.word_vectors import read_all_vectors

#: The table that the package of that name brings.
WORDLLAMA = "wordllama"
TOKENIZER = "tokenizer.json"
#: Tensors of Model2Vec's file: rows; the row of each token; a factor of each token.
EMBEDDINGS = "embeddings"
_MAPPING = "mapping"
_WEIGHTS = "weights"
_EXPONENT = 14  # of the largest number: room below for rows that weigh little


class StaticTable(NamedTuple):
    """A table as its files have it.

    Attributes:
        vectors: float16 (tokens, dim), scaled by a power of two.
        tokenizer: content of tokenizer.json, whose ids are the rows; None if there are words.
        words: the word of each row; None if there is a tokenizer.
    """

    vectors: np.ndarray
    tokenizer: dict[str, Any] | None = None
    words: list[str] | None = None


def wordllama_folder() -> Path | None:
    """Returns the folder of the installed package ``wordllama``; None without it."""
    spec = importlib.util.find_spec(WORDLLAMA)  # importing it takes a second
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def read_static_table(written: str, most_words: int, where: str) -> StaticTable:
    """Returns a table.

    Args:
        written: ``"wordllama"``, the table of that package; a folder of Model2Vec with
            ``model.safetensors`` and ``tokenizer.json``; or a file of word vectors, of word2vec
            (text, or binary with the ending ``.bin``) or fastText (``.vec``).
        most_words: words that are read of such a file, the first ones.
        where: config key, for messages.

    Raises:
        ConfigError: nothing is there, or a file is missing or damaged.

    Reference: WordLlama, https://github.com/dleemiller/WordLlama; Model2Vec,
    https://github.com/MinishLab/model2vec.
    """
    path = model_path(written)
    if written == WORDLLAMA:
        folder = wordllama_folder()
        if folder is None:
            raise ConfigError(
                "the package wordllama is not installed",
                where=where,
                fix="install it: pip install 'tfxc[static]'",
            )
        tensors = read_tensors(folder / "weights" / "l2_supercat_256.safetensors")
        tokenizer = read_json(folder / "tokenizers" / "l2_supercat_tokenizer_config.json")
        return StaticTable(_narrow(next(iter(tensors.values())), folder), tokenizer)
    if path is None or not path.exists():
        raise ConfigError(
            f"there is no static table at {path or written}",
            where=where,
            fix=f"give {WORDLLAMA!r}, a folder of Model2Vec or a file of word vectors",
        )
    if path.is_dir():
        tokenizer = read_json(path / TOKENIZER)
        file = path / "model.safetensors"
        tensors = read_tensors(file)
        if EMBEDDINGS not in tensors or tensors[EMBEDDINGS].ndim != 2:
            raise ConfigError(
                f"it holds no table named {EMBEDDINGS!r}",
                where=file,
                fix="give a folder of Model2Vec; tfxc distill --to static makes one of a language "
                "model",
            )
        vectors = tensors[EMBEDDINGS].astype(np.float32)
        if _MAPPING in tensors:
            mapping = tensors[_MAPPING]
            if mapping.dtype.kind not in "iu" or not np.isin(mapping, range(len(vectors))).all():
                raise ConfigError(
                    f"{_MAPPING!r} names rows beyond the {len(vectors):,} of the table",
                    where=file,
                    fix="copy the whole folder again",
                )
            vectors = vectors[mapping]
        if _WEIGHTS in tensors:
            vectors = vectors * tensors[_WEIGHTS].astype(np.float32)[:, None]
        return StaticTable(_narrow(vectors, file), tokenizer)
    try:
        words, vectors = read_all_vectors(path, most_words)
    except DataError as error:
        raise ConfigError(error.problem, where=error.where, fix=error.fix) from error
    return StaticTable(_narrow(vectors, path), words=words)


def _narrow(vectors: np.ndarray, where: Path) -> np.ndarray:
    """Returns vectors as float16, scaled by a power of two: the length of a mean says nothing."""
    wide = vectors.astype(np.float32)
    largest = np.abs(wide).max(initial=0)
    if not 0 < largest < np.inf:
        raise ConfigError(
            "the table is empty, or not all of its numbers are finite",
            where=where,
            fix="give another table",
        )
    return np.ldexp(wide, _EXPONENT - np.frexp(largest)[1]).astype(np.float16)
