"""One training from a config and prepared data: the piece every recipe is built from."""

import sys

import tensorflow as tf

from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.core.locks import scratch_folder
from tfxc.data.manifest import Manifest
from tfxc.data.sources.shards import open_source
from tfxc.model import build_model
from tfxc.runs.folder import RunFolder
from tfxc.training.evaluation import Evaluation
from tfxc.training.label_codes import decided_codes
from tfxc.training.loop import Trainer
from tfxc.training.strategies import is_chief, make_strategy


def train_model(
    config, data_folder, run_path, *, repetition=None, fold=None, whole=None, fresh=False,
    fresh_whole=False, further=(), begun=None, start=None, decided=None, measured=True,
    title="training", source=None,
):  # fmt: skip
    """Trains one model into one run folder, or goes on with a stopped training.

    Nothing is written before the model is built: a config that cannot be leaves no run behind.

    Args:
        config: ``Config``.
        data_folder: prepared records.
        run_path: run folder.
        repetition: number of the repetition this model is, or None for the whole model.
        fold: ``data.folds.Fold`` of the training split that takes the place of the dev split and is
            not trained on.
        whole: folder of the run that the repetition or fold is a part of; begun as well, so that
            what reads it finds config and assets.
        fresh: remove an earlier run in ``run_path``.
        fresh_whole: remove an earlier run in ``whole``, with all its parts.
        further: techniques besides those of the config.
        begun: called with the ``RunFolder`` before the first step.
        start: ``RunFolder`` whose weights, and whose encoder's shape, the model begins with; or
            what else has its ``architecture()`` and ``load_weights(model)``.
        decided: arguments of ``build_model`` in place of those that ``decided_codes`` finds.
        measured: whether the dev split is measured; not where the model finds something else than
            labels.
        title: of the progress line.
        source: the training split where it is open already.

    Returns:
        The run's summary, see ``Trainer.fit``.

    Raises:
        CheckpointError: another process is writing into the run, or it is of another config, or
            of other data.
    """
    run = RunFolder(run_path, is_chief())
    with run.locked():
        strategy = make_strategy(config.training, config)  # before anything else of TensorFlow
        manifest = Manifest.load(data_folder)
        if whole:
            RunFolder(whole, run.chief).check(config, fresh_whole)
            RunFolder(whole, run.chief).check_data(data_folder, fresh=fresh_whole)
        run.check(config, fresh or fresh_whole)
        run.check_data(data_folder, fresh=fresh or fresh_whole)
        finished = None if fresh or fresh_whole else run.summary()
        if finished:
            run.remove_checkpoints(config)  # it may have been killed before it could
            steps = finished["steps"]
            print(f"{run.path}: already finished at step {steps:,}; --fresh starts over")
            return finished
        trainer = make_trainer(
            config, data_folder, manifest, run, strategy, repetition, fold, further, start,
            decided, measured, title, source,
        )  # fmt: skip
        if whole:
            RunFolder(whole, run.chief).begin(config, data_folder, fresh_whole)
        run.begin(config, data_folder, fresh)
        if begun is not None:
            begun(run)
        return _with_own_errors(trainer.source, trainer.fit)


def _with_own_errors(source, work):
    """Calls ``work``; bad data found on the way is told in the source's words, not TensorFlow's."""
    try:
        return work()
    except tf.errors.OpError as error:
        if source.failure is None:
            raise
        raise source.failure from error


def make_trainer(
    config, data_folder, manifest, run, strategy, repetition=None, fold=None, further=(),
    start=None, decided=None, measured=True, title="training", source=None,
):  # fmt: skip
    """Model, sources, techniques and dev evaluation of a config, put together.

    Raises:
        ConfigError: a part of the config cannot be, e.g. more buckets than labels.
    """
    memory = int(config.training.memory_gb * 2**30)
    source = source or open_source(data_folder, "train", memory)
    dimensions, held_out = manifest.dimensions, {}
    _refuse_one_label(config, manifest)
    if run.chief:
        _report_unlabelled(config, manifest)
    if fold is not None:
        source, held_out["dev"] = fold.sources(source)
        dimensions["num_examples"] = source.num_examples
    dimensions |= decided or decided_codes(config, source, **dimensions)
    if config.training.group_by_length:
        source.group_by_length(config.training.batch_size)
    if start is not None and start.architecture() is not None:
        dimensions["architecture"] = start.architecture()
    with strategy.scope():
        model = build_model(config, repetition=repetition, **dimensions)
        if start is not None:
            start.load_weights(model)
    techniques = [*further, *(_technique(method) for method in config.techniques)]
    evaluation = None
    if measured:
        _refuse_missing_splits(config, {*manifest.splits, *held_out})
        splits = ("dev", "test") if config.evaluation.test_on_improvement else ("dev",)
        splits = [split for split in splits if split in manifest.splits]
        others = {split: open_source(data_folder, split, memory) for split in splits} | held_out
        evaluation = Evaluation(model, config, data_folder, source, **others)
    return Trainer(
        model,
        source,
        config.training,
        run,
        seed=config.seed,
        strategy=strategy,
        techniques=techniques,
        evaluation=evaluation,
        test_on_improvement=config.evaluation.test_on_improvement,
        title=title,
        data_fingerprint=manifest.fingerprints or None,
    )


def _refuse_missing_splits(config, given_splits):
    """Refuses settings that need a split the data does not have."""
    needs = {
        "training.early_stopping": (config.training.early_stopping, "early stopping", ["dev"]),
        "training.watch": (config.training.watch, "a metric to watch", ["dev"]),
        "evaluation.test_on_improvement": (
            config.evaluation.test_on_improvement, "test on improvement", ["dev", "test"],
        ),
    }  # fmt: skip
    for where, (given, what, splits) in needs.items():
        missing = [split for split in splits if split not in given_splits]
        if given and missing:
            raise ConfigError(
                f"{what} needs a {missing[0]} split, the data has none",
                where=where,
                fix=f"name a file in data.{missing[0]}, or remove {where.split('.')[1]}",
            )


def _report_unlabelled(config, manifest):
    """Warns of training examples without a label where these teach nothing."""
    without, total = manifest.split("train").without_labels, manifest.split("train").examples
    if without and registry.get("objective", config.objective.name).link == "softmax":
        print(
            f"warning: {without:,} of {total:,} training examples have no label: with objective "
            f"{config.objective.name!r} their loss is 0 and they teach nothing; leave them out, or "
            "use 'sigmoid', to which every absent label says something",
            file=sys.stderr,
        )


def _refuse_one_label(config, manifest):
    link = registry.get("objective", config.objective.name).link
    if manifest.num_labels == 1 and link == "softmax":
        raise ConfigError(
            f"at least two labels expected by objective {config.objective.name!r}, the data has "
            "one: the loss would be 0 whatever the model does",
            where="data.train",
            fix="check the labels, or use an objective with a yes or no per label",
        )


def try_one_step(config, data_folder, repetition=None, decided=None):
    """Trains one step on one batch and throws the result away; arguments as of ``make_trainer``.

    Returns:
        (loss, steps of the whole training).
    """
    strategy = make_strategy(config.training, config)
    manifest = Manifest.load(data_folder)
    with scratch_folder("try") as folder:
        run = RunFolder(folder)
        trainer = make_trainer(
            config, data_folder, manifest, run, strategy, repetition, decided=decided,
            measured=not decided,  # a part of a model finds something else than labels
        )  # fmt: skip
        return _with_own_errors(trainer.source, trainer.one_step), trainer.total_steps


def _technique(method):
    registry.check_section("technique", method.section(), where="techniques")
    return registry.create("technique", method.section())
