"""First rows of an encoder's table from a file of word vectors."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.messages import NOTES
from tfxc.data.examples.kinds import TOKENS
from tfxc.data.reading.source_files import expand
from tfxc.data.text.static import StaticFeatures
from tfxc.data.text.tokens import FILL, PADDING, UNKNOWN
from tfxc.pretrained.static_tables import WORDLLAMA
from tfxc.pretrained.word_vectors import read_vectors

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.model import XCModel

_WHERE = "encoder.vectors"
_NO_WORDS = (PADDING, FILL, UNKNOWN)


def start_from_vectors(model: "XCModel", config: "Config", text_features: Callable[[], Any]) -> int:
    """Gives the encoder's table the vectors that the file ``encoder.vectors`` has of its words.

    It may be a static table, too, see ``tfxc.pretrained.static_tables``: then a token's vector has
    length 1, and is the mean of those of its subwords. The other rows keep their random start.

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
            where=_WHERE,
            fix="remove it, or choose an encoder with such a table, e.g. 'textcnn'",
        )
    features = text_features()
    words = (features if features.kind is TOKENS else features.tokens).vocabulary()
    path = Path(expand(written))
    table = encoder.tables[0]
    if written == WORDLLAMA or path.is_dir() or path.suffix == ".bin":
        # Of each token the mean of what a static table cuts it into.
        texts = ["" if word in _NO_WORDS else word for word in words]
        means = StaticFeatures.of_table(str(written), _WHERE).transform(texts)
        if means.shape[1] != table.shape[1]:
            raise ConfigError(
                f"the table has vectors of length {means.shape[1]}, but encoder.embedding_dim is "
                f"{table.shape[1]}",
                where=_WHERE,
                fix=f"set encoder.embedding_dim to {means.shape[1]}",
            )
        rows = np.flatnonzero(means.getnnz(axis=1))
        vectors = means[rows].toarray()
    else:
        row_of = {word: row for row, word in enumerate(words)}
        rows, vectors = read_vectors(path, row_of.get, table.shape[1])
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
