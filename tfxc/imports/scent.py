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
from tfxc.data.kinds import DENSE
from tfxc.data.manifest import Manifest
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import build_model
from tfxc.pretrained.torch_files import TorchTensor, load_state_dict, load_torch
from tfxc.runs.folder import RunFolder
from tfxc.runs.writer import manifest_of, new_run, split_of
from tfxc.training.job import TrainingJob
from tfxc.training.optimization.optimizers import get_optimizer

if TYPE_CHECKING:
    from tfxc.model import XCModel

_WHERE = "The run was imported from SCENT, without its data: name a file with --data"
_NAME = re.compile(r"epoch_(\d+)\.pt")
_KERNEL = "fc.weight"


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
    """The checkpoint in a file, or the last one in a folder of them.

    Args:
        path: ``epoch_<e>.pt``, or the folder ``checkpoints`` of an experiment.
        epoch: which one of the folder; None for the last.

    Raises:
        DataError: there is none, or it is damaged or of another model; what it holds is named.

    Example:
        >>> read_checkpoint("outputs/sox/checkpoints").epoch  # doctest: +SKIP
        50
    """
    file = _file_of(Path(path), epoch)
    content, tensors = load_torch(file), load_state_dict(file)
    kernel = tensors.get(_KERNEL)
    if list(tensors) != [_KERNEL] or kernel is None or len(kernel.shape) != 2:
        found = ", ".join(f"{name} {tensor.shape}" for name, tensor in list(tensors.items())[:5])
        raise DataError(
            f"model_state with {_KERNEL} (labels, dim) alone expected, found {found}",
            where=file,
            fix="give a checkpoint of the linear classifier of SCENT's folder xc",
        )
    done = content.get("epoch")
    if type(done) is not int or done < 0:
        raise DataError(f"a number of finished epochs expected, found {done!r}", where=file)
    nu = content.get("criterion_nu")
    return Checkpoint(file, _floats(kernel), None if nu is None else _dual(nu, file), done)


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
    found = read_checkpoint(path, epoch)
    if config is None:
        _write_finished(found, output, names)
    else:
        assert data_folder is not None, "the data of a training are prepared before"
        _write_stopped(found, output, config, Path(data_folder))
    return found


def _file_of(path, epoch):
    if not path.is_dir():
        return path
    files = {int(m[1]): file for file in path.iterdir() if (m := _NAME.fullmatch(file.name))}
    if not files or epoch not in (None, *files):
        known = ", ".join(map(str, sorted(files))) or "none"
        wanted = "epoch_1.pt and so on" if epoch is None else f"epoch_{epoch}.pt"
        raise DataError(
            f"{wanted} expected, found epochs: {known}",
            where=path,
            fix="give a checkpoint, or the folder checkpoints of an experiment",
        )
    return files[max(files) if epoch is None else epoch]


def _floats(tensor):
    return np.asarray(tensor.array(), np.float32)


def _dual(nu, path):
    """The table; there 0.0 marks an example that has not been visited."""
    if not isinstance(nu, TorchTensor) or nu.shape[1:] not in ((), (1,)):
        found = nu.shape if isinstance(nu, TorchTensor) else type(nu).__name__
        raise DataError(f"criterion_nu (examples, 1) expected, found {found}", where=path)
    values = _floats(nu).reshape(-1)
    return np.where(values == 0.0, np.float32(math.nan), values)


def _write_finished(found, output, names):
    num_labels, dim = found.kernel.shape
    vocabulary = LabelVocabulary.of(names, num_labels)
    sizes = {"num_features": dim, "num_labels": num_labels}
    manifest = manifest_of("scent", split=split_of(()), feature_kind=DENSE.name, **sizes)
    tree = {
        "run": str(output),
        "data": {"name": "scent", "train": "unknown", "where": _WHERE},
        "encoder": {"name": "precomputed"},
        "head": {"name": "sampled"},
        "objective": {"name": "softmax"},
    }
    config = parse_config(tree)
    model = build_model(config, feature_kind=DENSE.name, **sizes)
    model.head.kernel.assign(found.kernel)
    with new_run(output) as run:
        run.write_config(config)
        run.write_assets(manifest, vocabulary)
        run.save_weights(model)
        run.write_summary({"imported": str(found.path), "epochs": found.epoch, "dev": {}})


