"""The training loop: the only one, for every method and strategy."""

import contextlib
import math
import time

import numpy as np
import tensorflow as tf

from tfxc.data.augmenter import build_augmentation
from tfxc.data.pipeline import training_dataset
from tfxc.errors import ConfigError, NonFiniteLossError
from tfxc.training.checkpoints import Checkpoints
from tfxc.training.interrupts import Stopped, StopSignals
from tfxc.training.optimizers import get_optimizer
from tfxc.training.reporting import Reporter
from tfxc.training.schedules import get_schedule
from tfxc.training.step import TrainStep


class Trainer:
    """Trains a model and keeps everything needed to go on after a kill.

    Args:
        model: built ``XCModel``, made inside ``strategy.scope()``.
        source: training ``Source``.
        settings: ``TrainingSettings``.
        run: ``RunFolder``.
        seed: seed of the order of examples.
        strategy: a ``tf.distribute.Strategy``.
        techniques: list of ``Technique``s.
        evaluate: function () -> {metric: value} on the dev split, or None.

    Example:
        >>> Trainer(model, source, settings, run).fit()  # doctest: +SKIP
    """

    def __init__(
        self, model, source, settings, run, *, seed=0, strategy=None, techniques=(), evaluate=None
    ):
        self.model, self.source, self.settings, self.run = model, source, settings, run
        self.seed, self.evaluate = seed, evaluate
        self.strategy = strategy or tf.distribute.get_strategy()
        self.techniques = list(techniques)
        self.augmentation = build_augmentation(settings.augmentation, seed, source.image_shape)
        self.steps_per_epoch = source.num_examples / settings.batch_size
        self.total_steps = max(1, math.ceil(settings.epochs * self.steps_per_epoch))
        schedule = get_schedule(settings.schedule.section(), self.total_steps, self.steps_per_epoch)
        for technique in self.techniques:
            technique.begin(self.steps_per_epoch, self.total_steps)
        with self.strategy.scope():
            self.step_function = TrainStep(
                model,
                get_optimizer(settings.optimizer.section()),
                schedule,
                settings,
                self.strategy,
                self.techniques,
            )
            self._best = tf.Variable([-np.inf, 0.0, 0.0], dtype=tf.float64, trainable=False)
        kept = [*self.step_function.variables_to_save, self._best]
        shards = self.step_function.shard_variables
        count = self.strategy.num_replicas_in_sync if shards else 0
        self.checkpoints = Checkpoints(run / "checkpoints", kept, run.chief, shards, count)

    def fit(self):
        """Trains to the end, from the last checkpoint if there is one.

        Returns:
            Dict with steps, seconds of this call, last loss and the last dev metrics.

        Raises:
            Stopped: SIGTERM or Ctrl-C came; the state is saved.
            NonFiniteLossError: the loss became NaN or infinite.
        """
        self.checkpoints.restore()
        start = int(self.step_function.step.numpy())
        reporter = Reporter(self.run, start, self.total_steps, self.settings.batch_size)
        if start:
            reporter.say(f"resumed at step {start:,} of {self.total_steps:,}")
        finished = False
        try:
            with StopSignals() as signals:
                summary = self._train(start, reporter, signals)
            finished = True
        finally:
            reporter.close(failed=not finished)
            self.checkpoints.close()
        return summary

    def one_step(self):
        """Trains a single step and returns its loss; nothing is saved."""
        return float(self.step_function.run(iter(self._dataset(0))))

    def _train(self, start, reporter, signals):
        iterator = iter(self._dataset(start)) if start < self.total_steps else None
        clock, window = time.monotonic(), []
        began, results, step, loss = clock, {}, start, float("nan")
        stopped_early = self._patience_is_over()
        while step < self.total_steps and not stopped_early:
            self._begin_epoch(step)
            loss = float(self.step_function.run(iterator))
            step += 1
            self._check_finite(step, loss)
            for technique in self.techniques:
                technique.after_step(step)
            window.append(loss)
            reporter.advance(step, loss)
            if self._due(step, self.settings.log_every):
                clock = self._log(reporter, step, window, clock)
            if self.evaluate and self._due(step, self._evaluate_every):
                results, stopped_early = self._evaluate(reporter, step)
                clock = time.monotonic()
            if self._due(step, self._checkpoint_every) or stopped_early or signals.received:
                self.checkpoints.save(step)
            if signals.received and step < self.total_steps:
                raise Stopped(step, signals.received)
        return self._finish(reporter, step, loss, results, time.monotonic() - began)

    @property
    def _evaluate_every(self):
        return self.settings.evaluate_every or max(1, round(self.steps_per_epoch))

    @property
    def _checkpoint_every(self):
        return self.settings.checkpoint_every or max(1, round(self.steps_per_epoch))

    def _due(self, step, every):
        return step % every == 0 or step == self.total_steps

    def _dataset(self, start):
        def make(context=None):
            replicas = self.strategy.num_replicas_in_sync
            pipelines = context.num_input_pipelines if context else 1
            here = replicas // pipelines
            return training_dataset(
                self.source,
                batch_size=self.settings.batch_size,
                seed=self.seed,
                start_step=start,
                num_steps=self.total_steps - start,
                micro_batches=self.settings.accumulate,
                parts=replicas,
                first_part=here * (context.input_pipeline_id if context else 0),
                num_parts_here=here,
                augmentation=self.augmentation,
            )

        if not tf.distribute.has_strategy() and not _distributes(self.strategy):
            return make()
        return self.strategy.distribute_datasets_from_function(make)

    def _begin_epoch(self, step):
        epoch = int(step / self.steps_per_epoch)
        if step == 0 or epoch != int((step - 1) / self.steps_per_epoch):
            self.model.objective.on_epoch(epoch + 1, math.ceil(self.settings.epochs))

    def _check_finite(self, step, loss):
        if math.isfinite(loss):
            return
        batch = self.source.batch(self.seed, step - 1, self.settings.batch_size)
        ids = np.asarray(batch["example_index"])
        shown = ", ".join(map(str, ids[:20])) + (", ..." if len(ids) > 20 else "")
        raise NonFiniteLossError(
            f"the loss is {loss} at step {step}; examples of its batch: {shown}",
            where=self.run.path,
            fix="lower training.optimizer.learning_rate, set training.clip_norm=1, use "
            "precision float32, or look for extreme feature values in these examples; the last "
            "checkpoint is untouched",
        )

    def _log(self, reporter, step, window, clock):
        now = time.monotonic()
        rate = len(window) * self.settings.batch_size / max(now - clock, 1e-9)
        learning_rate = self.step_function.optimizer.learning_rate
        factor = float(self.step_function.schedule(tf.constant(step - 1)))
        figures = {
            "epoch": round(step / self.steps_per_epoch, 4),
            "loss": float(np.mean(window)),
            "learning_rate": learning_rate * factor,
            "examples_per_second": round(rate, 1),
            **self.model.objective.figures(),
        }
        reporter.figures(step, figures)
        window.clear()
        return now

    def _evaluate(self, reporter, step):
        with contextlib.ExitStack() as stack:
            for technique in self.techniques:
                stack.enter_context(technique.evaluation_weights())
            results = self.evaluate()
            improved = self._judge(results, step)
            if self.settings.keep == "best" and improved:
                self.run.save_weights(self.model)
        reporter.figures(step, {f"dev {name}": value for name, value in results.items()})
        shown = "  ".join(f"{name} {100 * value:.2f}" for name, value in _headline(results).items())
        mark = " *" if improved else ""
        reporter.say(f"step {step:,}, epoch {step / self.steps_per_epoch:.2f}: dev {shown}{mark}")
        return results, self._patience_is_over()

    def _judge(self, results, step):
        """Remembers the best value; ``_best`` holds value, step, evaluations without a rise."""
        stopping = self.settings.early_stopping
        metric = stopping.metric if stopping else next(iter(results))
        check_metric(metric, results)
        best, best_step, waited = self._best.numpy()
        least = stopping.min_delta if stopping else 0.0
        improved = results[metric] > best + least
        new = [results[metric], step, 0] if improved else [best, best_step, waited + 1]
        self._best.assign(new)
        return improved

    def _patience_is_over(self):
        stopping = self.settings.early_stopping
        return bool(stopping) and self._best.numpy()[2] >= stopping.patience

    def _finish(self, reporter, step, loss, results, seconds):
        with contextlib.ExitStack() as stack:
            for technique in self.techniques:
                stack.enter_context(technique.evaluation_weights())
            if self.settings.keep == "last" or not self.evaluate:
                self.run.save_weights(self.model)
        best, best_step, _ = self._best.numpy()
        summary = {
            "steps": step,
            "epochs": round(step / self.steps_per_epoch, 4),
            "loss": loss,
            "seconds": round(seconds, 1),
            "dev": results,
        }
        if math.isfinite(best):
            summary |= {"best": best, "best_step": int(best_step)}
        self.run.write_summary(summary)
        reporter.say(f"finished at step {step:,} after {seconds:,.0f} s")
        return summary


def _distributes(strategy):
    return strategy.num_replicas_in_sync > 1 or not isinstance(
        strategy, type(tf.distribute.get_strategy())
    )


def _headline(results):
    names = [name for name in results if name.startswith(("P@", "nDCG@"))]
    return {name: results[name] for name in names[:6] or list(results)[:3]}


def check_metric(metric, names):
    """Raises a ``ConfigError`` if early stopping asks for a metric that is not measured."""
    if metric not in names:
        raise ConfigError(
            f"there is no metric {metric!r}",
            where="training.early_stopping.metric",
            fix=f"choose one of: {', '.join(names)}",
        )
