"""The run folder: what a training writes and everything else reads."""

import contextlib
import json
import shutil
from pathlib import Path

from tfxc.config import Config, parse_config
from tfxc.errors import CheckpointError
from tfxc.files import (
    atomic_file,
    check_kind,
    check_local,
    check_own,
    empty_own,
    lock_of,
    mark,
    write_errors,
)
from tfxc.locks import holder, is_held, locked
from tfxc.training.weights_file import write_weights

WEIGHTS = "model.weights.h5"
ARCHITECTURE = "assets/encoder.json"
KIND = "run"

# What there is once a first step is done, besides the same in the folders of the parts.
_PROGRESS = (
    WEIGHTS, "summary.json", "calibration.json", "tree.npz", "tree-preliminary.npz",
    "checkpoints/*", "embeddings/*", "ranker/*",
)  # fmt: skip
_PARTS = ("fold-*", "level-*", "repetition-*")  # runs of their own, and their logs
_TEACHER = "*teacher_logits*"  # is used again only if it is of the same teachers and data
_BEGINNING = ("config.json", "assets", "log.txt", "metrics.jsonl", "teachers.txt", "tensorboard")
# What else commands write into a run unless they are given another place.
_DERIVED = (
    "checksums.json", "evaluation-*", "report", "savedmodel", "onnx", "litert", ".repetition-*",
    "start", "concat", "*embeddings.npy*", "matched.npz",  # of a level of an XR-Transformer
)  # fmt: skip
NAMES = (*(name.split("/")[0] for name in _PROGRESS), *_PARTS, _TEACHER, *_BEGINNING, *_DERIVED)
NAMES += (f".new-{WEIGHTS}",)


# A resumed run may change these; anything else would make it another run.
_FREE_KEYS = {
    "": {"about", "run", "evaluation"},
    "training": {"log_every", "evaluate_every", "checkpoint_every", "devices"},
    "data": {"where"},
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

    @contextlib.contextmanager
    def locked(self):
        """Keeps other processes from writing into this run; the kernel frees it on death.

        A process may lock a run that it has locked already. What processes that were killed have
        left half-written is removed.

        Raises:
            CheckpointError: another process is writing into it; it is named.
        """
        lock = lock_of(self.path)
        if not self.chief or is_held(lock):
            yield
            return
        check_local(self.path, "run")
        made = [path for path in lock.parents if not path.exists()]
        with contextlib.ExitStack() as stack:
            stack.callback(_remove_empty, made)
            with write_errors(self.path):
                lock.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(lock, self._busy))
                self._remove_scratch()
            yield

    def _busy(self, process):
        raise CheckpointError(
            f"{process} is writing into this run",
            where=self.path,
            fix="wait until it has ended, stop it, or choose another folder with --set run=...",
        )

    def _remove_scratch(self):
        """Removes what was being written when an earlier process was killed."""
        found = [*self.path.glob(f".new-{WEIGHTS}"), *self.path.glob(".removed-*")]
        for path in [*found, *self.path.glob("checkpoints/*_temp")]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def begin(self, config, data_folder, fresh=False):
        """Writes config and assets, or checks that an earlier start had the same config.

        Args:
            config: ``Config``.
            data_folder: prepared records.
            fresh: remove an earlier run, whatever its config.

        Raises:
            CheckpointError: the folder holds a run with another config; the keys are named.
            UserError: the folder holds something else than a run.
        """
        if not self.chief:
            return
        self.check(config, fresh)
        if self.path.exists() and (fresh or self._changed(config)):
            with self.locked():
                self._check_parts_are_free()
                empty_own(self.path, KIND, keep=() if fresh else (_TEACHER,))
        self.mark()
        with atomic_file(self / "config.json") as stream:
            stream.write(config.to_json() + "\n")
        self.copy_assets(data_folder)

    def mark(self):
        """Makes the folder one that tfxc writes."""
        mark(self.path, KIND, NAMES)

    def check(self, config, fresh=False):
        """Refuses a folder that holds something else, or a run of another config.

        An empty folder is fine, and so is a run of another config that has nothing to lose: whose
        first step was never done.

        Args:
            config: ``Config``.
            fresh: whether an earlier run will be removed: its config does not matter then.

        Raises:
            CheckpointError: as ``begin``.
            UserError: as ``begin``.
        """
        check_kind(self.path, KIND)
        changed = self._changed(config)
        if fresh or changed:
            check_own(self.path, KIND)
        if not fresh and changed and self.has_progress():
            old, new = _tree(self.config()), _tree(config)
            shown = ", ".join(f"{k} ({old.get(k)!r} -> {new.get(k)!r})" for k in changed[:4])
            alone = " and without --repetition" if self._parts() else ""
            raise CheckpointError(
                f"holds a run of another config; changed: {shown}",
                where=self.path,
                fix=f"choose another folder with --set run=..., or start over with --fresh{alone}",
            )

    def _changed(self, config):
        """Keys in which the folder's config differs; none where it holds no run."""
        if not (self / "config.json").exists():
            return []
        old, new = _tree(self.config()), _tree(config)
        return [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]

    def has_progress(self):
        """Whether something would be lost with this run."""
        if any(next(self.path.glob(name), None) for name in _PROGRESS):
            return True
        return any(part.has_progress() for part in self._parts())

    def _parts(self):
        """Runs inside this one: its folds, levels or repetitions."""
        found = (part for name in _PARTS for part in self.path.glob(name) if part.is_dir())
        return [RunFolder(part) for part in found]

    def _check_parts_are_free(self):
        """Refuses to remove a run of which a part is being trained by another process."""
        for part in self._parts():
            process = holder(lock_of(part.path))
            if process is not None:
                part._busy(process)

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
            CheckpointError: this is no run folder.
        """
        _check_is_run(self.path)
        text = (self / "config.json").read_text(encoding="utf-8")
        return parse_config(json.loads(text), where=str(self / "config.json"))

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
                write_weights(model, scratch)
                scratch.replace(self / WEIGHTS)
                self._write_architecture(model.encoder)
        finally:
            scratch.unlink(missing_ok=True)

    def _write_architecture(self, encoder):
        """Writes the shape of a network that was read from elsewhere, see ``architecture``."""
        encoder = getattr(encoder, "encoders", [encoder])[0]
        architecture = getattr(encoder, "architecture", None)
        if architecture is not None:
            with atomic_file(self / ARCHITECTURE) as stream:
                json.dump(architecture, stream, indent=2)

    def architecture(self):
        """The shape of the encoder's network where its config does not say it, else None.

        With it the run's model is built without the folder of the pretrained one.
        """
        found = sorted([*self.path.glob(ARCHITECTURE), *self.path.glob(f"*/{ARCHITECTURE}")])
        return json.loads(found[0].read_text(encoding="utf-8")) if found else None

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
        try:
            model.load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            raise CheckpointError(
                f"does not fit the model of config.json ({str(error).splitlines()[0]})",
                where=path,
                fix="restore the run's own config.json or train again",
            ) from error

    def write_summary(self, summary):
        """Writes ``summary.json``; its presence says that training is finished."""
        if self.chief:
            with atomic_file(self / "summary.json") as stream:
                json.dump(summary, stream, indent=2)

    def summary(self):
        """The summary of a finished training, or None."""
        path = self / "summary.json"
        return json.loads(path.read_text()) if path.exists() else None


def _remove_empty(folders):
    with contextlib.suppress(OSError):  # the others are not empty either
        for folder in folders:
            folder.rmdir()


def _check_is_run(path):
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
