"""What trained runs say of every training example of another run's data."""

import functools
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from scipy.special import softmax

from tfxc import registry
from tfxc.data.held_out import open_split
from tfxc.data.preparation import CHUNK_EXAMPLES, CHUNK_IMAGES
from tfxc.data.rows import Rows
from tfxc.data.shard_writer import shuffled
from tfxc.errors import ConfigError, DataError
from tfxc.files import atomic_file
from tfxc.progress import Progress
from tfxc.recipes.runs import load_run


def write_teacher_logits(path, teachers, data, manifest, source, names, scratch, batch_size=64):
    """Writes the mean of the teachers' logits of every training example, unless it is there.

    Each teacher reads the raw training file with its own features or tokens. Labels go by name.

    Args:
        path: ``.npy`` file to write: float32 (examples, labels) in the order of ``source``.
        teachers: run folders.
        data: ``DataSettings`` of the student.
        manifest: ``Manifest`` of the student's data.
        source: the student's training split, a ``Source``.
        names: the student's label names by id.
        scratch: an existing folder for temporary files.
        batch_size: examples at a time.

    Raises:
        ConfigError: see ``teacher_columns``.
        DataError: the training file is not the one that was prepared.
    """
    path = Path(path)
    if path.exists():
        return
    order = reading_order(manifest, data, scratch)
    _check_order(source, data, names, order)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    shape = (source.num_examples, len(names))
    total = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
    try:
        for teacher in teachers:
            _add(total, load_run(teacher), teacher, data, names, place, batch_size, len(teachers))
        total.flush()
        temporary.rename(path)
    finally:
        del total
        temporary.unlink(missing_ok=True)


def reading_order(manifest, data, scratch):
    """Which example of the raw training file stands at each place of the prepared split.

    Preparation shuffles; the same shuffle is done once more with numbers in place of examples.

    Args:
        manifest, data: of the prepared set.
        scratch: an existing folder.

    Returns:
        int64 (examples,).

    Raises:
        DataError: images were left out, so that the numbers of the others are not known.
    """
    info = manifest.split("train")
    count = info.examples
    if info.corrupt_images:
        raise DataError(
            f"a training split without corrupt images expected, {info.corrupt_images:,} were left "
            "out",
            where=data.train,
            fix="remove them from the data",
        )
    if manifest.layout == "feature_set":
        return np.arange(count)
    # The shuffle depends on how many examples are read at a time.
    size = CHUNK_IMAGES if manifest.feature_kind == "image" else CHUNK_EXAMPLES

    def numbers():
        for first in range(0, count, size):
            part = np.arange(first, min(first + size, count))
            # Two halves: float32 holds whole numbers up to 2^24 only.
            matrix = np.stack([part >> 20, part & 0xFFFFF], axis=1)
            yield Rows.from_dense(matrix, [[]] * len(part))

    parts = shuffled(numbers(), len(info.shards), data.seed, scratch)
    matrix = np.concatenate([rows.matrix for rows in parts]).astype(np.int64)
    return (matrix[:, 0] << 20) + matrix[:, 1]


def _check_order(source, data, names, order):
    """Refuses a training file whose labels are not those that were prepared."""
    known = {name: number for number, name in enumerate(names)}
    labels = [
        sorted(known[str(label)] for label in row if str(label) in known)
        for chunk in open_split(data, "train").chunks(CHUNK_EXAMPLES)
        for row in chunk.labels
    ]
    first = 0
    fits = len(labels) == source.num_examples
    for batch in source.sequential(8192) if fits else ():
        for row, number in zip(
            batch["labels"], order[first : first + len(batch["labels"])], strict=True
        ):
            fits &= sorted(row[(row >= 0) & (row < len(names))].tolist()) == labels[number]
        first += len(batch["labels"])
    if not fits:
        raise DataError(
            "the training file that was prepared expected, found other examples or labels",
            where=data.train,
            fix="run prepare again",
        )


def _add(total, run, folder, data, names, place, batch_size, count):
    """Adds one teacher's logits, divided by the number of teachers."""
    columns = teacher_columns(run, folder, names)
    scores = tf.function(run.model.__call__, reduce_retracing=True)
    done = 0
    with Progress(f"asking {folder}", len(place), "examples") as progress:
        for rows in run.rows(open_split(data, "train"), CHUNK_EXAMPLES):
            order = rows.by_length()  # less padding
            for start in range(0, len(rows), batch_size):
                numbers = order[start : start + batch_size]
                features = tf.nest.map_structure(tf.constant, rows.take(numbers)["features"])
                found = scores(features).numpy()[:, columns]
                total[place[done + numbers]] += found.astype(np.float32) / count
                progress.advance(len(numbers))
            done += len(rows)


def teacher_columns(run, folder, names):
    """The teacher's column of each of the student's labels.

    Args:
        run: ``LoadedRun`` of the teacher; its model is not loaded.
        folder: its path, for messages.
        names: the student's label names by id.

    Returns:
        int64 (len(names),).

    Raises:
        ConfigError: the teacher lacks a label, or its head gives no score per label.
    """
    run.require("head", folder)
    if not registry.get("head", run.config.head.name).full_softmax:
        raise ConfigError(
            f"a teacher with a score for each label expected, its head "
            f"{run.config.head.name!r} has none",
            where=folder,
            fix="teach with a run of head 'dense'",
        )
    known = {name: number for number, name in enumerate(run.vocabulary.names)}
    missing = [name for name in names if name not in known]
    if missing:
        raise ConfigError(
            f"a teacher with the student's {len(names):,} labels expected, it lacks "
            f"{len(missing):,}, such as {missing[0]!r}",
            where=folder,
            fix="train the teacher on the same labels",
        )
    return np.array([known[name] for name in names])


def rows_of(path):
    """Function of example indices -> rows of a ``.npy`` file, mapped when first asked, not read."""
    mapped = functools.cache(lambda: np.load(path, mmap_mode="r"))
    return lambda index: np.asarray(mapped()[index], np.float32)


def confidence(path, temperature):
    """Mean of the highest probability that teachers give, at a temperature; softmax over a row.

    Args:
        path: what ``write_teacher_logits`` wrote; the first 10,000 examples count.
        temperature: positive.
    """
    logits = np.load(path, mmap_mode="r")[:10_000] / temperature
    return float(softmax(logits, axis=1).max(axis=1).mean())


def save_origin(path, teachers):
    """Writes down which teachers a file of logits is of."""
    with atomic_file(path) as stream:
        stream.write("".join(f"{teacher}\n" for teacher in teachers))
