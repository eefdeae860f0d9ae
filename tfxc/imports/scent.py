"""Checkpoints of SCENT's linear classifiers: a finished run, or a training run to resume."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfxc.core.config import Config, parse_config
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.messages import NOTES
from tfxc.data.examples.kinds import DENSE
from tfxc.data.store.manifest import Manifest
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import build_model
from tfxc.pretrained.torch_files import TorchTensor, load_state_dict, load_torch
from tfxc.runs import resuming
from tfxc.runs.folder import RunFolder
from tfxc.runs.writer import manifest_of, new_run, split_of
from tfxc.training.job import TrainingJob
from tfxc.training.optimization.optimizers import get_optimizer

if TYPE_CHECKING:
    from tfxc.model import XCModel

_WHERE = "The run was imported from SCENT, without its data: name a file with --data"
_NAME = re.compile(r"epoch_(\d+)\.pt")
_KERNEL = "fc.weight"
_RIGHT_FILE = "give a checkpoint of the linear classifier of SCENT's folder xc"


class Checkpoint(NamedTuple):
    """What a file ``epoch_<e>.pt`` holds.

    Attributes:
        path: the file.
        kernel: float32 (num_labels, dim).
        nu: float32 (n,), the dual variable of each training example, NaN where it has not been
            set; None for an algorithm without.
        epoch: number of finished epochs.
    """

    path: Path
    kernel: np.ndarray
    nu: np.ndarray | None
    epoch: int


def read_checkpoint(path: str | Path, epoch: int | None = None) -> Checkpoint:
    """Returns the checkpoint in a file, or the last one in a folder of them.

    Args:
        path: ``epoch_<e>.pt``, or the folder ``checkpoints`` of an experiment.
        epoch: which one of the folder; None for the last.

    Raises:
        DataError: there is none, or it is damaged or of another model; what it holds is named.

    Example:
        >>> read_checkpoint("outputs/sox/checkpoints").epoch  # doctest: +SKIP
        50
    """
    path = Path(path)
    if path.is_dir():
        names = [(_NAME.fullmatch(file.name), file) for file in path.iterdir()]
        files = {int(match[1]): file for match, file in names if match}
        if not files or epoch not in (None, *files):
            raise DataError(
                f"there is no {'epoch_E.pt' if epoch is None else f'epoch_{epoch}.pt'}, only "
                f"epochs: {', '.join(map(str, sorted(files))) or 'none'}",
                where=path,
                fix="give a checkpoint, or the folder checkpoints of an experiment",
            )
        path = files[max(files) if epoch is None else epoch]
    content = load_torch(path)
    tensors = load_state_dict(path)
    kernel = tensors.get(_KERNEL)
    if list(tensors) != [_KERNEL] or kernel is None or len(kernel.shape) != 2:
        shapes = ", ".join(f"{name} {tensor.shape}" for name, tensor in list(tensors.items())[:5])
        raise DataError(
            f"model_state has {shapes} instead of {_KERNEL} (labels, dim) alone",
            where=path,
            fix=_RIGHT_FILE,
        )
    done = content.get("epoch")
    if type(done) is not int or done < 0:
        raise DataError(f"the number of finished epochs is {done!r}", where=path, fix=_RIGHT_FILE)
    nu = content.get("criterion_nu")
    if nu is not None:
        if not isinstance(nu, TorchTensor) or nu.shape[1:] not in ((), (1,)):
            kind = nu.shape if isinstance(nu, TorchTensor) else type(nu).__name__
            raise DataError(
                f"criterion_nu is {kind} instead of (examples, 1)", where=path, fix=_RIGHT_FILE
            )
        nu = np.asarray(nu.array(), np.float32).reshape(-1)
        # There 0.0 marks an example that has not been visited.
        nu = np.where(nu == 0.0, np.float32(math.nan), nu)
    return Checkpoint(path, np.asarray(kernel.array(), np.float32), nu, done)


def import_scent(
    path: str | Path,
    output: str | Path,
    *,
    names: str | Path | None = None,
    epoch: int | None = None,
    config: Config | None = None,
    data_folder: str | Path | None = None,
) -> Checkpoint:
    """Writes a checkpoint of SCENT as a run.

    Without a config the run is finished: predict, evaluate and export read it. With one it is a
    training run of that config that was stopped after the checkpoint's last epoch; ``tfxc train``
    resumes it with the weights and the dual variables, at the same place of the schedules.

    Args:
        path, epoch: see ``read_checkpoint``.
        output: the run folder, which is written atomically; an older one is replaced.
        names: file with a label name per line, for a finished run; None numbers the labels.
        config: ``Config`` of the training run to resume; its data are feature sets with the rows in
            the order of SCENT's files.
        data_folder: the prepared folder of these data.

    Returns:
        The ``Checkpoint``.

    Raises:
        DataError: see ``read_checkpoint``; or a file of names of another length.
        ConfigError: the config is of another model, or of other data.
        UserError: the output holds something else.

    Example:
        >>> import_scent("checkpoints/epoch_50.pt", "runs/imported").epoch  # doctest: +SKIP
        50

    Reference: https://github.com/Optimization-AI/SCENT
    """
    checkpoint = read_checkpoint(path, epoch)
    if config is None:
        num_labels, dim = checkpoint.kernel.shape
        vocabulary = LabelVocabulary.of(names, num_labels)
        sizes: dict[str, Any] = {
            "feature_kind": DENSE.name,
            "num_features": dim,
            "num_labels": num_labels,
        }
        manifest = manifest_of("scent", split=split_of(()), **sizes)
        tree = {
            "run": str(output),
            "data": {"name": "scent", "train": "unknown", "where": _WHERE},
            "encoder": {"name": "precomputed"},
            "head": {"name": "sampled"},
            "objective": {"name": "softmax"},
        }
        config = parse_config(tree)
        model = build_model(config, **sizes)
        model.head.kernel.assign(checkpoint.kernel)
        with new_run(output) as run:
            run.write_config(config)
            run.write_assets(manifest, vocabulary)
            run.save_weights(model)
            run.write_summary(
                {"imported": str(checkpoint.path), "epochs": checkpoint.epoch, "dev": {}}
            )
    else:
        assert data_folder is not None, "the data of a training are prepared before"
        data_folder = Path(data_folder)
        manifest = Manifest.load(data_folder)
        _check(checkpoint, config, manifest)
        strategy = tf.distribute.get_strategy()  # checkpoints fit any
        with new_run(output) as run:
            start = _Start(checkpoint, manifest)
            trainer = TrainingJob(config, data_folder, run.path, start=start).trainer(strategy)
            resuming.start(RunFolder(run.path), config, data_folder)
            examples = manifest.split("train").examples
            batches = -(-checkpoint.epoch * examples // config.training.batch_size)
            step = min(batches, trainer.total_steps)
            epochs = math.ceil(config.training.epochs)
            trainer.model.objective.on_epoch(checkpoint.epoch + 1, epochs)
            trainer.step_function.step.assign(step)
            trainer.checkpoints.save(step)
            trainer.checkpoints.close()
    return checkpoint


class _Start(NamedTuple):
    """What the training begins with, before averages of the weights copy them."""

    checkpoint: Checkpoint
    manifest: Manifest

    def architecture(self) -> None:
        """Returns None: the encoder has no network."""

    def load_weights(self, model: "XCModel") -> None:
        """Gives the model the checkpoint's classifier and dual variables."""
        path, kernel, nu, _ = self.checkpoint
        head = model.head
        if head.bias is not None or head.score != "linear":
            raise ConfigError(
                "SCENT's classifier has score 'linear' and no bias, unlike this head",
                where="head",
                fix="remove score and bias",
            )
        tables = model.objective.tables
        name = type(model.objective).__name__
        if nu is not None and tables:
            self._check_rows(nu)
            tables[0].assign(nu)
        elif nu is not None:
            NOTES.warning(f"{path}: its dual variables are left out: objective {name} has none")
        elif tables:
            NOTES.warning(
                f"{path}: it has no dual variables: those of objective {name} start as not visited"
            )
        head.kernel.assign(kernel)

    def _check_rows(self, nu: np.ndarray) -> None:
        """Refuses data whose rows are not the dual variables'."""
        if self.manifest.layout != "feature_set":
            raise ConfigError(
                "the data are records, which are shuffled: the dual variables would belong to "
                "other examples",
                where="data.train",
                fix="import SCENT's train/features.pt and labels.pt with tfxc features import: a "
                "feature set keeps the order of its rows",
            )
        examples = self.manifest.split("train").examples
        if examples != len(nu):
            raise ConfigError(
                f"there are {examples:,} training examples, but {self.checkpoint.path} has "
                f"{len(nu):,} dual variables, one for each",
                where="data.train",
                fix="give the feature set of SCENT's train/features.pt and labels.pt",
            )


