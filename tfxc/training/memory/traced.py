"""Steps of training and of search, traced for a real batch without memory for the weights."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfxc.core import registry
from tfxc.data.sources.dataset import training_dataset
from tfxc.data.sources.shards import open_source
from tfxc.data.sources.windowed import WINDOWS_IN_MEMORY
from tfxc.model import build_model
from tfxc.ops.gradients import without_gradients
from tfxc.training.data_dependent import data_dependent_arguments
from tfxc.training.memory.graph_walk import peak_of
from tfxc.training.memory.unallocated import in_a_graph, unallocated
from tfxc.training.optimization.optimizers import get_optimizer
from tfxc.training.optimization.schedules import get_schedule
from tfxc.training.step import TrainStep

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.store.manifest import Manifest
    from tfxc.heads.label_text.head import LabelText


_LOOKED_AT = 32  # batches, of which the largest is traced, where their sizes differ


class TracedModel:
    """A model of a config without memory for its weights.

    Args:
        config: ``Config``.
        data_folder: prepared records, from which batches are read.
        manifest: their ``Manifest``, or that of more examples of the kind.
        repetition: number of the one repetition trained, or None for the whole model.
        replicas: the examples of a step are shared out among.
        data_dependent: extra arguments of ``build_model``.
    """

    def __init__(
        self,
        config: "Config",
        data_folder: str | Path,
        manifest: "Manifest",
        repetition: int | None,
        replicas: int,
        data_dependent: Mapping[str, Any],
    ) -> None:
        self.config = config
        self.replicas = replicas
        shards = [shard.memory_bytes(manifest.row_kind) for shard in manifest.split("train").shards]
        memory = WINDOWS_IN_MEMORY * max(shards, default=2**26)  # for some of the examples
        self.source = open_source(data_folder, "train", memory)
        sizes = {**manifest.dimensions, **data_dependent}
        if (
            config.head is not None
            and registry.get("head", config.head.name).reads_label_texts  # so does a step
        ):
            sizes |= data_dependent_arguments(config, self.source, **sizes)
        with unallocated(), in_a_graph():
            self.model = build_model(config, repetition=repetition, **sizes)
        head = self.model.head
        if getattr(head, "mined", 0):
            head.candidates = functools.partial(_candidates, head)

    def training_bytes(self) -> tuple[int, int]:
        """Returns the bytes of the tensors of a training step on one replica, and of its largest
        batch.
        """
        settings = self.config.training
        batch = self._largest_batch()
        batches = [batch] * settings.accumulate
        specs = tf.nest.map_structure(_spec, batches)
        optimizer = get_optimizer(settings.optimizer.section())
        schedule = get_schedule(settings.schedule.section(), 1000, 100.0)
        techniques = [
            registry.create("technique", method.section()) for method in self.config.techniques
        ]
        for technique in techniques:
            technique.on_train_begin(100.0, 1000)
        strategy = tf.distribute.get_strategy()
        with unallocated():
            step = TrainStep(self.model, optimizer, schedule, settings, strategy, techniques)

        def run(*batches: Mapping[str, Any]) -> tf.Tensor:
            def replica(*batches: Mapping[str, Any]) -> tf.Tensor:
                return step._replica_step(batches, tf.constant(0.0), tf.constant(True))

            return strategy.run(replica, args=batches)

        function = tf.function(run, autograph=False).get_concrete_function(*specs)
        return peak_of(function, tf.nest.flatten(batches)), _bytes(batch)

    def search_bytes(self) -> int:
        """Returns the bytes of the tensors of a search for the labels of a batch."""
        size = self.config.evaluation.batch_size
        batch = next(iter(self.source.sequential(size)))
        features = tf.nest.map_structure(tf.constant, batch["features"])

        def run(features: Mapping[str, Any] | tf.Tensor) -> tf.Tensor | tuple[tf.Tensor, ...]:
            with without_gradients():
                if self.model.head.search_methods:
                    return self.model._scores_to_search(features)
                return self.model.top_k(features, min(5, self.model.head.num_choices))

        specs = tf.nest.map_structure(_spec, features)
        function = tf.function(run, autograph=False).get_concrete_function(specs)
        return peak_of(function, tf.nest.flatten(features))

    def _largest_batch(self) -> dict[str, Any]:
        """Returns, of some batches, the one with the most bytes: that of the longest texts."""
        config = self.config
        settings = self.config.training
        size = settings.batch_size
        if settings.group_by_length:
            self.source.group_by_length(size)
        steps = min(_LOOKED_AT, -(-self.source.num_examples // size))
        augmentation = None
        if self.source.image_shape is not None:
            from tfxc.data.images.augmentation import build_augmentation

            augmentation = build_augmentation(
                settings.augmentation, config.seed, self.source.image_shape
            )
        batches = training_dataset(
            self.source,
            batch_size=size,
            seed=config.seed,
            num_steps=steps,
            micro_batches=settings.accumulate * self.replicas,
            augmentation=augmentation,
        )
        specs = tf.nest.flatten(self.source.kind.specs(self.source.sizes, 1))
        if all(spec.shape.is_fully_defined() for spec in specs):
            batches = batches.take(1)
        return max(batches, key=_bytes)


def _candidates(head: "LabelText", examples: tf.Tensor) -> tf.Tensor:
    """Returns as many labels for each example as a search may find, other ones for each."""
    listed = tf.range(head.mined, dtype=examples.dtype)
    return (examples[:, None] * head.mined + listed) % head.num_labels


def _spec(tensor: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def _bytes(batch: Mapping[str, Any]) -> int:
    return sum(tensor.dtype.size * int(tf.size(tensor)) for tensor in tf.nest.flatten(batch))
