"""Keras callbacks: which hooks are called, when, and that they change nothing."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tests import tiny
from tests.training.test_resume import Killed, dies_after
from tfxc.core.errors import ConfigError
from tfxc.estimator.classifier import XCClassifier
from tfxc.training.callbacks import Callbacks

# 203 examples, 16 of them in a batch: epochs of 12.6875 batches.
SETTINGS = {"training": {"epochs": 3, "evaluate_every": 13}}


class Recorder(keras.callbacks.Callback):
    """Writes down what is called."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("begin")

    def on_train_end(self, logs=None):
        self.calls.append("end")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("epoch", epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("epoch end", epoch, dict(logs)))

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(("batch", batch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("batch end", batch, dict(logs)))


def with_callbacks(callbacks):
    """A fault for ``tiny.train``: the training calls these."""

    def changed(trainer):
        fit = trainer.fit
        trainer.fit = lambda *arguments: fit(*arguments, callbacks=callbacks)

    return changed


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder, recorder = tmp_path_factory.mktemp("callbacks"), Recorder()
    history = keras.callbacks.History()
    trainer = tiny.train(folder, "whole", with_callbacks([recorder, history]), **SETTINGS)
    return folder, tiny.weights(trainer), recorder, history


def test_hooks_and_their_order(recorded):
    _, _, recorder, history = recorded
    calls, first = recorder.calls, [call[:2] for call in recorder.calls[1:-1]]
    assert recorder.params == {"epochs": 3, "steps": 13} and calls[0] == "begin"
    assert calls[-1] == "end" and recorder.model.head.num_labels == tiny.NUM_LABELS
    expected = []
    for epoch in range(3):
        expected.append(("epoch", epoch))
        for batch in range(13):
            expected += [("batch", batch), ("batch end", batch)]
        expected.append(("epoch end", epoch))
    assert first == expected
    ends = [call[2] for call in calls if call[0] == "epoch end"]
    losses = [call[2]["loss"] for call in calls if call[0] == "batch end"]
    assert [logs["loss"] for logs in ends] == losses[12::13]
    assert history.history["val_P@1"] == [logs["val_P@1"] for logs in ends]
    assert history.history["val_P@1"][0] < history.history["val_P@1"][2]


def test_they_change_nothing_and_a_resumed_training_calls_them_again(recorded):
    """Without any up to the kill; then from the last checkpoint on, that of step 14."""
    folder, weights, whole, _ = recorded
    resumed = Recorder()
    with pytest.raises(Killed):
        tiny.train(folder, "killed", dies_after(20), **SETTINGS)
    found = tiny.weights(tiny.train(folder, "killed", with_callbacks([resumed]), **SETTINGS))
    for one, other in zip(weights, found, strict=True):
        np.testing.assert_array_equal(one, other)
    batches = [place for place, call in enumerate(whole.calls) if call[0] == "batch"]
    expected = whole.calls[batches[14] :]
    assert resumed.calls[0] == "begin" and resumed.calls[1:] == expected


@pytest.mark.parametrize(
    ("callback", "problem"),
    [
        (keras.callbacks.ReduceLROnPlateau(), "ReduceLROnPlateau.*Set training.schedule"),
        (keras.callbacks.LearningRateScheduler(lambda epoch: 0.1), "Set training.schedule"),
        (keras.callbacks.EarlyStopping(), "Set training.early_stopping"),
        (keras.callbacks.ModelCheckpoint("a.keras"), "training.keep"),
        (keras.callbacks.ProgbarLogger(), "on_.* of ProgbarLogger is not a training hook"),
        (print, "builtin_function_or_method is not a Keras callback"),
    ],
)
def test_what_changes_a_training_is_refused(callback, problem):
    with pytest.raises(ConfigError, match=f"callbacks: .*{problem}"):
        Callbacks([callback], None, 1, 20, 10)


class Impatient(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def test_one_that_stops_the_training_is_refused():
    callbacks = Callbacks([Impatient()], SimpleNamespace(), 3, 20, 10)
    callbacks.begin()
    callbacks.after(1, 0.5, {})
    with pytest.raises(ConfigError, match="Impatient stops the training"):
        callbacks.after(2, 0.5, {})


def test_the_estimator_takes_them():
    texts, labels = ["red fox", "blue sea"] * 4, ["a", "b"] * 4
    history = keras.callbacks.History()
    model = XCClassifier(objective="softmax", epochs=3, batch_size=4)
    model.fit(texts, labels, callbacks=[history])
    assert len(history.history["loss"]) == 3
    with pytest.raises(
        ConfigError, match="callbacks: recipe 'xr_linear' does not take this argument"
    ):
        XCClassifier(recipe="xr_linear").fit(texts, labels, callbacks=[history])


def test_functions_get_their_logs_at_every_hook():
    calls = []
    watched = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: calls.append(("begin", logs)),
        on_epoch_begin=lambda epoch, logs: calls.append((epoch, logs)),
        on_train_end=lambda logs: calls.append(("end", logs)),
    )
    training = Callbacks([watched], None, 1, num_examples=20, batch_size=10)
    training.begin()
    training.before(0)
    training.end()
    assert calls == [("begin", {}), (0, {}), ("end", {})]
