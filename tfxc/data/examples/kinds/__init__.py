"""The kinds of features: all that distinguishes one from another, one object per kind.

A kind knows the arrays its rows have in memory and in records, the tensors of a batch, which are
the inputs of an exported model as well, the bytes it takes, examples to try a model with, and how
it is named in messages. Readers, records, sources, exports and commands ask it; none of them has a
list of kinds. A new kind is a file here with a class and its object, which is called as the kind in
upper case, an entry in ``KINDS``, and an encoder that reads it.

``sizes`` is a mapping of what the kinds need to know about the data: ``num_features``, of images
``image_shape`` (height, width, channels), of joined texts ``vocabulary_size``. A manifest as a dict
is one.

TensorFlow is imported by the methods that need it: whoever reads rows does without.
"""

from collections.abc import Iterable
from pathlib import Path

from tfxc.core.errors import DataError
from tfxc.data.examples.kinds.base import FeatureKind, Given, Input, Tensor
from tfxc.data.examples.kinds.dense import DENSE
from tfxc.data.examples.kinds.images import ENCODED, IMAGE
from tfxc.data.examples.kinds.joined import JOINED
from tfxc.data.examples.kinds.sparse import SPARSE
from tfxc.data.examples.kinds.texts import TEXT, TEXT_AND_FEATURES
from tfxc.data.examples.kinds.tokens import TOKENS

__all__ = [
    "DENSE",
    "ENCODED",
    "IMAGE",
    "INPUTS",
    "JOINED",
    "KINDS",
    "ROW_KINDS",
    "SPARSE",
    "TEXT",
    "TEXT_AND_FEATURES",
    "TOKENS",
    "FeatureKind",
    "Given",
    "Input",
    "Tensor",
    "input_of",
    "kind_of_features",
]

#: The kinds that models are built for, by name: what a manifest and an encoder may say.
KINDS = {kind.name: kind for kind in (SPARSE, DENSE, TOKENS, JOINED, IMAGE)}
#: The kinds that rows have, by name: images are kept as pixels or encoded.
ROW_KINDS = KINDS | {ENCODED.name: ENCODED}
#: What a run or an export may take, by name.
INPUTS = {given.name: given for given in (TEXT, TEXT_AND_FEATURES, *KINDS.values())}


def input_of(names: Iterable[str]) -> Input | None:
    """Returns the ``Input`` whose tensors have these names; None if there is no such one.

    Example:
        >>> input_of(["weights", "ids", "row_splits"])
        kinds.SPARSE
    """
    return next((kind for kind in INPUTS.values() if set(kind.inputs) == set(names)), None)


def kind_of_features(features: object, where: str | Path) -> Given:
    """Returns the kind of what a reader returned as ``Chunk.features``.

    Args:
        where: the source, for messages.

    Raises:
        DataError: no kind has that form.

    Example:
        >>> import numpy as np
        >>> kind_of_features(np.zeros((2, 3), np.float32), "train.npz")
        kinds.DENSE
    """
    known = [kind for kind in KINDS.values() if isinstance(kind, Given)]
    for kind in known:
        if kind.recognises(features):
            return kind
    raise DataError(
        f"{type(features).__name__} {getattr(features, 'shape', '')}".rstrip()
        + f" is neither {' nor '.join(kind.description for kind in known)}",
        where=where,
        fix="return Chunk.features in one of the forms that tfxc.data.examples.chunk describes",
    )
