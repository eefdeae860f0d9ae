"""The training loop: the only one, for every method and strategy."""

import contextlib
import math
import time

import numpy as np
import tensorflow as tf

from tfxc.data.augmenter import build_augmentation
from tfxc.data.pipeline import training_dataset
from tfxc.errors import NonFiniteLossError
from tfxc.training.arithmetic import changes_of_arithmetic, record_arithmetic
from tfxc.training.checkpoints import Checkpoints
from tfxc.training.example_state import check_checkpoint, check_examples, explained
from tfxc.training.interrupts import Stopped, StopSignals
from tfxc.training.optimizers import get_optimizer
from tfxc.training.reporting import Reporter
from tfxc.training.schedules import get_schedule
from tfxc.training.step import TrainStep
from tfxc.training.watch import Watch


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
        evaluation: ``Evaluation``, or None.
        test_on_improvement: measure the test split whenever the dev split has a new best.
        title: of the progress line.

    Raises:
        DataError: the model keeps a state of each example, but not of as many as ``source`` has.

    Example:
        >>> Trainer(model, source, settings, run).fit()  # doctest: +SKIP
    """

    def __init__(
        self, model, source, settings, run, *, seed=0, strategy=None, techniques=(),
        evaluation=None, test_on_improvement=False, title="training",
    ):  # fmt: skip
        check_examples(model.objective, source)
        self.model, self.source, self.settings, self.run = model, source, settings, run
        self.seed, self.evaluation = seed, evaluation
        self.test_on_improvement, self.title = test_on_improvement, title
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
            has_dev = evaluation is not None and evaluation.has_dev
            self.watch = Watch(settings, evaluation.metrics if has_dev else None)
        kept = [*self.step_function.variables_to_save, self.watch.variable]
        shards = self.step_function.shard_variables
        count = self.strategy.num_replicas_in_sync if shards else 0
        self.checkpoints = Checkpoints(run / "checkpoints", kept, run.chief, shards, count)

    def fit(self):
        """Trains to the end, from the last checkpoint if there is one.

        Returns:
            Dict with steps, seconds of this call, last loss, the last metrics of the dev split and
            of the slice of the training split, and those of the test split at the best step.

        Raises:
            Stopped: SIGTERM or Ctrl-C came; the state is saved.
            NonFiniteLossError: the loss became NaN or infinite.
            CheckpointError: the last checkpoint is of another model or another training set.
        """
        check_checkpoint(self.model.objective, self.checkpoints)
        self.checkpoints.restore()
        start = int(self.step_function.step.numpy())
        sizes = (start, self.total_steps, self.settings.batch_size)
        reporter = Reporter(self.run, *sizes, self.title)
        if start:
            reporter.say(f"resumed at step {start:,} of {self.total_steps:,}")
            changes = changes_of_arithmetic(self.checkpoints.folder)
            if changes:
                reporter.say(changes)
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
        return float(self.step_function.run(iter(self.batches())))

    def batches(self, start=0):
        """Batches of the training from step ``start`` on, for ``step_function``.

        Returns:
            What ``data.pipeline.training_dataset`` gives, over replicas a distributed dataset.

        Example:
            >>> trainer.step_function.run(iter(trainer.batches()))  # doctest: +SKIP
        """

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

    def _train(self, start, reporter, signals):
        iterator = iter(self.batches(start)) if start < self.total_steps else None
        clock, window = time.monotonic(), []
        began, results, step, loss = clock, {}, start, float("nan")
        stopped_early = self.watch.patience_is_over
        while step < self.total_steps and not stopped_early:
            self._begin_epoch(step)
            with explained(self.model.objective):
                loss = float(self.step_function.run(iterator))
            step += 1
            self._check_finite(step, loss)
            for technique in self.techniques:
                technique.after_step(step)
            window.append(loss)
            reporter.advance(step, loss)
            if self._due(step, self.settings.log_every):
                clock = self._log(reporter, step, window, clock)
            if self._evaluates and self._due(step, self._evaluate_every):
                results = self._evaluate(reporter, step)
                stopped_early = self.watch.patience_is_over
                clock = time.monotonic()
            if self._due(step, self._checkpoint_every) or stopped_early or signals.received:
                self.checkpoints.save(step)
                if self.run.chief:
                    record_arithmetic(self.checkpoints.folder)
            if signals.received and step < self.total_steps:
                raise Stopped(step, signals.received)
        return self._finish(reporter, step, loss, results, time.monotonic() - began)

    @property
    def _evaluates(self):
        return self.evaluation is not None and self.evaluation.has_any

    @property
    def _evaluate_every(self):
        return self.settings.evaluate_every or max(1, round(self.steps_per_epoch))

    @property
    def _checkpoint_every(self):
        return self.settings.checkpoint_every or max(1, round(self.steps_per_epoch))

    def _due(self, step, every):
        return step % every == 0 or step == self.total_steps

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
        """Measures the splits; returns ``{split: results}``."""
        with self._evaluation_weights():
            results = {"dev": self.evaluation.of_dev(), "train": self.evaluation.of_training()}
            improved = bool(results["dev"]) and self.watch.improved(results["dev"], step)
            if self.settings.keep == "best" and improved:
                self.run.save_weights(self.model)
            if self.test_on_improvement and improved:
                results["test"] = self.evaluation.of_test()
        reporter.results(step, step / self.steps_per_epoch, results, improved)
        return results

    @contextlib.contextmanager
    def _evaluation_weights(self):
        with contextlib.ExitStack() as stack:
            for technique in self.techniques:
                stack.enter_context(technique.evaluation_weights())
            yield

    def _finish(self, reporter, step, loss, results, seconds):
        with self._evaluation_weights():
            if self.settings.keep == "last" or self.watch.metric is None:
                self.run.save_weights(self.model)
        # What was measured before a kill is known to the log.
        results = results or {split: reporter.recorded(step, split) for split in ("dev", "train")}
        summary = {
            "steps": step,
            "epochs": round(step / self.steps_per_epoch, 4),
            "loss": loss,
            "seconds": round(seconds, 1),
            "dev": results.get("dev") or {},
            **self.watch.summary(),
        }
        if results.get("train"):
            summary["train"] = results["train"]
        tested = reporter.recorded(summary.get("best_step"), "test")
        if tested:  # perhaps before a kill: it is the log that knows
            summary["test"] = tested
        self.run.write_summary(summary)
        remark = self.model.objective.remark()
        if remark:
            reporter.say(remark)
        reporter.say(f"finished at step {step:,} after {seconds:,.0f} s")
        return summary


def _distributes(strategy):
    return strategy.num_replicas_in_sync > 1 or not isinstance(
        strategy, type(tf.distribute.get_strategy())
    )
