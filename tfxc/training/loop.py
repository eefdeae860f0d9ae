"""The training loop: the only one, for every method and strategy."""

import contextlib
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfxc.core import registry
from tfxc.core.errors import NonFiniteLossError
from tfxc.core.interrupts import Stopped, StopSignals
from tfxc.data.sources.dataset import Share, copied_ahead, training_dataset
from tfxc.ops.distributed.devices import GPU
from tfxc.ops.gpu import has_gpu
from tfxc.ops.search.top_k import read_once
from tfxc.runs.writer import WEIGHTS
from tfxc.techniques.base import overrides
from tfxc.training.callbacks import Callbacks
from tfxc.training.checkpoints import Checkpoints
from tfxc.training.numerics import numerics, numerics_changes
from tfxc.training.optimization.optimizers import get_optimizer
from tfxc.training.optimization.schedules import get_schedule
from tfxc.training.per_example_state import check_checkpoint, check_examples
from tfxc.training.reporting import Losses, Reporter
from tfxc.training.step import TrainStep
from tfxc.training.strategies import check_same, from_all_workers, has_workers, lost_workers
from tfxc.training.watch import BestMetric

if TYPE_CHECKING:
    import keras

    from tfxc.core.settings import Config
    from tfxc.data.images.augmentation import Augmentation
    from tfxc.data.sources.base import Source
    from tfxc.model import XCModel
    from tfxc.runs.folder import RunFolder
    from tfxc.techniques.base import Technique
    from tfxc.training.evaluation import Evaluation
    from tfxc.training.step import StepResult

# Without training.log_every: steps between lines of metrics.jsonl, and how many there are at least.
_LOG_EVERY = 50
_LOGGED = 10