def _check(checkpoint: Checkpoint, config: Config, manifest: Manifest) -> None:
    """Refuses a config of another model or other data than the checkpoint's."""
    assert config.encoder and config.head, "the command has checked the config"
    if (config.encoder.name, config.head.name) != ("precomputed", "sampled"):
        raise ConfigError(
            f"a checkpoint of SCENT cannot continue with encoder {config.encoder.name!r} and head "
            f"{config.head.name!r}",
            where="head.name",
            fix="use encoder 'precomputed' and head 'sampled', as in configs/sox_glint360k.json",
        )
    shape = (manifest.num_labels, manifest.num_features)
    if shape != checkpoint.kernel.shape:
        num_labels, dim = checkpoint.kernel.shape
        raise ConfigError(
            f"the data have {shape[0]:,} labels and {shape[1]:,} features, but {checkpoint.path} "
            f"has {num_labels:,} and {dim:,}",
            where="data.train",
            fix="import SCENT's train/features.pt and labels.pt with tfxc features import, "
            "and the same --num-labels",
        )
    slots = get_optimizer(config.training.optimizer.section()).slot_names
    if slots:
        raise ConfigError(
            f"{config.training.optimizer.name!r} has a state ({', '.join(slots)}), which the "
            "checkpoint does not contain in a form that tfxc reads",
            where="training.optimizer",
            fix='set it to {"name": "sgd", "learning_rate": ...}, without momentum',
        )
    if checkpoint.epoch > config.training.epochs:
        raise ConfigError(
            f"{config.training.epochs:g} epochs are fewer than the {checkpoint.epoch} of "
            f"{checkpoint.path}",
            where="training.epochs",
            fix="raise it, or leave out --config for a finished run",
        )
