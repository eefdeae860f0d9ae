"""One weight update, under any strategy."""

import copy
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.encoders.bases.compiled import compiled_encoders
from tfxc.ops.distributed.cross_replica import replica_number
from tfxc.ops.distributed.devices import on_gpu
from tfxc.ops.fused.logit_chunks import plain_variable
from tfxc.ops.gradients import add, global_norm, scale, sum_repeated_rows
from tfxc.ops.randomness import examples_of, step_scope
from tfxc.techniques.base import check_together, method_name, overrides
from tfxc.training.optimization.rates import trained_weights

if TYPE_CHECKING:
    from tfxc.core.settings import TrainingSettings
    from tfxc.encoders.base import Encoder
    from tfxc.heads.base import Head
    from tfxc.model import XCModel
    from tfxc.techniques.base import Technique
    from tfxc.training.optimization.fused import FusedHead
    from tfxc.training.optimization.row_optimizer import Optimizer
    from tfxc.training.optimization.schedules import Schedule


MIN_SCALE = 2.0**-20  # of a loss: a gradient that overflows at this one is not too large


class StepResult(NamedTuple):
    """The result of a step, the same in all processes.

    Attributes:
        loss: mean over the global batch, before the update; None where it was not computed.
        healthy: whether the gradient was finite, or only the scale of the loss was too large.
        stops: whether a process wants to stop.
    """

    loss: float | None
    healthy: bool
    stops: bool

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are."""
        return self.healthy and (self.loss is None or math.isfinite(self.loss))


class StepResults:
    """The results of the steps of one call.

    They stay on the device until they are read, so that it need not wait for the next call.

    Args:
        rows: float32 (steps, 4): loss, whether the gradient was at fault, whether to stop, whether
            the loss was computed.
    """

    def __init__(self, rows: tf.Tensor) -> None:
        self._rows = rows

    def read(self) -> list[StepResult]:
        """Returns the results, one per step; waits for the last of them."""
        return [
            StepResult(float(loss) if asked else None, bool(bad == 0), bool(stop > 0))
            for loss, bad, stop, asked in self._rows.numpy()
        ]

    def __float__(self):
        """Returns the loss of the last step; NaN where it was not computed."""
        return float(self._rows.numpy()[-1, 0])


class TrainStep:
    """Computes gradients, sums them over micro-batches and replicas, clips, updates.

    The loss is the mean over the global batch, so the result does not depend on how the batch is
    shared out.

    A head's ``sharded_tables`` are no weights of all replicas: each updates its own shards, from
    gradients that are summed over nothing, as they come from the examples of all replicas.

    A gradient that is not finite is not applied.

    A head with ``fused_variables`` updates these itself while the gradient is computed, see
    ``training.optimization.fused``; they are no weights of the optimizer, and have no slots.

    Args:
        model: an ``XCModel``.
        optimizer: from ``training.optimization.optimizers``.
        schedule: from ``training.optimization.schedules``.
        settings: ``TrainingSettings``.
        strategy: a ``tf.distribute.Strategy``; build this inside its scope.
        techniques: list of ``Technique``s, the first outermost.

    Attributes:
        wants_stop: whether this process asks to stop; all learn of it with the next step.
        wants_loss: whether the loss of the next step, or of the last one of a call, is looked at. A
            head that updates itself leaves it out otherwise, a tenth of the time, and the loss is
            NaN; other losses are always computed.
        count: steps of the next call, at most ``settings.steps_per_call``.
        results: ``StepResults`` of the last call.
    """

    def __init__(
        self,
        model: "XCModel",
        optimizer: "Optimizer",
        schedule: "Schedule",
        settings: "TrainingSettings",
        strategy: tf.distribute.Strategy,
        techniques: "Sequence[Technique]" = (),
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.settings = settings
        self.strategy = strategy
        self.techniques = techniques
        check_together([type(technique) for technique in techniques])
        check_calls(settings, list(map(type, techniques)), model.encoder, model.head)
        self.step = _counter(0, tf.int64)
        self.loss_scale = LossScale() if settings.precision == "mixed_float16" else None
        self.tables = list(model.head.sharded_tables)
        for technique in techniques:
            technique.build(model, strategy)
        fused = list(map(plain_variable, model.head.fused_variables))
        self.fused_head: FusedHead | None = None
        if fused:
            from tfxc.training.optimization import fused as fused_updates

            fused_updates.check_fused(
                type(model.objective),
                optimizer,
                settings,
                [type(technique) for technique in techniques],
                model.head.fused_variables[0].dtype,
                model.head.fused_learning_rate,
            )
            self.fused_head = fused_updates.FusedHead(model, optimizer, settings)
        fused_ids = {id(variable) for variable in fused}
        trained = [variable.value for variable in model.trainable_variables]
        self.variables = [variable for variable in trained if id(variable) not in fused_ids]
        self.variables += [v for technique in techniques for v in technique.trainable_variables]
        encoder_ids = {id(variable.value) for variable in model.encoder.trainable_variables}
        if settings.clip_part == "encoder" and not encoder_ids:
            raise ConfigError(
                "clip_part is 'encoder', but the encoder has no trainable weights",
                where="training.clip_part",
                fix="leave it out",
            )
        # Which of ``variables`` belong to the encoder.
        self._encoder_places = {
            place for place, variable in enumerate(self.variables) if id(variable) in encoder_ids
        }
        factors = self._rate_factors(trained)
        every = [*self.variables, *fused]
        optimizer.build(every, [factors[variable.ref()] for variable in every], fused)
        self.shard_variables: dict[int, list[tf.Variable]] = self._build_shards(factors)
        self._losses_of = self._loss_function()
        # AutoGraph would take seconds to translate code that has nothing for it to do.
        self._traced = tf.function(self._run, autograph=False)
        self.wants_stop = False
        self.wants_loss = True
        self.count = 1
        self.results: StepResults | None = None

    def run(self, iterator: Iterator[Any]) -> StepResults:
        """Trains ``count`` steps on the next batches of the iterator; a float of it is the loss."""
        staged = [t for t in self.techniques if overrides(type(t), "before_step")]
        step = int(self.step.numpy()) if staged else 0  # a GPU has to be asked for it
        self.results = StepResults(self._traced(iterator, *self._arguments(step)))
        return self.results

    def traced(self, iterator: Iterator[Any]) -> Any:
        """Returns the graph of the first step, a ``ConcreteFunction``; nothing is trained."""
        return self._traced.get_concrete_function(iterator, *self._arguments(0))

    def _arguments(self, step: int) -> tuple[Any, ...]:
        stages = tuple(technique.before_step(step) for technique in self.techniques)
        wants = tf.constant(float(self.wants_stop)), tf.constant(self.wants_loss)
        return stages, *wants, tf.constant(self.count)

    @property
    def outcome(self) -> StepResult | None:
        """``StepResult`` of the last step."""
        return None if self.results is None else self.results.read()[-1]

    def learning_rate(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the rate of the update behind ``step`` others, float32: as scheduled, by
        techniques.
        """

        def scheduled(step: tf.Tensor) -> tf.Tensor:
            return self.optimizer.learning_rate * self.schedule(step)

        rate_at = scheduled
        for technique in reversed(self.techniques):
            rate_at = functools.partial(technique.learning_rate, rate_at)
        return rate_at(step)

    @property
    def variables_to_save(self) -> list[tf.Variable]:
        """Everything a checkpoint holds: weights, objective state, slots, techniques, step."""
        variables = [v.value for v in self.model.variables]
        variables += self.optimizer.variables_to_save
        for technique in self.techniques:
            variables += technique.variables_to_save
        if self.loss_scale:
            variables += [self.loss_scale.scale, self.loss_scale.good_steps]
        return [*variables, self.step]

    def _rate_factors(self, trained: list[tf.Variable]) -> dict[Any, float]:
        """Factors of the learning rate by variable or shard, those of techniques 1."""
        parts = (self.model.encoder, self.model.head, self.model.objective)
        factors = self.optimizer.rates.of(trained_weights(*parts))
        by_variable = {variable.ref(): 1.0 for variable in self.variables}
        refs = [variable.ref() for variable in trained]
        by_variable |= zip(refs, factors[: len(refs)], strict=True)
        for table, factor in zip(self.tables, factors[len(refs) :], strict=True):
            by_variable |= {shard.ref(): factor for shard in table.shards.values()}
        return by_variable

    def _build_shards(self, factors: Mapping[Any, float]) -> dict[int, list[tf.Variable]]:
        """Shards and their slots by replica number; they belong into files of their own."""
        if not self.tables or self.fused_head is not None:
            numbers = self.tables[0].shards if self.tables else ()
            return {n: [table.shards[n] for table in self.tables] for n in numbers}
        if not self.model.objective.over_shards or self.techniques:
            unsuited: list[object] = [*self.techniques]
            if not self.model.objective.over_shards:
                unsuited.insert(0, self.model.objective)
            names = ", ".join(method_name(type(method)) for method in unsuited)
            raise ConfigError(
                f"{names} cannot train weights that are sharded over replicas",
                where="head.sharded",
                fix="leave it out, or use objective 'softmax' and no techniques",
            )
        self._shard_slots: dict[int, list[tf.Variable]] = {}
        variables = {}
        (table,) = self.tables
        for number, shard in table.shards.items():
            shard_optimizer = copy.copy(self.optimizer)
            shard_optimizer.slots = {}
            factor = [factors[shard.ref()]]
            build = functools.partial(shard_optimizer.build, [shard], factor)
            table.on_device_of(number, build)
            self._shard_slots[number] = shard_optimizer.slots[shard.ref()]
            variables[number] = [shard, *shard_optimizer.variables_to_save]
        return variables

    def _loss_function(self) -> Callable[..., tf.Tensor]:
        """Returns a function (batch, update_state=...) -> losses, the techniques in it."""
        groups_of: Any = self.model.groups_of_passes
        for technique in reversed(self.techniques):
            groups_of = functools.partial(technique.groups, groups_of)
        for technique in self.techniques:
            if technique.losses:
                return functools.partial(technique.losses, self.model, groups_of)
        return functools.partial(self.model.losses_of, groups_of=groups_of)

    def _run(
        self,
        iterator: Iterator[Any],
        _stages: tuple[Any, ...],
        stop: tf.Tensor,
        with_loss: tf.Tensor,
        count: tf.Tensor,
    ) -> tf.Tensor:
        # Another stage of a technique is another trace.
        if self.settings.steps_per_call == 1:
            return self._one_step(iterator, stop, with_loss)[None]

        def body(number: tf.Tensor, rows: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            last = tf.equal(number, count - 1)
            return number + 1, rows.write(number, self._one_step(iterator, stop, with_loss & last))

        start = tf.constant(0), tf.TensorArray(tf.float32, count, element_shape=[4])
        _, rows = tf.while_loop(
            lambda number, _: number < count, body, start, parallel_iterations=1
        )
        return rows.stack()

    def _one_step(
        self, iterator: Iterator[Any], stop: tf.Tensor, with_loss: tf.Tensor
    ) -> tf.Tensor:
        batches = [next(iterator) for _ in range(self.settings.accumulate)]
        sums = self.strategy.run(self._replica_step, args=(batches, stop, with_loss))
        asked = with_loss if self.fused_head is not None else tf.constant(True)
        sums = self.strategy.reduce("SUM", sums, axis=None)
        return tf.concat([sums, [tf.cast(asked, tf.float32)]], axis=0)

    def _replica_step(
        self, batches: Sequence[Mapping[str, Any]], stop: tf.Tensor, with_loss: tf.Tensor
    ) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        replicas = self.strategy.num_replicas_in_sync
        rows = self.settings.batch_size // self.settings.accumulate
        loss = tf.constant(0.0)
        total = None
        for number, batch in enumerate(batches):
            first = number * rows + context.replica_id_in_sync_group * (rows // replicas)
            # One after the other: side by side they would need all their memory at once.
            with (
                tf.control_dependencies([loss]),
                step_scope(self.step, first),
                compiled_encoders(self.settings.compile_encoder),
            ):
                part, gradients = self._computation(with_loss)(batch)
            loss += part
            total = gradients if total is None else list(map(add, total, gradients))
        assert total is not None, "there is a batch"
        healthy = self._update(context, total)
        return tf.stack([loss, 1 - tf.cast(healthy, tf.float32), stop])

    def _computation(self, with_loss: tf.Tensor) -> Callable[..., tuple[tf.Tensor, list[Any]]]:
        """Returns a function of a micro-batch -> (loss, gradients), the techniques around it."""
        compute: Callable[..., Any] = _Passes(functools.partial(self._gradients, with_loss))
        for technique in reversed(self.techniques):
            compute = functools.partial(technique.gradients, compute)
        return compute

    def _gradients(
        self, with_loss: tf.Tensor, batch: Mapping[str, Any], update_state: bool
    ) -> tuple[tf.Tensor, list[Any]]:
        if self.fused_head is not None:
            with examples_of(batch):
                rate = self.learning_rate(self.step)
                return self.fused_head.gradients(batch, self.variables, rate, with_loss)
        scale_by = self.loss_scale.scale if self.loss_scale else 1.0
        variables = [*self.variables, *(table.shards[_number()] for table in self.tables)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            with examples_of(batch):
                losses = self._losses_of(batch, update_state=update_state)
            loss = tf.reduce_sum(losses) / self.settings.batch_size
            scaled = loss * scale_by
        return loss, tape.gradient(scaled, variables)

    def _update(self, context: tf.distribute.ReplicaContext, gradients: Sequence[Any]) -> tf.Tensor:
        mirrored = gradients[: len(self.variables)]
        extra = gradients[len(self.variables) :]
        of_shard, of_vectors = ([], extra) if self.fused_head else (extra, [])
        used = [i for i, g in enumerate(mirrored) if g is not None]
        summed = [mirrored[i] for i in used]
        if summed and self.strategy.num_replicas_in_sync > 1:  # all weights may be in shards
            summed = context.all_reduce("SUM", summed)
        gpu = on_gpu(self.step)
        summed = [sum_repeated_rows(g, gpu) for g in (*summed, *of_shard)]
        if self.loss_scale:
            summed = [scale(g, 1 / self.loss_scale.scale) for g in summed]
        # Vectors are those of a replica's own examples.
        norm = self._norm(context, summed[: len(used)], [*summed[len(used) :], *of_vectors])
        finite = tf.math.is_finite(norm)
        # Where a loss is scaled, it is the scale that may be too large; a tiny one is not.
        healthy = finite | (self.loss_scale.scale > MIN_SCALE) if self.loss_scale else finite
        limit = self.settings.clip_norm
        if limit:
            clipped = list(range(len(summed)))
            if self.settings.clip_part == "encoder":
                clipped = [n for n, index in enumerate(used) if index in self._encoder_places]
                norm = global_norm([summed[n] for n in clipped])
            factor = limit / tf.maximum(norm, limit)
            summed = [scale(g, factor) if n in clipped else g for n, g in enumerate(summed)]
        for gradient in summed[len(used) :]:
            self._update_shard(gradient, finite)
        context.merge_call(self._apply, args=(used, summed[: len(used)], finite))
        return healthy

    def _norm(
        self,
        context: tf.distribute.ReplicaContext,
        mirrored: Sequence[Any],
        of_replica: Sequence[Any],
    ) -> tf.Tensor:
        """Returns euclidean norm of the whole gradient, the same on all replicas."""
        if not of_replica or self.strategy.num_replicas_in_sync == 1:
            return global_norm([*mirrored, *of_replica])
        of_shards = context.all_reduce("SUM", tf.square(global_norm(of_replica)))
        return tf.sqrt(tf.square(global_norm(mirrored)) + of_shards if mirrored else of_shards)

    def _update_shard(self, gradient: tf.Tensor | tf.IndexedSlices, finite: tf.Tensor) -> None:
        number = _number()
        rate = self.learning_rate(self.step)
        shard = self.tables[0].shards[number]
        slots = self._shard_slots[number]

        def update() -> tf.Tensor:
            self.optimizer.update(shard, gradient, slots, rate, self.step + 1)
            return tf.constant(True)

        tf.cond(finite, update, lambda: tf.constant(False))

    def _apply(
        self,
        strategy: tf.distribute.Strategy,
        used: list[int],
        gradients: list[Any],
        finite: tf.Tensor,
    ) -> None:
        rate = self.learning_rate(self.step)
        count = self.step + 1

        def update_all() -> tf.Tensor:
            for index, gradient in zip(used, gradients, strict=True):
                variable = self.variables[index]
                slots = self.optimizer.slots[variable.ref()]
                strategy.extended.update(
                    variable,
                    self.optimizer.update,
                    args=(gradient, slots, rate, count),
                    group=False,
                )
            return tf.constant(True)

        finite = strategy.experimental_local_results(finite)[0]
        tf.cond(finite, update_all, lambda: tf.constant(False))
        if self.loss_scale:
            self.loss_scale.adapt(strategy, finite)
        strategy.extended.update(self.step, lambda step: step.assign_add(1), group=False)


class LossScale:
    """Dynamic loss scale for float16: halved on overflow, doubled after 2,000 good steps."""

    def __init__(self, start: float = 2.0**15, period: int = 2000) -> None:
        self.scale = _counter(start, tf.float32)
        self.good_steps = _counter(0, tf.int64)
        self.period = period

    def adapt(self, strategy: tf.distribute.Strategy, finite: tf.Tensor) -> None:
        """Changes the scale after a step whose gradient was finite, or was not."""
        doubled = tf.logical_and(finite, self.good_steps + 1 >= self.period)
        new = tf.where(finite, tf.where(doubled, 2.0, 1.0), 0.5) * self.scale
        steps = tf.where(tf.logical_and(finite, ~doubled), self.good_steps + 1, 0)
        for variable, value in ((self.scale, new), (self.good_steps, steps)):
            strategy.extended.update(
                variable, lambda variable, value: variable.assign(value), (value,), group=False
            )


def check_calls(
    settings: "TrainingSettings",
    techniques: "Sequence[type[Technique]]",
    encoder: "Encoder | type[Encoder]",
    head: "Head | type[Head]",
) -> None:
    """Refuses what ``steps_per_call``, ``accumulate`` and ``compile_encoder`` cannot do.

    Args:
        settings: ``TrainingSettings``.
        techniques: list of their classes.
        encoder, head: they, or their classes.

    Raises:
        ConfigError: a technique acts between steps, there are replicas, the columns are those of a
            whole batch, or XLA cannot compile the encoder.
    """
    if head.reads_label_texts and settings.accumulate > 1:
        raise ConfigError(
            f"accumulate is {settings.accumulate}, but the columns of head 'label_text' are the "
            "labels of the whole batch",
            where="training.accumulate",
            fix="remove it; head.label_chunk saves the memory of label texts",
        )
    if settings.steps_per_call > 1 and settings.strategy != "none":
        # TensorFlow's collective operations of several replicas fail inside of a loop.
        raise ConfigError(
            f"training.strategy {settings.strategy!r} cannot train several steps in a call",
            where="training.steps_per_call",
            fix="leave it out, or train on one device",
        )
    for technique in techniques:
        hooked = any(overrides(technique, name) for name in ("before_step", "after_step"))
        if hooked and settings.steps_per_call > 1:
            called = technique.setting or f"technique {method_name(technique)}"
            raise ConfigError(
                f"there are {settings.steps_per_call} steps in a call, but {called} acts between "
                "steps",
                where="training.steps_per_call",
                fix=f"leave it out, or remove {technique.setting or 'the technique'}",
            )
    if settings.compile_encoder and not encoder.compilable:
        method = encoder if isinstance(encoder, type) else type(encoder)
        raise ConfigError(
            f"encoder {method_name(method)} cannot be compiled",
            where="training.compile_encoder",
            fix="leave it out, or choose encoder pretrained or transformer",
        )


def _number() -> int:
    return replica_number(tf.distribute.get_replica_context())


def _counter(start: float, dtype: tf.DType) -> tf.Variable:
    kind = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(start, dtype=dtype, trainable=False, aggregation=kind)


class _Passes:
    """Lets the state of the examples move in the first pass over a micro-batch only."""

    def __init__(self, gradients: Callable[..., Any]) -> None:
        self.gradients = gradients
        self.first = True

    def __call__(self, batch: Mapping[str, Any]) -> tuple[tf.Tensor, list[Any]]:
        first = self.first
        self.first = False
        return self.gradients(batch, first)