class Trainer:
    """Trains a model and keeps everything needed to resume after a kill.

    Args:
        model: built ``XCModel``, made inside ``strategy.scope()``.
        source: training ``Source``.
        config: ``Config``; its training, techniques and seed matter here.
        run: ``RunFolder``.
        strategy: a ``tf.distribute.Strategy``; None for one device.
        extra_techniques: list of ``Technique``s around those of the config.
        evaluation: ``Evaluation``, or None.
        data_fingerprint: dict of name -> hash of the data. A checkpoint of other data is refused,
            and so are workers with different data; None for no such check.
        end: epochs after which training ends, of those that schedule and techniques are made for;
            None trains them all.
        facts: what the summary says in addition.

    Raises:
        ConfigError: a technique's argument is wrong.
        DataError: the model keeps a state of each example, but not of as many as ``source`` has.

    Example:
        >>> Trainer(model, source, config, RunFolder("runs/mine")).fit()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: "XCModel",
        source: "Source",
        config: "Config",
        run: "RunFolder",
        *,
        strategy: tf.distribute.Strategy | None = None,
        extra_techniques: "Sequence[Technique]" = (),
        evaluation: "Evaluation | None" = None,
        data_fingerprint: Mapping[str, str] | None = None,
        end: float | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        check_examples(model.objective, source)
        self.model = model
        self.source = source
        self.config = config
        self.run = run
        self.settings = settings = config.training
        self.evaluation = evaluation
        self.dev_answers: list[tuple[int, list[int]]] = []
        self.data_fingerprint = data_fingerprint
        self.facts = facts or {}
        self.strategy = strategy or tf.distribute.get_strategy()
        self.techniques: list[Technique] = [
            *extra_techniques,
            *(
                registry.create("technique", method.section(), f"techniques.{method.name}")
                for method in config.techniques
            ),
        ]
        self._reordering = [t for t in self.techniques if overrides(type(t), "reorders")]
        self.augmentation: Augmentation | None = None
        if settings.augmentation or source.image_shape is not None:
            from tfxc.data.images.augmentation import build_augmentation

            self.augmentation = build_augmentation(
                settings.augmentation, config.seed, source.image_shape
            )
        self.steps_per_epoch = source.num_examples / settings.batch_size
        self.planned_steps = max(1, math.ceil(settings.epochs * self.steps_per_epoch))
        self.total_steps = self.planned_steps
        if end is not None:
            steps = math.ceil(end * self.steps_per_epoch - 1e-6)  # but for rounding
            self.total_steps = min(self.planned_steps, max(1, steps))
        schedule = get_schedule(
            settings.schedule.section(), self.planned_steps, self.steps_per_epoch
        )
        for technique in self.techniques:
            technique.on_train_begin(self.steps_per_epoch, self.planned_steps)
        with self.strategy.scope():
            self.step_function = TrainStep(
                model,
                get_optimizer(settings.optimizer.section()),
                schedule,
                settings,
                self.strategy,
                self.techniques,
            )
            measured = evaluation if evaluation is not None and evaluation.has_dev else None
            self.watch = BestMetric(settings, measured.metrics if measured else None)
        shards = self.step_function.shard_variables
        self.checkpoints = Checkpoints(
            run / "checkpoints",
            [*self.step_function.variables_to_save, self.watch.variable],
            run.chief,
            shards,
            count=self.strategy.num_replicas_in_sync if shards else 0,
            identity=data_fingerprint,
            strategy=self.strategy,
            keep=settings.keep_checkpoints,
        )
        self._refreshed: int | None = None  # the step at which the labels' vectors were made

    def check_resume(self, step: int | None = None) -> None:
        """Refuses checkpoints that do not fit this model or these data; nothing is written.

        Args:
            step: of the checkpoint to resume from; None for the newest intact one.

        Raises:
            CheckpointError: as ``fit``.
        """
        check_checkpoint(self.model.objective, self.checkpoints)
        self.checkpoints.restore(lambda line: None, step)

    def extended(self, epochs: float) -> str:
        """Returns what the command reports of a run that is extended.

        Args:
            epochs: of the run so far.
        """
        return (
            f"extended from {epochs:g} to {self.settings.epochs:g} epochs: schedule "
            f"{self.settings.schedule.name!r} is computed for {self.planned_steps:,} steps"
        )

    def fit(
        self,
        title: str = "training",
        remarks: Sequence[str] = (),
        callbacks: "Sequence[keras.callbacks.Callback]" = (),
    ) -> dict[str, Any]:
        """Trains to the end, from the newest intact checkpoint if there is one.

        Args:
            title: of the progress line.
            remarks: lines to report first.
            callbacks: Keras callbacks that watch the training, see ``training.callbacks``.

        Returns:
            Dict with steps, seconds of this training before and after interruptions, last loss,
            the last metrics of the dev split and of the slice of the training split, and those of
            the test split at the best step.

        Raises:
            Stopped: SIGTERM or Ctrl-C came, here or at another worker; the state is saved.
            NonFiniteLossError: the loss, the gradient or the weights became NaN or infinite.
            CheckpointError: the last checkpoint is of another model or another training set, or
                all of them are damaged.
            ConfigError: the workers have different data, or a callback changes the training.
            DataError: the data cannot be read.
            MachineError: another worker has ended.
        """
        sizes = self.settings.epochs, self.source.num_examples, self.settings.batch_size
        self._callbacks = Callbacks(callbacks, self.model, *sizes)
        with _source_errors(self.source), lost_workers(self.strategy):
            return self._fit(title, list(remarks))

    def _fit(self, title: str, remarks: list[str]) -> dict[str, Any]:
        if self.data_fingerprint is not None:
            check_same(self.strategy, self.data_fingerprint, "data")
        check_checkpoint(self.model.objective, self.checkpoints)
        self.checkpoints.restore(remarks.append)
        if self.settings.keep == "best" and not (self.run / WEIGHTS).exists():
            self.watch.forget()  # they went with the steps after this one
        start = int(self.step_function.step.numpy())
        reporter = Reporter(self.run, start, self.total_steps, self.settings.batch_size, title)
        if start:
            remarks.append(f"resumed at step {start:,} of {self.total_steps:,}")
            changes = numerics_changes(self.checkpoints.progress.get("arithmetic"))
            remarks += [changes] if changes else []
            if self.watch.patience_is_over and start < self.total_steps:
                remarks.append("early stopping has ended the training here: more epochs add none")
        elif remarks:
            remarks.append("starting from step 0")
        finished = False
        try:
            for remark in remarks:
                reporter.log(remark)
            reporter.track(self.config, start)
            with StopSignals() as signals:
                summary = self._train(start, reporter, signals)
            finished = True
        finally:
            reporter.close(failed=not finished)
            self.checkpoints.close()
        return summary

    def one_step(self) -> float:
        """Trains a single step and returns its loss; nothing is saved."""
        with _source_errors(self.source):
            return float(self.step_function.run(iter(self.batches())))

    def batches(self, start: int = 0) -> tf.data.Dataset:
        """Returns the batches of training from step ``start`` on, for ``step_function``.

        Returns:
            The result of ``data.sources.dataset.training_dataset``, over replicas a distributed
            dataset.

        Example:
            >>> trainer.step_function.run(iter(trainer.batches()))  # doctest: +SKIP
        """

        def make(context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
            replicas = self.strategy.num_replicas_in_sync
            pipelines = context.num_input_pipelines if context else 1
            here = replicas // pipelines
            return training_dataset(
                self.source,
                batch_size=self.settings.batch_size,
                seed=self.config.seed,
                start_step=start,
                num_steps=self.total_steps - start,
                micro_batches=self.settings.accumulate,
                share=Share(replicas, here * (context.input_pipeline_id if context else 0), here),
                augmentation=self.augmentation,
            )

        is_default = isinstance(self.strategy, type(tf.distribute.get_strategy()))
        distributes = self.strategy.num_replicas_in_sync > 1 or not is_default
        if not tf.distribute.has_strategy() and not distributes:
            return copied_ahead(make(), GPU) if has_gpu() else make()
        return self.strategy.distribute_datasets_from_function(make)

    def _train(self, start: int, reporter: Reporter, signals: StopSignals) -> dict[str, Any]:
        iterator: Iterator[Any] | None = None
        before = self.checkpoints.progress
        results: dict[str, dict[str, Any]] = {}
        step = start
        clock = time.monotonic()
        began = clock - before.get("seconds", 0.0)
        losses = Losses(before.get("loss"))
        self.dev_answers = before.get("dev_answers", [])
        stopped_early = self.watch.patience_is_over
        stopped_by = None
        self._callbacks.begin()
        while step < self.total_steps and not stopped_early:
            if self._begins_epoch(step):
                epoch = self._epoch(step) + 1
                self.model.objective.on_epoch(epoch, math.ceil(self.settings.epochs))
            self._callbacks.before(step)
            if iterator is not None and self._reordering and self._begins_epoch(step):
                self._read(step, losses, reporter)  # while the batches behind them are known
            reorders = [technique.reorders(step) for technique in self._reordering]
            if iterator is None or any(reorders):
                iterator = iter(self.batches(step))
            step = self._call(iterator, step, losses, signals)
            stopped_by = signals.received
            if has_workers(self.strategy):  # all stop at the same step
                outcome = self.step_function.outcome
                assert outcome is not None, "a step is done"
                stops = outcome.stops
                stopped_by = (stopped_by or signal.SIGTERM) if stops else None
            if stopped_by or self._looks_at(step) or losses.are_old or has_workers(self.strategy):
                self._read(step, losses, reporter)
            if self._logs(step):
                clock = self._log(reporter, step, losses, clock)
            evaluates = self._evaluates and self._due(step, self.settings.evaluate_every)
            saves = self._due(step, self.settings.checkpoint_every)
            if evaluates or saves or stopped_by:
                self._check_weights(step)
            if evaluates:
                results = self._evaluate(reporter, step)
                stopped_early = self.watch.patience_is_over
                clock = time.monotonic()
            self._callbacks.after(step, losses.last, results.get("dev", {}))
            if saves or stopped_early or stopped_by:
                self.checkpoints.save(step, self._progress(losses.last, began))
            if stopped_by and step < self.total_steps:
                self._wait_for_chief()
                raise Stopped(step, stopped_by)
        self._callbacks.end()
        return self._finish(reporter, step, losses.last, results, time.monotonic() - began)

    def _call(
        self, iterator: Iterator[Any], step: int, losses: Losses, signals: StopSignals
    ) -> int:
        """Trains the steps of one call behind ``step``; returns the number of the last one."""
        function = self.step_function
        most = min(self.settings.steps_per_call, self.total_steps - step)
        # Until something is due, or a call is full.
        ends = (
            n for n in range(1, most) if self._looks_at(step + n) or self._begins_epoch(step + n)
        )
        function.count = next(ends, most)
        step += function.count
        function.wants_stop = signals.received is not None
        function.wants_loss = losses.last is None or self._logs(step)
        losses.add(function.run(iterator))
        for technique in self.techniques:
            technique.after_step(step)
        return step

    def _looks_at(self, step: int) -> bool:
        """Tells whether somebody wants to know of this step, or keeps what it has led to.

        Elsewhere the device is not asked: a GPU would have to finish before it is given more.
        """
        evaluates = self._evaluates and self._due(step, self.settings.evaluate_every)
        saves = self._due(step, self.settings.checkpoint_every)
        return self._logs(step) or evaluates or saves or bool(self._callbacks)

    def _read(self, step: int, losses: Losses, reporter: Reporter) -> None:
        """Reads the losses of the steps up to this one; nothing is saved before."""
        results = list(losses.read())
        for number, result in enumerate(results, step - len(results) + 1):
            self._check_finite(number, result)
        reporter.advance(step, losses.last, len(results))

    def _progress(self, loss: float | None, began: float) -> dict[str, Any]:
        """Returns what a resumed training run needs in addition to the variables."""
        weights = None  # where in the checkpoint those are that the model is judged by
        if not self.step_function.shard_variables:
            variables = self.step_function.variables_to_save
            places = {id(variable): place for place, variable in enumerate(variables)}
            lent = {id(w): average for t in self.techniques for w, average in t.lent_weights()}
            values = [variable.value for variable in self.model.variables]
            weights = [places[id(lent.get(id(value), value))] for value in values]
        return {
            "loss": loss,
            "seconds": time.monotonic() - began,
            "arithmetic": numerics(),
            "best_step": int(self.watch.variable.numpy()[1]),
            "dev_answers": self.dev_answers,
            "weights": weights,
        }

    def _wait_for_chief(self) -> None:
        """Waits until every worker has come here: what the chief wrote before is written."""
        from_all_workers(self.strategy, [1.0])

    @property
    def _evaluates(self) -> bool:
        return self.evaluation is not None and self.evaluation.has_any

    def _logs(self, step: int) -> bool:
        """Tells whether loss and speed are logged: a short training shows its course as well."""
        if self.settings.log_every is not None:
            return self._due(step, self.settings.log_every)
        return step == 1 or self._due(step, min(_LOG_EVERY, max(1, self.total_steps // _LOGGED)))

    def _due(self, step: int, every: int | None) -> bool:
        """Tells whether something is due after a step, of every so many; None: where an epoch
        ends.
        """
        if step == self.total_steps:
            return True
        return self._begins_epoch(step) if every is None else step % every == 0

    def _begins_epoch(self, step: int) -> bool:
        """Tells whether the step after this many is the first of an epoch."""
        return step == 0 or self._epoch(step) != self._epoch(step - 1)

    def _epoch(self, step: int) -> int:
        return step * self.settings.batch_size // self.source.num_examples

    def _check_finite(self, step: int, result: "StepResult") -> None:
        if result.finite:
            return
        if result.loss is None:
            what = "the gradient is not finite"
        elif math.isfinite(result.loss):
            what = f"the gradient is not finite, with a loss of {result.loss:.4g},"
        else:
            what = f"the loss is {result.loss}"
        batch = self.source.batch(self.config.seed, step - 1, self.settings.batch_size)
        ids = np.asarray(batch["example_index"])
        shown = ", ".join(map(str, ids[:20])) + (", ..." if len(ids) > 20 else "")
        raise NonFiniteLossError(
            f"{what} at step {step}; examples of its batch: {shown}",
            where=self.run.path,
            fix="lower training.optimizer.learning_rate, set training.clip_norm=1, use "
            "precision float32, or look for extreme feature values in these examples; the last "
            "checkpoint is untouched",
        )

    def _check_weights(self, step: int) -> None:
        """Refuses weights that are not finite, before they are measured or saved.

        An update of finite gradients may overflow or divide by 0, and a loss shows that only if its
        batch reads such a weight. One pass over all weights is little next to writing them.
        """
        parts = (self.model.encoder, self.model.head)
        weights = [(v.path, v.value) for part in parts for v in part.variables]
        for table in self.model.head.sharded_tables:
            weights += [(f"shard {number} of the head", v) for number, v in table.shards.items()]
        wrong = []
        for name, weight in weights:
            replica = self.strategy.experimental_local_results(weight)[0]
            # A sum of all numbers needs no memory, unlike a look at each.
            if replica.dtype.is_floating and not math.isfinite(
                float(tf.reduce_sum(read_once(replica)))
            ):
                wrong.append(name)
        if wrong:
            raise NonFiniteLossError(
                f"after step {step:,} there are weights that are not finite: {', '.join(wrong)}",
                where=self.run.path,
                fix="lower training.optimizer.learning_rate, or raise training.optimizer.epsilon; "
                "the last checkpoint is untouched",
            )

    def _log(self, reporter: Reporter, step: int, losses: Losses, clock: float) -> float:
        now = time.monotonic()
        count, loss = losses.take()
        rate = count * self.settings.batch_size / max(now - clock, 1e-9)
        learning_rate = self.step_function.learning_rate(tf.constant(step - 1, tf.int64))
        values = {
            "epoch": round(step / self.steps_per_epoch, 4),
            "loss": loss,
            "learning_rate": float(str(learning_rate.numpy())),  # not the digits of float32
            "examples_per_second": round(rate, 1),
            **self.model.objective.logged_metrics(),
        }
        reporter.metrics(step, values)
        return now

    def _evaluate(self, reporter: Reporter, step: int) -> dict[str, dict[str, Any]]:
        """Measures the splits; returns ``{split: results}``."""
        assert self.evaluation is not None, "it evaluates"
        with self._evaluation_weights():
            self._refresh(step)
            results = {"dev": self.evaluation.of_dev(), "train": self.evaluation.of_training()}
            improved = bool(results["dev"]) and self.watch.improved(results["dev"], step)
            if has_workers(self.strategy):
                # The chief decides: another machine may round differently.
                measured = [float(improved), *self.watch.variable.numpy()]
                chief_improved, *best = from_all_workers(self.strategy, measured)[0]
                improved = bool(chief_improved)
                self.watch.variable.assign(best)
            if self.settings.keep == "best" and improved:
                self.run.save_weights(self.model)
            if self.settings.keep == "last" or improved:
                self.dev_answers = self.evaluation.dev_answers
            if self.config.evaluation.test_on_improvement and improved:
                results["test"] = self.evaluation.of_test()
        epoch = step / self.steps_per_epoch
        reporter.results(step, epoch, results, improved, self.watch.metric)
        return results

    def _refresh(self, step: int) -> None:
        """Brings what the model keeps of the labels' texts up to date, once at a step."""
        if self._refreshed != step:
            self.model.refresh()
            self._refreshed = step

    @contextlib.contextmanager
    def _evaluation_weights(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for technique in self.techniques:
                stack.enter_context(technique.evaluation_weights())
            yield

    def _finish(
        self,
        reporter: Reporter,
        step: int,
        loss: float | None,
        results: Mapping[str, dict[str, Any]],
        seconds: float,
    ) -> dict[str, Any]:
        # All workers save together, so they agree on whether weights are missing: those of the
        # best step are where a run was killed while it was taken back to an earlier checkpoint.
        missing = from_all_workers(self.strategy, [not (self.run / WEIGHTS).exists()]).any()
        with self._evaluation_weights():
            self._refresh(step)
            if self.settings.keep == "last" or self.watch.metric is None or missing:
                self.run.save_weights(self.model)
        # Those of the kept weights, perhaps measured before a kill: it is the log that knows.
        best = self.watch.summary().get("best_step", step)
        kept_step = step if self.settings.keep == "last" else best
        results = {
            split: reporter.recorded(kept_step, split) or results.get(split, {})
            for split in ("dev", "train")
        }
        summary = {
            "steps": step,
            "epochs": round(step / self.steps_per_epoch, 4),
            "loss": loss,
            "seconds": round(seconds, 1),
            "dev": results.get("dev") or {},
            **self.watch.summary(),
        }
        if self.evaluation is not None and self.evaluation.has_dev:
            summary["dev_examples"] = self.evaluation.dev_examples
        if results.get("train"):
            summary["train"] = results["train"]
        tested = reporter.recorded(summary.get("best_step"), "test")
        if tested:
            summary["test"] = tested
        summary = self.run.write_summary({**summary, **self.facts})
        self._wait_for_chief()
        self.checkpoints.finish(step)
        remark = self.model.objective.final_message()
        if remark:
            reporter.log(remark)
        reporter.log(f"finished at step {step:,} after {seconds:,.0f} s")
        return summary


@contextlib.contextmanager
def _source_errors(source: "Source") -> Iterator[None]:
    """Raises the error that stopped the input pipeline instead of TensorFlow's report of it."""
    try:
        yield
    except tf.errors.OpError as error:
        if source.failure is None:
            raise
        raise source.failure from error
