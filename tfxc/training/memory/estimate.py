"""How much memory preparation, training, evaluation and export will need, before they start."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras

from tfxc.core.resources import available_bytes, resident_bytes
from tfxc.data.store.manifest import Manifest
from tfxc.model import make_components
from tfxc.ops.tables.large_weights import largest_piece
from tfxc.training.memory.preparation import preparation_bytes
from tfxc.training.memory.traced import TracedModel
from tfxc.training.optimization.optimizers import get_optimizer
from tfxc.training.optimization.rates import trained_weights
from tfxc.training.strategies import check_batch_size, gpu_bytes, num_workers, replicas_here

if TYPE_CHECKING:
    from tfxc.core.settings import Config, TrainingSettings
    from tfxc.encoders.base import Encoder
    from tfxc.heads.base import Head


_FLOAT = 4
# Beyond what the process that estimates holds: threads, traced functions, buffers of files.
_STARTED = 60 * 2**20
# The batches that wait, those being put together, and the one that is trained on.
_BATCHES = 8
# TensorFlow's allocator keeps what was freed in pieces, which the next tensor may not fit.
_FRAGMENTS = 0.15
# Bytes of a label's name in the table of an exported graph.
_NAME = 128


class Memory(NamedTuple):
    """Estimated bytes of one training process at its peak.

    Attributes:
        parameters: number of trainable numbers.
        weights, slots, averages: bytes, on all replicas of this machine, as the next two.
        activations: all that a step computes, gradients included.
        tables: what the objective keeps of each training example.
        data: examples in memory, and the batches made of them.
        saving: copies of the largest weight, or piece of one, while it is written.
        fragments: what TensorFlow's allocator holds without use.
        runtime: the process itself.
    """

    parameters: int
    weights: int
    slots: int
    averages: int
    activations: int
    tables: int
    data: int
    saving: int
    fragments: int
    runtime: int

    @property
    def total(self) -> int:
        """All bytes together."""
        return sum(self[1:])

    @property
    def tensors(self) -> int:
        """Those of TensorFlow, which are on the GPUs where there are any."""
        return self.total - self.data - self.saving - self.runtime


class Estimate(NamedTuple):
    """Estimated bytes of what is done with a config.

    Attributes:
        training: ``Memory``.
        preparation: of the process of ``tfxc prepare``, see ``memory.preparation``.
        evaluation, export: of the processes of ``tfxc evaluate`` and ``tfxc export``.
    """

    training: Memory
    preparation: int
    evaluation: int
    export: int


class Need(NamedTuple):
    """How much of some memory is needed, and how much is available.

    Attributes:
        where: ``"total"``, ``"GPU"`` or ``"host"``.
        needed, available: bytes; of GPUs those of each, and of the one with the least.
    """

    where: str
    needed: int
    available: int


def needs(training: Memory, settings: "TrainingSettings") -> list[Need]:
    """Returns what training needs of this machine: its memory, or that of the GPUs and of the host.

    Args:
        training: ``Memory``.
        settings: ``TrainingSettings``.
    """
    gpus = gpu_bytes()
    if not gpus or any("CPU" in device.upper() for device in settings.devices or ()):
        return [Need("total", training.total, available_bytes())]
    each = training.tensors // replicas_here(settings)
    host = Need("host", training.total - training.tensors, available_bytes())
    return [Need("GPU", each, min(gpus)), host]


def estimate(
    config: "Config",
    data_folder: str | Path,
    repetition: int | None = None,
    manifest: Manifest | None = None,
    models: int = 1,
    **data_dependent: object,
) -> "Estimate":
    """Estimates memory; no weight is allocated for it.

    A training step and a search are traced with the shapes of real batches, and what they hold is
    summed up over their operations, see ``memory.graph_walk``.

    Args:
        config: ``Config``.
        data_folder: prepared records.
        repetition: number of the one repetition trained, or None for the whole model.
        manifest: that of more examples than are in the folder; None for its own.
        models: of this shape that are in memory together while a run is opened for an export.
        data_dependent: extra arguments of ``build_model``.

    Raises:
        ConfigError: a batch that cannot be divided evenly.
    """
    manifest = manifest or Manifest.load(data_folder)
    held = allocated(config, manifest, repetition, **data_dependent)
    replicas = replicas_here(config.training)
    check_batch_size(config.training, replicas)
    model = TracedModel(config, data_folder, manifest, repetition, replicas, data_dependent)
    step, batch = model.training_bytes()
    search = model.search_bytes()
    tensors = held.weights + held.slots + held.averages + held.tables
    training = held._replace(
        activations=max(replicas * step, search),
        data=held.data + _BATCHES * replicas * batch,
        fragments=int(_FRAGMENTS * (tensors + replicas * step)),
    )
    process = held.runtime
    whole = (*model.model.encoder.trainable_weights, *model.model.head.trainable_weights)
    once = sum(weight_of(variable).bytes for variable in whole)
    reading = held.saving  # in the same pieces
    evaluation = process + once + max(reading, search)
    # The run's model is released before the export is read back and compared.
    export = process + models * once + max(reading, search) + _NAME * manifest.num_labels
    # Preparation traces no function.
    preparation = process - _STARTED + preparation_bytes(manifest, config.data)
    return Estimate(training, preparation, evaluation, export)


def allocated(
    config: "Config", manifest: Manifest, repetition: int | None = None, **data_dependent: object
) -> "Memory":
    """Returns what training holds apart from activations and batches, from shapes alone.

    Args:
        config, manifest, repetition, data_dependent: as of ``estimate``.
    """
    dimensions = manifest.dimensions | data_dependent
    encoder, head, objective = make_components(config, **dimensions, repetition=repetition)
    shapes = weight_shapes(encoder, head)
    replicas = replicas_here(config.training)
    parameters = sum(weight.size for weight in shapes)
    weights = sum(weight.bytes for weight in shapes)
    fused = [weight_of(variable) for variable in head.fused_variables]
    trained = (parameters - sum(weight.size for weight in fused)) * _FLOAT
    is_shared = head.sharded and config.training.strategy != "none"
    # Of these each replica has a part only: they are held once by all replicas together.
    shared = [weight_of(variable) for variable in head.trainable_weights if is_shared]
    copies = replicas - 1 / num_workers(config.training)
    held = replicas * weights - copies * sum(weight.bytes for weight in shared)
    without = 0 if fused else sum(weight.size for weight in shared)  # those fused have no slots
    moved = replicas * trained - copies * _FLOAT * without
    slots = len(get_optimizer(config.training.optimizer.section()).slot_names)
    averages = sum(method.name in ("ema", "swa") for method in config.techniques)
    with keras.StatelessScope(initialize_variables=False):
        objective.build(None)
    tables = sum(math.prod(table.shape) for table in objective.tables) * _FLOAT
    # Of each split that training opens at most ``training.memory_gb``.
    opened = ("train", "dev", *(["test"] if config.evaluation.test_on_improvement else []))
    splits = [split for name, split in manifest.splits.items() if name in opened]
    sizes = (
        manifest.row_kind.memory_bytes(
            split.examples, split.labels, split.nonzeros, sum(s.tokens for s in split.shards)
        )
        for split in splits
    )
    data = sum(min(int(config.training.memory_gb * 2**30), size) for size in sizes)
    label_texts, lists = _label_text_bytes(head, config.training.batch_size, manifest)
    # Chunks of a fused head are written one by one; `shapes` has them as one matrix.
    written = (*encoder.trainable_weights, *head.trainable_weights)
    largest = max(
        (largest_piece(variable.shape, variable.dtype) for variable in written), default=0
    )
    return Memory(
        parameters=parameters,
        weights=int(held),
        slots=int(slots * moved),
        averages=replicas * averages * weights,
        activations=0,
        tables=replicas * (tables + label_texts) + lists,
        data=data,
        saving=2 * largest,
        fragments=0,
        runtime=resident_bytes() + _STARTED,
    )


def _label_text_bytes(head: "Head", batch_size: int, manifest: Manifest) -> tuple[int, int]:
    """Returns what head ``label_text`` takes beyond its weights.

    Returns:
        Bytes of the columns of batches before, and of what a step makes of them, on a replica;
        bytes of what is kept of the training examples.
    """
    if not head.reads_label_texts:
        return 0, 0
    label_text: Any = head
    width = label_text.label_vectors.shape[1]
    slots = (label_text.pre_batch + 1) * label_text.most_columns(batch_size)
    # Two copies of the vectors where they are replaced; products, logits, and their gradient.
    queue = 2 * slots * (width * _FLOAT + 8) + 3 * slots * batch_size * _FLOAT
    # Lists of mined labels, and their copy; of near batches vectors, and what clustering makes.
    lists = 2 * label_text.mined_candidates if label_text.mined else 0
    vectors = 1.25 * width if label_text.batching == "near" else 0
    examples = int(manifest.splits["train"].examples * (lists + vectors) * _FLOAT)
    return queue if label_text.pre_batch else 0, examples


def memory_lines(
    training: Memory, settings: "TrainingSettings", whole: Estimate | None
) -> Iterator[str]:
    """Yields what is estimated, as lines.

    Args:
        training: parts of the memory of training.
        settings: ``TrainingSettings``.
        whole: of preparation, evaluation and export as well, or None.
    """
    for name in training._fields[1:]:
        yield f"  {name:11} {getattr(training, name) / 2**20:10,.0f} MB"
    for where, needed, available in needs(training, settings):
        there = f"{available / 2**20:,.0f} MB available"
        yield f"  {where:11} {needed / 2**20:10,.0f} MB of {there}"
    if whole is not None:
        yield "of preparation, evaluation and export, each in a process of its own:"
        yield f"  {'preparation':11} {whole.preparation / 2**20:10,.0f} MB"
        yield f"  {'evaluation':11} {whole.evaluation / 2**20:10,.0f} MB"
        yield f"  {'export':11} {whole.export / 2**20:10,.0f} MB"


def rate_groups(
    config: "Config", dimensions: Mapping[str, Any], repetition: int | None = None
) -> list[str]:
    """Lists what learns at another rate than the rest, see ``RateFactors.lines``.

    Args:
        config: ``Config``.
        dimensions: what the data decides.
        repetition: as in ``build_model``.
    """
    encoder, head, _ = make_components(config, **dimensions, repetition=repetition)
    weight_shapes(encoder, head)
    optimizer = get_optimizer(config.training.optimizer.section())
    weights = trained_weights(encoder, head)
    return list(optimizer.rates.lines(weights, optimizer.learning_rate))


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
    """Returns the trainable weights of unbuilt parts, chunks of one matrix as the matrix."""
    with keras.StatelessScope(initialize_variables=False):
        encoder.build(None)
        head.build(encoder.compute_output_shape((None, encoder.num_features)))
    shapes = [weight_of(v) for v in (*encoder.trainable_weights, *head.trainable_weights)]
    chunks = [weight_of(v) for v in head.fused_variables if len(v.shape) == 2]
    if not chunks:
        return shapes
    rows = sum(chunk.shape[0] for chunk in chunks)
    whole = chunks[0]._replace(name="kernel", shape=(rows, chunks[0].shape[1]))
    first = shapes.index(chunks[0], len(encoder.trainable_weights))
    return [*shapes[:first], whole, *shapes[first + len(chunks) :]]


def weight_of(variable: "keras.Variable") -> WeightShape:
    """Returns the ``WeightShape`` of a Keras variable."""
    itemsize = 2 if variable.dtype in ("bfloat16", "float16") else _FLOAT
    return WeightShape(variable.name, tuple(variable.shape), itemsize)
