"""First rows of an encoder's table from a file of word vectors."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.messages import NOTES
from tfxc.core.progress import Progress
from tfxc.core.storage.compression import decompressed
from tfxc.core.storage.reading import archive_errors, existing_file, read_errors
from tfxc.data.examples.kinds import TOKENS
from tfxc.data.reading.source_files import expand

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.model import XCModel

_PER_REPORT = 4096


def read_vectors(
    path: str | Path, rows: "dict[str, int]", dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the vectors of some words in a file of lines ``word number number ...``.

    That is the text format of word2vec, fastText (``.vec``) and GloVe; the first line may hold the
    number of words and their length. Of a word that occurs twice the first vector counts. Words may
    hold blanks, as some of GloVe's do, but not end in a number behind one.

    Args:
        path: the file, plain or compressed by gzip, xz or bzip2.
        rows: row of each word that is looked for.
        dim: length of a vector.

    Returns:
        (rows int64 (n,), vectors float32 (n, dim)).

    Raises:
        DataError: there is no such file, or a line has another number of values; it is named.

    Example:
        >>> read_vectors("wiki.zh.vec", {"你好": 7}, 300)  # doctest: +SKIP
        (array([7]), array([[ 0.12, ...
    """
    path = existing_file(path)
    vectors: dict[int, np.ndarray] = {}
    shown = Progress(f"reading {path.name}", unit="words")
    with (
        read_errors(path),
        archive_errors(path),
        open(path, "rb") as raw,
        decompressed(raw, path) as stream,
        shown as progress,
    ):
        for number, line in enumerate(stream, 1):
            values = line.rstrip(b"\n\r ").rsplit(b" ", dim)
            if number == 1 and len(values) == 2 and values[1].isdigit():
                continue
            if len(values) != dim + 1 or _ends_in_number(values[0]):
                raise DataError(
                    f"the line has {len(line.split()) - 1} numbers after the word, but "
                    f"encoder.embedding_dim is {dim}",
                    where=f"{path}:{number}",
                    fix="set encoder.embedding_dim to the length of the vectors",
                )
            row = rows.get(values[0].decode("utf-8", "replace"))
            if row is not None and row not in vectors:
                try:
                    vector = np.array(values[1:], np.float32)
                except ValueError:
                    vector = np.array([np.nan], np.float32)
                if not np.isfinite(vector).all():
                    raise DataError(
                        "not all values after the word are finite numbers",
                        where=f"{path}:{number}",
                        fix="correct the line, or remove it",
                    )
                vectors[row] = vector
            if number % _PER_REPORT == 0:
                progress.advance(_PER_REPORT)
    order = sorted(vectors)
    return np.array(order, np.int64), np.array([vectors[row] for row in order], np.float32)


def start_from_vectors(model: "XCModel", config: "Config", text_features: Callable[[], Any]) -> int:
    """Gives the encoder's table the vectors that the file ``encoder.vectors`` has of its words.

    The other rows keep their random start.

    Args:
        model: built ``XCModel``.
        config: its ``Config``.
        text_features: function without arguments that returns the fitted text features.

    Returns:
        Number of rows that have a vector; 0 where the config names no file.

    Raises:
        ConfigError: the encoder has no table of tokens, or it is that of a pretrained network.
        DataError: see ``read_vectors``; or the file has a vector of no word.
    """
    assert config.encoder is not None
    encoder = model.encoder
    written = config.encoder.section().get("vectors")
    if not written:
        return 0
    if encoder.input_kind != "tokens" or len(encoder.tables) != 1 or encoder.pretrained:
        raise ConfigError(
            f"encoder {type(encoder).__name__} has no table of tokens that begins at random",
            where="encoder.vectors",
            fix="remove it, or choose an encoder with such a table, e.g. 'textcnn'",
        )
    features = text_features()
    words = (features if features.kind is TOKENS else features.tokens).vocabulary()
    path = expand(written)
    table = encoder.tables[0]
    rows, vectors = read_vectors(
        path, {word: row for row, word in enumerate(words)}, table.shape[1]
    )
    vectors = vectors[rows > 0]
    rows = rows[rows > 0]
    if not len(rows):
        raise DataError(
            f"the file has a vector of none of the {len(words):,} tokens",
            where=path,
            fix="give vectors of the language and the tokens of the data",
        )
    values = table.numpy()  # updates of single rows do not reach the copies of all replicas
    values[rows] = vectors
    table.assign(values)
    NOTES.info(
        f"{path}: vectors of {len(rows):,} of {len(words):,} tokens; the others start at random"
    )
    return len(rows)


def _ends_in_number(word: bytes) -> bool:
    """Tells whether numbers are left over in front of the vector's: it is longer than it
    should be.
    """
    _, blank, last = word.rpartition(b" ")
    try:
        return bool(blank) and math.isfinite(float(last))
    except ValueError:
        return False