def _write_stopped(found, output, config, data_folder):
    manifest = Manifest.load(data_folder)
    _check(found, config, manifest)
    strategy = tf.distribute.get_strategy()  # checkpoints fit any
    with new_run(output) as run:
        start = _Start(found, manifest)
        trainer = TrainingJob(config, data_folder, run.path, start=start).trainer(strategy)
        RunFolder(run.path).start(config, data_folder)
        examples, batch = manifest.split("train").examples, config.training.batch_size
        step = min(-(-found.epoch * examples // batch), trainer.total_steps)
        trainer.model.objective.on_epoch(found.epoch + 1, math.ceil(config.training.epochs))
        trainer.step_function.step.assign(step)
        trainer.checkpoints.save(step)
        trainer.checkpoints.close()


class _Start(NamedTuple):
    """What the training begins with, before averages of the weights copy them."""

    found: Checkpoint
    manifest: Manifest

    def architecture(self) -> None:
        """None: the encoder has no network."""

    def load_weights(self, model: "XCModel") -> None:
        """Gives the model the checkpoint's classifier and dual variables."""
        _check_dual(self.found, self.manifest, model)
        model.head.kernel.assign(self.found.kernel)
        if self.found.nu is not None and model.objective.tables:
            model.objective.tables[0].assign(self.found.nu)


def _check(found: Checkpoint, config: Config, manifest: Manifest) -> None:
    """Refuses a config of another model or other data than the checkpoint's."""
    assert config.encoder and config.head, "the command has checked the config"
    if (config.encoder.name, config.head.name) != ("precomputed", "sampled"):
        raise ConfigError(
            "encoder 'precomputed' and head 'sampled' expected to train on a checkpoint of SCENT, "
            f"found {config.encoder.name!r} and {config.head.name!r}",
            where="head.name",
            fix="start from a config such as configs/sox_glint360k.json",
        )
    shape = (manifest.num_labels, manifest.num_features)
    if shape != found.kernel.shape:
        raise ConfigError(
            f"data of {found.kernel.shape[0]:,} labels and {found.kernel.shape[1]:,} features, as "
            f"in {found.path}, expected, found {shape[0]:,} and {shape[1]:,}",
            where="data.train",
            fix="import SCENT's train/features.pt and labels.pt with tfxc features import, "
            "--num-labels as there",
        )
    slots = get_optimizer(config.training.optimizer.section()).slot_names
    if slots:
        raise ConfigError(
            "an optimizer without a state of its own, as SCENT's SGD, expected, found "
            f"{config.training.optimizer.name!r} with {', '.join(slots)}, which the checkpoint's "
            "state is not read into",
            where="training.optimizer",
            fix='set it to {"name": "sgd", "learning_rate": ...}, without momentum',
        )
    if found.epoch > config.training.epochs:
        raise ConfigError(
            f"at least the {found.epoch} epochs of {found.path} expected, found "
            f"{config.training.epochs:g}",
            where="training.epochs",
            fix="raise it, or leave out --config for a finished run",
        )


def _check_dual(found: Checkpoint, manifest: Manifest, model: Any) -> None:
    """Refuses a head with other scores, and data whose rows are not the dual variables'."""
    if model.head.bias is not None or model.head.score != "linear":
        raise ConfigError(
            "a head with score 'linear' and without bias, as SCENT's classifier, expected",
            where="head",
            fix="remove score and bias",
        )
    if found.nu is None or not model.objective.tables:
        _report_one_sided(found, model.objective)
        return
    examples = manifest.split("train").examples
    if manifest.layout != "feature_set":
        raise ConfigError(
            "a feature set expected, whose rows keep their order, found records, which are "
            "shuffled: the dual variables would belong to other examples",
            where="data.train",
            fix="import SCENT's train/features.pt and labels.pt with tfxc features import",
        )
    if examples != len(found.nu):
        raise ConfigError(
            f"{len(found.nu):,} training examples, one for each dual variable of {found.path}, "
            f"expected, found {examples:,}",
            where="data.train",
            fix="give the feature set of SCENT's train/features.pt and labels.pt",
        )


def _report_one_sided(found: Checkpoint, objective: Any) -> None:
    """Says so if only the checkpoint, or only the objective, has dual variables."""
    name = type(objective).__name__
    if found.nu is not None:
        text = f"its dual variables are left out: objective {name} has none"
    elif objective.tables:
        text = f"it has no dual variables: those of objective {name} start as not visited"
    else:
        return
    NOTES.warning(f"{found.path}: {text}")
