"""Trainings without a part of the examples, before the one on all: they choose and are measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfxc.core.config import Config
from tfxc.core.errors import CheckpointError
from tfxc.data.store.manifest import Manifest
from tfxc.metrics.interval import wilson_interval
from tfxc.runs.folder import RunFolder
from tfxc.runs.writer import HELD_OUT


class HeldOutRun(NamedTuple):
    """A finished run without a part of the examples, which is its dev split.

    Attributes:
        folder: its ``RunFolder``.
        data_folder: its prepared records.
    """

    folder: RunFolder
    data_folder: Path


def held_out_configs(config: Config) -> dict[str, Config]:
    """Returns the configs of the trainings before the one on all examples.

    Args:
        config: with a section ``refit``.

    Returns:
        The configs by the name of the folder inside the run folder, in the order of training.

    Example:
        >>> held_out_configs(config)["held-out"].data.dev_share  # doctest: +SKIP
        0.15
    """
    refit = config.refit
    assert refit is not None, "callers have looked"
    count = refit.folds or 1
    share = 1 / count if refit.share is None else refit.share
    configs = {}
    for part in range(count):
        name = HELD_OUT if refit.folds is None else f"{HELD_OUT}-{part}"
        data = config.data.model_copy(update={"dev_share": share, "dev_part": part})
        changes = {"refit": None, "decision": None, "data": data, "run": f"{config.run}/{name}"}
        configs[name] = config.model_copy(update=changes)
    return configs


def epochs_of(runs: Sequence[HeldOutRun]) -> float | None:
    """Returns after how many epochs the kept weights were reached, the mean of the runs.

    None where nothing is trained by epochs.
    """
    epochs = []
    for run in runs:
        summary = _summary(run)
        if summary.get("epochs") is None:
            return None
        training = run.folder.config().training
        steps = summary["steps"]
        if training.keep == "best":
            steps = summary.get("best_step") or steps
        examples = Manifest.load(run.data_folder).split("train").examples
        epochs.append(steps * training.batch_size / examples)
    return sum(epochs) / len(epochs)


def facts_of(runs: Sequence[HeldOutRun]) -> dict[str, Any]:
    """Returns what the summary of the run on all examples says of those that were held out.

    Returns:
        A dict ``dev`` ({metric: mean over all held-out examples}), ``dev_examples``,
        ``dev_interval``, ``test`` where it was measured, and ``refit``: names of the ``runs``,
        their ``seconds``, and ``epochs`` of the training on all.
    """
    summaries = [_summary(run) for run in runs]
    counts = [Manifest.load(run.data_folder).split("dev").examples for run in runs]
    facts: dict[str, Any] = {"dev_examples": sum(counts)}
    for split in ("dev", "test"):
        results = [summary.get(split) or {} for summary in summaries]
        means = {
            name: sum(count * result[name] for count, result in zip(counts, results, strict=True))
            / sum(counts)
            for name in results[0]
            if all(result.get(name) is not None for result in results)
        }
        if means or split == "dev":
            facts[split] = means
    if "P@1" in facts["dev"]:
        facts["dev_interval"] = {"P@1": list(wilson_interval(facts["dev"]["P@1"], sum(counts)))}
    names = [run.folder.path.name for run in runs]
    seconds = sum(summary.get("seconds", 0) for summary in summaries)
    facts["refit"] = {"runs": names, "seconds": seconds, "epochs": epochs_of(runs)}
    return facts


def _summary(run: HeldOutRun) -> dict[str, Any]:
    summary = run.folder.summary()
    if summary is None:
        raise CheckpointError(
            "the training without the held-out examples has not finished",
            where=run.folder.path,
            fix="run the same command again without --from-step",
        )
    return summary
