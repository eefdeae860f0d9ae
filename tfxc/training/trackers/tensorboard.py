"""TensorBoard: event files in the run folder; the package tensorboard is needed to look at them."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.struct_pb2 import Value

from tfxc.core.protocol_buffers import bytes_field, double_field, integer_field
from tfxc.core.storage.files import write_errors
from tfxc.training.trackers.base import Tracker

_FOLDER = "tensorboard"
_PATTERN = "events.out.tfevents.*"
_PLUGIN = "hparams"
_START = "_hparams_/session_start_info"
_END = "_hparams_/session_end_info"
_SCALAR = 1  # TensorBoard reads the value as a scalar
_SUCCESS = 1
_FAILURE = 2


class TensorBoard(Tracker):
    """Writes scalars, and the config as hyperparameters (plugin HParams), to ``RUN/tensorboard``.

    A resumed run continues there: events after the step it resumes at are removed first.
    """

    _writer: Any = None

    def begin(self, parameters: Mapping[str, Any], start_step: int) -> None:
        folder = self.run / _FOLDER
        with write_errors(folder):
            for path in sorted(folder.glob(_PATTERN)):
                drop_later_events(path, start_step)
        described = any(folder.glob(_PATTERN))
        self._writer = tf.summary.create_file_writer(str(folder))
        if not described:
            # Hyperparameters by name (field 1, a map of struct values), group, and when it began.
            content = b""
            for name, value in parameters.items():
                if isinstance(value, bool):
                    struct_value = Value(bool_value=value)
                elif isinstance(value, int | float):
                    struct_value = Value(number_value=value)
                else:
                    struct_value = Value(string_value=value)
                entry = bytes_field(1, name.encode())
                entry += bytes_field(2, struct_value.SerializeToString())
                content += bytes_field(1, entry)
            content += bytes_field(4, self.title.encode()) + double_field(5, time.time())
            self._hyperparameters(_START, 3, content)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        # tf.summary.scalar needs the package tensorboard; this is what it calls.
        metadata = _metadata("scalars")
        metadata.data_class = _SCALAR
        with self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.write(name, tf.constant(value, tf.float32), metadata=metadata)

    def finish(self, finished: bool) -> None:
        status = _SUCCESS if finished else _FAILURE
        end = integer_field(1, status) + double_field(2, time.time())
        self._hyperparameters(_END, 4, end)
        self._writer.close()

    def _hyperparameters(self, tag: str, number: int, content: bytes) -> None:
        """Writes a message of the plugin; its classes are in the package tensorboard only."""
        metadata = _metadata(_PLUGIN, bytes_field(number, content))
        with self._writer.as_default(0):
            tf.summary.write(tag, 0.0, metadata=metadata)


def drop_later_events(path: Path, step: int) -> None:
    """Removes the events of an interrupted run after a step, and the file if none is left.

    Args:
        path: an event file, whose last record a kill may have cut short.
        step: the last one that stays; 0 leaves nothing.
    """
    if not step:
        path.unlink()
        return
    records = []
    complete = True
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            ended = any(value.tag == _END for value in event.summary.value)
            if event.step > step or ended:
                complete = False
            else:
                records.append(record)
    except tf.errors.DataLossError:
        complete = False
    if not complete:
        scratch = path.with_name(f".new-{path.name}")
        with tf.io.TFRecordWriter(str(scratch)) as writer:
            for record in records:
                writer.write(record)
        scratch.replace(path)


def _metadata(plugin: str, content: bytes = b"") -> Any:
    """Returns what says which part of TensorBoard shows a value, and what it is told."""
    kind = tf.compat.v1.SummaryMetadata
    return kind(plugin_data=kind.PluginData(plugin_name=plugin, content=content))
