"""One weight update, under any strategy."""

import tensorflow as tf

from tfxc.ops.randomness import step_scope
from tfxc.training.gradients import global_norm, scale, sum_repeated_rows


class TrainStep:
    """Computes gradients, sums them over micro-batches and replicas, clips, updates.

    The loss is the mean over the global batch, so the result does not depend on how the batch is
    shared out.

    Args:
        model: an ``XCModel``.
        optimizer: from ``training.optimizers``.
        schedule: from ``training.schedules``.
        settings: ``TrainingSettings``.
        strategy: a ``tf.distribute.Strategy``; build this inside its scope.
        techniques: list of ``Technique``s, the first outermost.
    """

    def __init__(self, model, optimizer, schedule, settings, strategy, techniques=()):
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.settings, self.strategy, self.techniques = settings, strategy, techniques
        self.step = _counter(0, tf.int64)
        self.loss_scale = LossScale() if settings.precision == "mixed_float16" else None
        self.variables = [v.value for v in model.trainable_variables]
        optimizer.build(self.variables)
        for technique in techniques:
            technique.build(model, strategy)
        self._compute = self._gradients
        for technique in reversed(techniques):
            self._compute = _wrapped(technique, self._compute)
        self.run = tf.function(self._run)

    @property
    def variables_to_save(self):
        """Everything a checkpoint holds: weights, objective state, slots, techniques, step."""
        kept = [v.value for v in self.model.variables]
        kept += self.optimizer.variables_to_save
        for technique in self.techniques:
            kept += technique.variables_to_save
        if self.loss_scale:
            kept += [self.loss_scale.scale, self.loss_scale.good_steps]
        return [*kept, self.step]

    def _run(self, iterator):
        batches = [next(iterator) for _ in range(self.settings.accumulate)]
        losses = self.strategy.run(self._replica_step, args=(batches,))
        return self.strategy.reduce("SUM", losses, axis=None)

    def _replica_step(self, batches):
        context = tf.distribute.get_replica_context()
        replicas = self.strategy.num_replicas_in_sync
        rows = self.settings.batch_size // self.settings.accumulate
        loss, total = tf.constant(0.0), None
        for number, batch in enumerate(batches):
            first = number * rows + context.replica_id_in_sync_group * (rows // replicas)
            # One after the other: side by side they would need all their memory at once.
            with tf.control_dependencies([loss]), step_scope(self.step, first):
                part, gradients = self._compute(batch)
            loss += part
            total = gradients if total is None else list(map(_add, total, gradients))
        self._update(context, total)
        return loss

    def _gradients(self, batch):
        scale_by = self.loss_scale.scale if self.loss_scale else 1.0
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.variables)
            losses = self.model.losses_of(batch)
            loss = tf.reduce_sum(losses) / self.settings.batch_size
            scaled = loss * scale_by
        return loss, tape.gradient(scaled, self.variables)

    def _update(self, context, gradients):
        used = [i for i, g in enumerate(gradients) if g is not None]
        summed = [gradients[i] for i in used]
        if self.strategy.num_replicas_in_sync > 1:
            summed = context.all_reduce("SUM", summed)
        summed = [sum_repeated_rows(g) for g in summed]
        if self.loss_scale:
            summed = [scale(g, 1 / self.loss_scale.scale) for g in summed]
        norm = global_norm(summed)
        if self.settings.clip_norm:
            factor = self.settings.clip_norm / tf.maximum(norm, self.settings.clip_norm)
            summed = [scale(g, factor) for g in summed]
        context.merge_call(self._apply, args=(used, summed, norm))

    def _apply(self, strategy, used, gradients, norm):
        rate = self.optimizer.learning_rate * self.schedule(self.step)
        count = self.step + 1

        def update_all():
            for index, gradient in zip(used, gradients, strict=True):
                variable = self.variables[index]
                slots = self.optimizer.slots[variable.ref()]
                strategy.extended.update(
                    variable,
                    self.optimizer.update,
                    args=(gradient, slots, rate, count),
                    group=False,
                )

        if self.loss_scale:
            self.loss_scale.guard(strategy, norm, update_all)
        else:
            update_all()
        strategy.extended.update(self.step, lambda step: step.assign_add(1), group=False)


class LossScale:
    """Dynamic loss scale for float16: halved on overflow, doubled after 2,000 good steps."""

    def __init__(self, start=2.0**15, period=2000):
        self.scale = _counter(start, tf.float32)
        self.good_steps = _counter(0, tf.int64)
        self.period = period

    def guard(self, strategy, norm, update_all):
        """Runs ``update_all`` if the gradient's norm is finite; adapts the scale either way."""
        norm = strategy.experimental_local_results(norm)[0]
        finite = tf.math.is_finite(norm)

        def good():
            update_all()
            return tf.constant(True)

        tf.cond(finite, good, lambda: tf.constant(False))
        grown = tf.logical_and(finite, self.good_steps + 1 >= self.period)
        new = tf.where(finite, tf.where(grown, 2.0, 1.0), 0.5) * self.scale
        steps = tf.where(tf.logical_and(finite, ~grown), self.good_steps + 1, 0)
        for variable, value in ((self.scale, new), (self.good_steps, steps)):
            strategy.extended.update(variable, _assign, args=(value,), group=False)


def _assign(variable, value):
    variable.assign(value)


def _counter(start, dtype):
    kind = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(start, dtype=dtype, trainable=False, aggregation=kind)


def _wrapped(technique, compute):
    return lambda batch: technique.gradients(compute, batch)


def _add(one, other):
    """Sum of two gradients; rows are only listed one after the other, and summed up later."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, tf.IndexedSlices) and isinstance(other, tf.IndexedSlices):
        values = tf.concat([one.values, other.values], axis=0)
        indices = tf.concat([one.indices, other.indices], axis=0)
        return tf.IndexedSlices(values, indices, one.dense_shape)
    return tf.convert_to_tensor(one) + tf.convert_to_tensor(other)
