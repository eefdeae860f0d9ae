"""How much memory training will need, before it starts."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import keras

from tfxc.model import make_components
from tfxc.training.optimization.optimizers import get_optimizer
from tfxc.training.optimization.rates import rate_lines, trained_weights

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.manifest import Manifest
    from tfxc.encoders.base import Encoder
    from tfxc.heads.base import Head


_FLOAT = 4
_RUNTIME = 700 * 2**20  # resident size of Python with TensorFlow imported


class Memory(NamedTuple):
    """Estimated bytes of one training process.

    Attributes:
        parameters: number of trainable numbers.
        weights, slots, averages, gradients, activations, tables, data, runtime: bytes; ``tables``
            is what the objective keeps of each training example, on every replica.
    """

    parameters: int
    weights: int
    slots: int
    averages: int
    gradients: int
    activations: int
    tables: int
    data: int
    runtime: int = _RUNTIME

    @property
    def total(self) -> int:
        """All bytes together."""
        return sum(self[1:])


def peak_bytes(
    config: "Config", manifest: "Manifest", repetition: int | None = None, **data_dependent: Any
) -> "Memory":
    """Estimates the peak memory of training; no weight is allocated for it.

    Args:
        config: ``Config``.
        manifest: the data's ``Manifest``.
        repetition: number of the one repetition trained, or None for the whole model.
        data_dependent: extra arguments of ``build_model``.

    Returns:
        ``Memory``. Accurate to about a fifth for models whose tables dominate; the feature maps of
        an image encoder are not counted.
    """
    dimensions = manifest.dimensions | data_dependent
    encoder, head, objective = make_components(config, **dimensions, repetition=repetition)
    shapes = weight_shapes(encoder, head)
    parameters = sum(weight.size for weight in shapes)
    weights = sum(weight.bytes for weight in shapes)
    # What the optimizer updates; a fused step holds the gradient of one chunk, and its rounding.
    fused = [weight_of(variable) for variable in head.fused_variables]
    trained = (parameters - sum(weight.size for weight in fused)) * _FLOAT
    chunk = 2 * _FLOAT * max((weight.size for weight in fused), default=0)
    optimizer = get_optimizer(config.training.optimizer.section())
    by_rows = sum(weight_of(v).size for v in head.row_weights) * optimizer.lazy
    columns = min(head.training_columns, head.num_labels)
    # The gathered rows, and their gradient.
    rows_of_step = 2 * _FLOAT * by_rows * columns // max(head.num_labels, 1)
    rows = config.training.batch_size // config.training.accumulate
    averages = sum(method.name in ("ema", "swa") for method in config.techniques)
    return Memory(
        parameters=parameters,
        weights=weights,
        slots=len(optimizer.slot_names) * trained,
        averages=averages * weights,
        gradients=trained - _FLOAT * by_rows + rows_of_step + chunk,
        # logits, their gradient and one temporary of the loss; gathered rows and their gradient
        activations=(3 * head.training_columns + 2 * head.training_gathers) * rows * _FLOAT,
        tables=_table_bytes(objective),
        data=min(int(config.training.memory_gb * 2**30), _data_bytes(manifest)),
    )


def rate_groups(
    config: "Config", dimensions: Mapping[str, Any], repetition: int | None = None
) -> list[str]:
    """Lines that say which weights learn at another rate than the others, see ``rate_lines``.

    Args:
        config: ``Config``.
        dimensions: what the data decides.
        repetition: as in ``build_model``.
    """
    encoder, head, _ = make_components(config, **dimensions, repetition=repetition)
    weight_shapes(encoder, head)
    optimizer = get_optimizer(config.training.optimizer.section())
    return list(rate_lines(optimizer, trained_weights(encoder, head)))


class WeightShape(NamedTuple):
    """A trainable weight that need not exist.

    Attributes:
        name: of the variable.
        shape: tuple of ints.
        itemsize: bytes of one number.
    """

    name: str
    shape: tuple[int, ...]
    itemsize: int

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How much memory it takes."""
        return self.size * self.itemsize


def weight_shapes(encoder: "Encoder", head: "Head") -> list[WeightShape]:
    """The trainable weights of unbuilt parts, chunks of one matrix as the matrix."""
    with keras.StatelessScope(initialize_variables=False):
        encoder.build(None)
        head.build(encoder.compute_output_shape((None, encoder.num_features)))
    found = [weight_of(v) for v in (*encoder.trainable_weights, *head.trainable_weights)]
    chunks = [weight_of(v) for v in head.fused_variables if len(v.shape) == 2]
    if not chunks:
        return found
    rows = sum(chunk.shape[0] for chunk in chunks)
    whole = chunks[0]._replace(name="kernel", shape=(rows, chunks[0].shape[1]))
    first = found.index(chunks[0], len(encoder.trainable_weights))
    return [*found[:first], whole, *found[first + len(chunks) :]]


def weight_of(variable: "keras.Variable") -> WeightShape:
    """The ``WeightShape`` of a Keras variable."""
    itemsize = 2 if variable.dtype in ("bfloat16", "float16") else _FLOAT
    return WeightShape(variable.name, tuple(variable.shape), itemsize)


def _table_bytes(objective):
    with keras.StatelessScope(initialize_variables=False):
        objective.build(None)
    return sum(math.prod(table.shape) for table in objective.tables) * _FLOAT


def _data_bytes(manifest):
    split = manifest.splits["train"]
    tokens = sum(shard.tokens for shard in split.shards)
    return manifest.row_kind.memory_bytes(split.examples, split.labels, split.nonzeros, tokens)
