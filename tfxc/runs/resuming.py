"""Decides whether a run begins, resumes, is extended, goes back, or is finished already."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfxc.core.config import Config
from tfxc.core.errors import CheckpointError, ConfigError, UserError
from tfxc.core.messages import OUTPUT
from tfxc.core.storage import checksums
from tfxc.core.storage.locks import holder
from tfxc.core.storage.ownership import check_kind, check_own, clear_owned, is_kind, lock_of
from tfxc.runs.checkpoint_files import CheckpointFiles, problem_of_shards, shard_prefixes
from tfxc.runs.folder import RESTORE, RunFolder
from tfxc.runs.lock import busy, locked
from tfxc.runs.writer import KIND, SUMMARY, TEACHER, WEIGHTS

# A resumed run may change these; anything else would make it another run.
_FREE_KEYS = {
    "": {"about", "run", "evaluation"},
    "training": {
        "log_every",
        "evaluate_every",
        "checkpoint_every",
        "devices",
        "keep_checkpoints",
        "trackers",
    },
    "data": {"where", "rehearsal", "max_line_bytes"},
    "recipe": {"memory_gb", "threads"},
}


def finished(
    run: RunFolder, config: Config, data_folder: str | Path, fresh: bool = False
) -> dict[str, Any] | None:
    """Returns the summary if the run is finished, and says so; None if there is work to do.

    Args:
        config: ``Config``.
        data_folder: prepared records.
        fresh: whether an earlier run will be removed.

    Raises:
        CheckpointError, DataError, UserError: as ``start``.
    """
    check(run, config, fresh)
    if not fresh:
        run.check_data(data_folder)
    summary = None if fresh or extended_from(run, config) else run.summary()
    if summary:
        if run.chief and not config.training.keep_checkpoints:
            # It may have been killed before it could remove them.
            shutil.rmtree(run / "checkpoints", ignore_errors=True)
        at = f" at step {summary['steps']:,}" if "steps" in summary else ""
        OUTPUT.info(f"{run.path}: already finished{at}; use --fresh to start over")
    return summary


def start(run: RunFolder, config: Config, data_folder: str | Path, fresh: bool = False) -> None:
    """Writes config and assets, or checks that an earlier start had the same config.

    A run that is extended is from then on an unfinished one, of the new config.

    Args:
        config: ``Config``.
        data_folder: prepared records.
        fresh: remove an earlier run, whatever its config.

    Raises:
        CheckpointError: the folder holds a run with another config, or of other data; what
            differs is named.
        DataError: a file of the run is damaged.
        UserError: the folder holds something else than a run.
    """
    if not run.chief:
        return
    check(run, config, fresh)
    if not fresh:
        run.check_data(data_folder)
    extended = not fresh and extended_from(run, config)
    replaced = fresh or (_changed(run, config) and not extended)
    if run.path.exists() and (replaced or run.changed_data(data_folder)):
        with locked(run):
            # A part of the run may be in training by another process.
            for part in (*run.inner_runs(), *run.held_out_runs()):
                process = holder(lock_of(part.path))
                if process is not None:
                    raise busy(part, process)
            clear_owned(run.path, KIND, keep=() if fresh else (TEACHER,))
    run.mark()
    if extended:
        reopen(run)
    with _recorded(run):
        run.write_config(config)
        run.copy_assets(data_folder)


def reopen(run: RunFolder) -> None:
    """Makes a finished run an unfinished one."""
    if run.chief and (run / SUMMARY).exists():
        (run / SUMMARY).unlink()  # first: with a summary a run would be finished
        with _recorded(run):
            pass


def check(run: RunFolder, config: Config, fresh: bool = False) -> None:
    """Refuses a folder that holds something else, or a run of another config.

    An empty folder is fine, and so is a run of another config that has nothing to lose: whose
    first step was never done. More epochs extend a run.

    Args:
        config: ``Config``.
        fresh: whether an earlier run will be removed: its config does not matter then.

    Raises:
        CheckpointError, DataError, UserError: as ``start``.
    """
    if not run.chief:  # the chief may be writing it at this moment, and says what is wrong
        return
    check_kind(run.path, KIND)
    if not fresh:
        run.check_files(required=False)
    changed = _changed(run, config)
    if fresh or changed:
        check_own(run.path, KIND)
    if not fresh and changed and run.has_progress() and not extended_from(run, config):
        old = _tree(run.config())
        new = _tree(config)
        shown = ", ".join(f"{k} ({old.get(k)!r} -> {new.get(k)!r})" for k in changed[:4])
        alone = " and without --repetition" if run.inner_runs() else ""
        raise CheckpointError(
            f"this run was trained with other settings: {shown}",
            where=run.path,
            fix=f"choose another folder with --set run=..., or start over with --fresh{alone}",
        )


def extended_from(run: RunFolder, config: Config) -> float | None:
    """Returns the epochs of the run where a config has more of them, and nothing else new."""
    if not is_kind(run.path, KIND) or _changed(run, config) != ["training.epochs"]:
        return None
    epochs = run.config().training.epochs
    return epochs if config.training.epochs > epochs else None


def check_extendable(run: RunFolder) -> None:
    """Refuses to extend a run that has not kept what a training goes on from.

    Raises:
        CheckpointError: it, or a run inside it, is finished and has no checkpoint.
    """
    parts = run.inner_runs()
    for part in (*parts, *run.held_out_runs()):
        check_extendable(part)
    if not parts and run.summary() and not run.has_checkpoint():
        raise CheckpointError(
            "this finished run has no checkpoint from which training could continue",
            where=run.path,
            fix="begin another run from its weights with recipe.start, or train it again with "
            "--fresh and training.keep_checkpoints=1",
        )


def check_go_back(run: RunFolder, step: int, may_drop: bool) -> bool:
    """Refuses to resume from a checkpoint that cannot be read, or at the cost of later ones.

    Args:
        step: of the checkpoint.
        may_drop: whether later checkpoints, or the end of the training, may be removed.

    Returns:
        Whether there is something later, which ``drop_later`` removes.

    Raises:
        CheckpointError: there is no such checkpoint, or it or a shard of it is damaged.
        ConfigError: there is something later, which may not be removed.
    """
    run.check_step(step, "--from-step")
    problem = run.checkpoints.problem(step) or problem_of_shards(run / "checkpoints", step)
    if problem:
        raise CheckpointError(problem, where=run.path, fix="choose another step")
    steps = run.checkpoints.finished_steps()
    later = [number for number in steps if number > step]
    end = (run.summary() or {}).get("steps", steps[-1]) > step
    if (later or end) and not may_drop:
        lost = ["the weights of the end"] if end and run.summary() else []
        lost = [*(f"the checkpoint of step {number}" for number in later), *lost]
        raise ConfigError(
            f"going back to step {step} removes {', '.join(lost)}",
            where="--from-step",
            fix="add --drop-later, or copy the run first",
        )
    return bool(later or end)


def drop_later(run: RunFolder, step: int) -> None:
    """Removes what came after a checkpoint, so that the training resumes from it.

    Weights of a later step go as well; those of an earlier one, the best so far, stay.

    Args:
        step: of the checkpoint, see ``check_go_back``.
    """
    if not run.chief:
        return
    steps = run.checkpoints.finished_steps()
    content = run.checkpoints.content(steps[-1]) or {}
    progress = content.get("progress") or run.summary() or {}
    best = progress.get("best_step", 0)  # 0 where no weights were the best, or it is not known
    # A finished run must have weights: killed anywhere here, it is an unfinished one.
    reopen(run)
    if run.config().training.keep == "last" or not 0 < best <= step:
        (run / WEIGHTS).unlink(missing_ok=True)
    for later in sorted((number for number in steps if number > step), reverse=True):
        for name in ("ckpt", *shard_prefixes(run / "checkpoints")):
            CheckpointFiles(run / "checkpoints", name).remove(later)


@contextlib.contextmanager
def _recorded(run: RunFolder) -> Iterator[None]:
    """Writes checksums of config and assets when they are written; meanwhile there are none.

    Those of finished stages stay.
    """
    trees = {}
    with contextlib.suppress(checksums.Unrecorded):
        entries = checksums.entries_of(run.path, RESTORE)
        trees = {name: entries[name] for name in entries if Path(name).match("tree*.npz")}
        (run / checksums.FILE).unlink(missing_ok=True)
    yield
    known = {name: (entry["bytes"], entry["sha256"]) for name, entry in trees.items()}
    run.record(["config.json"], known)


def _changed(run: RunFolder, config: Config) -> list[str]:
    """Returns keys in which the folder's config differs; none where it holds no run."""
    if not (run / "config.json").exists():
        return []
    try:
        old = _tree(run.config())
        new = _tree(config)
    except UserError as error:
        raise CheckpointError(
            error.problem,
            where=error.where,
            fix="restore it from a copy, or move the folder away: a run is resumed or removed "
            "only if its config can be read",
        ) from error
    return [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]


def _tree(config: Config) -> dict[str, Any]:
    """Returns what defines the run, flattened to ``{"a.b": value}``."""
    flat: dict[str, Any] = {}
    for key, value in config.model_dump(mode="json").items():
        if key in _FREE_KEYS[""]:
            continue
        if key in _FREE_KEYS:
            free = _FREE_KEYS[key]
            flat |= {f"{key}.{k}": v for k, v in value.items() if k not in free}
        else:
            flat[key] = value
    return flat
