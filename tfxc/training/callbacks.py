"""Keras callbacks that watch a training."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import keras

from tfxc.core.errors import ConfigError

if TYPE_CHECKING:
    from tfxc.model import XCModel

_KERAS = keras.callbacks
# Those that change a training, and what does the same here and is saved with the run.
_INSTEAD = {
    _KERAS.BackupAndRestore: "leave it out: a stopped training resumes by itself",
    _KERAS.EarlyStopping: "set training.early_stopping",
    _KERAS.LearningRateScheduler: "set training.schedule",
    _KERAS.ModelCheckpoint: "leave it out and set training.keep and training.keep_checkpoints",
    _KERAS.ReduceLROnPlateau: "set training.schedule",
    _KERAS.SwapEMAWeights: "use the technique 'ema'",
    _KERAS.TensorBoard: "set training.trackers",
    _KERAS.TerminateOnNaN: "leave it out: a loss that is not finite ends the training",
}
_HOOKS = (
    "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_train_batch_begin",
    "on_train_batch_end", "on_batch_begin", "on_batch_end",
)  # fmt: skip


class Callbacks:
    """Calls the hooks of Keras callbacks: of the training, its epochs and its batches.

    ``on_epoch_end`` gets the loss of the epoch's last batch and, as ``val_NAME``, the dev metrics
    measured last; ``on_train_batch_end`` the batch's loss. Epochs and batches count from 0, batches
    within their epoch; a batch at the border of two epochs belongs to the first, and a last epoch
    that is cut short has no end. Of several workers, each calls its own.

    A callback may watch a training and not change it: nothing of it is saved, so a resumed training
    would differ from one that was never stopped. A resumed training begins with ``on_train_begin``
    and goes on with the batch behind its checkpoint; hooks of batches behind the checkpoint that
    were called before a kill are called again.

    Args:
        callbacks: ``keras.callbacks.Callback``s.
        model: the ``XCModel`` that is trained, which they see as ``self.model``.
        epochs: of the training.
        num_examples: of an epoch.
        batch_size: examples of a batch.

    Raises:
        ConfigError: something else, one of Keras's that changes the training, or one with hooks
            that are never called here.

    Example:
        >>> from keras.callbacks import LambdaCallback
        >>> shown = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
        >>> Callbacks([shown], None, 1, num_examples=20, batch_size=10).after(2, 0.5, {"P@1": 0.25})
        0 {'loss': 0.5, 'val_P@1': 0.25}
    """

    def __init__(
        self,
        callbacks: "Iterable[keras.callbacks.Callback]",
        model: "XCModel | None",
        epochs: float,
        num_examples: int,
        batch_size: int,
    ) -> None:
        self._callbacks = list(callbacks)
        self._num_examples = num_examples
        self._batch_size = batch_size
        steps = math.ceil(num_examples / batch_size)
        for callback in self._callbacks:
            _check(callback)
            callback.set_params({"epochs": math.ceil(epochs), "steps": steps})
            callback.set_model(model)
        self._model = model

    def __bool__(self):
        """Tells whether there are any."""
        return bool(self._callbacks)

    def begin(self) -> None:
        """Tells the callbacks that training begins, or is resumed."""
        if self._model is not None:
            self._model.stop_training = False
        self._call("on_train_begin", {})

    def before(self, step: int) -> None:
        """Tells the callbacks that the batch after ``step`` batches of the training is next."""
        epoch, batch = self._place(step)
        if batch == 0:
            self._call("on_epoch_begin", epoch, {})
        self._call("on_train_batch_begin", batch, {})

    def after(self, step: int, loss: float | None, measured: Mapping[str, float]) -> None:
        """Tells the callbacks that ``step`` batches are trained, the last one measured and logged.

        Args:
            step: how many, in the whole training.
            loss: of the last one.
            measured: the dev metrics measured last.

        Raises:
            ConfigError: a callback wants to stop the training.
        """
        epoch, batch = self._place(step - 1)
        self._call("on_train_batch_end", batch, {"loss": loss})
        if self._place(step)[1] == 0:
            logs = {f"val_{name}": value for name, value in measured.items()}
            self._call("on_epoch_end", epoch, {"loss": loss, **logs})

    def end(self) -> None:
        """Tells the callbacks that training is finished."""
        self._call("on_train_end", {})

    def _place(self, step: int) -> tuple[int, int]:
        """Returns the epoch of the batch with this number, and the batch's number within it."""
        epoch = step * self._batch_size // self._num_examples
        first = -(-epoch * self._num_examples // self._batch_size)  # rounded up
        return epoch, step - first

    def _call(self, hook: str, *arguments: object) -> None:
        for callback in self._callbacks:
            getattr(callback, hook)(*arguments)
            if getattr(self._model, "stop_training", False):
                raise ConfigError(
                    f"{type(callback).__name__} stops the training, which callbacks only watch",
                    where="callbacks",
                    fix="set training.early_stopping or training.epochs",
                )


def _check(callback: object) -> None:
    if not isinstance(callback, _KERAS.Callback):
        raise ConfigError(
            f"{type(callback).__name__} is not a Keras callback",
            where="callbacks",
            fix="derive it from keras.callbacks.Callback",
        )
    for known, fix in _INSTEAD.items():
        if isinstance(callback, known):
            raise ConfigError(
                f"{type(callback).__name__} changes the training, and a resumed training would "
                "not repeat that",
                where="callbacks",
                fix=fix,
            )
    for name in dir(_KERAS.Callback):
        overridden = getattr(type(callback), name) is not getattr(_KERAS.Callback, name)
        if name.startswith("on_") and name not in _HOOKS and overridden:
            raise ConfigError(
                f"{name} of {type(callback).__name__} is not a training hook: it is never called",
                where="callbacks",
                fix=f"use {', '.join(_HOOKS[:6])}",
            )
