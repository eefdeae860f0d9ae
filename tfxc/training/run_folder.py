"""The run folder: what a training writes and everything else reads."""

import contextlib
import shutil
from pathlib import Path

from tfxc.config import Config, parse_config
from tfxc.errors import CheckpointError, ConfigError
from tfxc.files import (
    atomic_file,
    existing_file,
    read_errors,
    read_json,
    write_errors,
    write_json,
)

WEIGHTS = "model.weights.h5"
ARCHITECTURE = "assets/encoder.json"

_RESTORE = "restore the run's own files, or train again"

# A resumed run may change these; anything else would make it another run.
_FREE_KEYS = {
    "": {"about", "run", "evaluation"},
    "training": {"log_every", "evaluate_every", "checkpoint_every", "devices"},
    "data": {"where", "max_line_bytes"},
    "recipe": {"memory_gb", "threads"},
}


class RunFolder:
    """Paths and small files of one run.

    Layout: ``config.json``, ``assets/`` (manifest.json, labels.txt, text_features/),
    ``checkpoints/``, ``model.weights.h5``, ``metrics.jsonl``, ``log.txt``, ``tensorboard/``,
    ``summary.json``.

    Args:
        path: the folder; made when first written to.
        chief: only the chief writes.
    """

    def __init__(self, path, chief=True):
        self.path, self.chief = Path(path), chief

    def __truediv__(self, name):
        return self.path / name

    def begin(self, config, data_folder, fresh=False):
        """Writes config and assets, or checks that an earlier start had the same config.

        Raises:
            CheckpointError: the folder holds a run with another config; the keys are named.
        """
        if not self.chief:
            return
        if fresh and self.path.exists():
            _check_is_run(self.path)
            with write_errors(self.path):
                shutil.rmtree(self.path)
        self.check(config)
        with atomic_file(self / "config.json") as stream:
            stream.write(config.to_json() + "\n")
        self.copy_assets(data_folder)

    def check(self, config):
        """Refuses a folder that holds a run of another config; an empty one is fine.

        Raises:
            CheckpointError: as ``begin``.
        """
        if not (self / "config.json").exists():
            return
        old, new = _tree(self.config()), _tree(config)
        changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        if changed:
            shown = ", ".join(f"{k} ({old.get(k)!r} -> {new.get(k)!r})" for k in changed[:4])
            raise CheckpointError(
                f"holds a run of another config; changed: {shown}",
                where=self.path,
                fix="choose another folder with --set run=..., or start over with --fresh",
            )

    def copy_assets(self, data_folder):
        """Copies manifest, label names and text features into the run.

        Repetitions that start together do so at the same time; each file appears whole.
        """
        data_folder, assets = Path(data_folder), self / "assets"
        names = [data_folder / name for name in ("manifest.json", "labels.txt", "label_counts.npy")]
        texts = (data_folder / "text_features").rglob("*")
        for path in [*names, *(path for path in texts if path.is_file())]:
            target = assets / path.relative_to(data_folder)
            with atomic_file(target, "wb") as copy, open(path, "rb") as original:
                shutil.copyfileobj(original, copy)

    def config(self):
        """The run's ``Config``.

        Raises:
            CheckpointError: this is no run folder, or its config is damaged.
            MachineError: it cannot be read.
        """
        _check_is_run(self.path)
        tree = read_run_json(path := self / "config.json")
        try:
            return parse_config(tree, where=str(path))
        except ConfigError as error:
            problem = f"is not the config of a run of this version ({error.problem})"
            raise CheckpointError(problem, where=error.where or path, fix=_RESTORE) from error

    def save_weights(self, model):
        """Writes the model's weights; the old file stays until the new one is whole.

        Every worker has to take part: one may hold weights that the chief has to collect.

        Raises:
            UserError: the disk is full or the folder cannot be written to.
        """
        table = model.head.sharded_table
        with table.collected(keep=self.chief) if table else contextlib.nullcontext():
            if self.chief:
                self._write_weights(model)

    def _write_weights(self, model):
        scratch = self / f".new-{WEIGHTS}"
        try:
            with write_errors(self / WEIGHTS):
                model.save_weights(scratch)
                scratch.replace(self / WEIGHTS)
                self._write_architecture(model.encoder)
        finally:
            scratch.unlink(missing_ok=True)

    def _write_architecture(self, encoder):
        """Writes the shape of a network that was read from elsewhere, see ``architecture``."""
        encoder = getattr(encoder, "encoders", [encoder])[0]
        architecture = getattr(encoder, "architecture", None)
        if architecture is not None:
            write_json(self / ARCHITECTURE, architecture)

    def architecture(self):
        """The shape of the encoder's network where its config does not say it, else None.

        With it the run's model is built without the folder of the pretrained one.
        """
        found = sorted([*self.path.glob(ARCHITECTURE), *self.path.glob(f"*/{ARCHITECTURE}")])
        return read_run_json(found[0]) if found else None

    def load_weights(self, model):
        """Reads the model's weights.

        Raises:
            CheckpointError: no weights yet, or weights of another model.
        """
        path = self / WEIGHTS
        if not path.exists():
            raise CheckpointError(
                "no weights yet", where=self.path, fix="train the run to its end first"
            )
        fix = "restore the run's own config.json or train again"
        existing_file(path, fix=fix, error=CheckpointError)
        try:
            model.load_weights(path)
        except OSError as error:
            if error.errno is None:
                raise _unfit_weights(path, error, fix) from error
            with read_errors(path, fix=fix, error=CheckpointError):
                raise
        except (ValueError, KeyError, RuntimeError, TypeError, IndexError) as error:
            raise _unfit_weights(path, error, fix) from error

    def write_summary(self, summary):
        """Writes ``summary.json``; its presence says that training is finished."""
        if self.chief:
            write_json(self / "summary.json", summary)

    def summary(self):
        """The summary of a finished training, or None."""
        path = self / "summary.json"
        return read_run_json(path) if path.exists() or path.is_symlink() else None


def read_run_json(path):
    """The object in a JSON file of a run.

    Raises:
        CheckpointError: it is missing or damaged.
        MachineError: it cannot be read.
    """
    return read_json(path, fix=_RESTORE, error=CheckpointError)


def _unfit_weights(path, error, fix):
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    problem = f"does not fit the model of config.json ({reason})"
    return CheckpointError(problem, where=path, fix=fix)


def _check_is_run(path):
    if (path / "config.json").is_symlink():
        return  # reading it says where it leads
    if not (path / "config.json").is_file():
        raise CheckpointError(
            "is no run folder: it holds no config.json",
            where=path,
            fix="give a folder of tfxc.train",
        )


def _tree(config):
    """What defines the run, flattened to ``{"a.b": value}``."""
    assert isinstance(config, Config)
    flat = {}
    for key, value in config.model_dump(mode="json").items():
        if key in _FREE_KEYS[""]:
            continue
        if key in _FREE_KEYS:
            free = _FREE_KEYS[key]
            flat |= {f"{key}.{k}": v for k, v in value.items() if k not in free}
        else:
            flat[key] = value
    return flat
