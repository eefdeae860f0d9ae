"""One training from a config and prepared data: the piece every recipe is built from."""

import tempfile
from pathlib import Path

from tfxc import registry
from tfxc.data.manifest import Manifest
from tfxc.data.source import ShardSource
from tfxc.metrics.suite import build_metrics
from tfxc.model import build_model
from tfxc.training.loop import Trainer
from tfxc.training.run_folder import RunFolder
from tfxc.training.search import Searcher, evaluate_source
from tfxc.training.strategies import is_chief, make_strategy


def train_model(config, data_folder, run_path, *, repetition=None, fresh=False, strategy=None):
    """Trains one model into one run folder, or goes on with a stopped training.

    Args:
        config: ``Config``.
        data_folder: prepared records.
        run_path: run folder.
        repetition: number of the repetition this model is, or None for the whole model.
        fresh: throw an earlier run in the folder away.
        strategy: made already (multi-worker strategies must be made first of all), or None.

    Returns:
        The run's summary, see ``Trainer.fit``.
    """
    strategy = strategy or make_strategy(config.training)
    manifest = Manifest.load(data_folder)
    run = RunFolder(run_path, is_chief())
    run.begin(config, data_folder, fresh)
    finished = run.summary()
    if finished:
        print(f"{run.path}: already finished at step {finished['steps']:,}; --fresh starts over")
        return finished
    trainer = make_trainer(config, data_folder, manifest, run, strategy, repetition)
    return trainer.fit()


def make_trainer(config, data_folder, manifest, run, strategy, repetition=None):
    """Model, sources, techniques and dev evaluation of a config, put together."""
    memory = int(config.training.memory_gb * 2**30)
    source = ShardSource(data_folder, "train", memory)
    with strategy.scope():
        model = build_model(
            config,
            num_features=manifest.num_features,
            num_labels=manifest.num_labels,
            feature_kind=manifest.feature_kind,
            repetition=repetition,
        )
    techniques = [_technique(method) for method in config.techniques]
    evaluate = None
    if "dev" in manifest.splits:
        evaluate = dev_evaluation(model, ShardSource(Path(data_folder), "dev", memory), config)
    return Trainer(
        model,
        source,
        config.training,
        run,
        seed=config.seed,
        strategy=strategy,
        techniques=techniques,
        evaluate=evaluate,
    )


def try_one_step(config, data_folder, repetition=None):
    """Trains one step on one batch and throws the result away.

    Returns:
        (loss, steps of the whole training).
    """
    strategy = make_strategy(config.training)
    manifest = Manifest.load(data_folder)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(folder)
        trainer = make_trainer(config, data_folder, manifest, run, strategy, repetition)
        return trainer.one_step(), trainer.total_steps


def dev_evaluation(model, source, config):
    """A function () -> metrics of ``model`` on ``source``."""
    ks = [k for k in config.evaluation.k if k <= model.head.num_labels]
    metrics = build_metrics(ks=tuple(ks), threshold=config.evaluation.threshold)
    searcher = Searcher(model, metrics.min_predictions)

    def evaluate():
        metrics.reset()
        return evaluate_source(searcher, source, metrics, config.evaluation.batch_size)

    return evaluate


def _technique(method):
    registry.check_section("technique", method.section(), where="techniques")
    return registry.create("technique", method.section())
