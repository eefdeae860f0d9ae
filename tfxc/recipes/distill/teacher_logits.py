"""What trained runs predict for every training example of another run's data."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from scipy.special import softmax

from tfxc.core import registry
from tfxc.core.errors import ConfigError
from tfxc.core.escaping import json_text
from tfxc.core.progress import Progress
from tfxc.core.storage.files import atomic_file, write_json
from tfxc.core.storage.reading import read_json
from tfxc.data.reading.held_out import open_split
from tfxc.data.store.blocks.layout import CHUNK_EXAMPLES
from tfxc.data.store.records.reading_order import check_order, reading_order
from tfxc.data.store.row_writer import RemainingChunks, RowWriter
from tfxc.runs.loaded import fingerprint_of_run, load_run

if TYPE_CHECKING:
    from tfxc.core.settings import DataSettings
    from tfxc.data.sources.base import Source
    from tfxc.data.store.manifest import Manifest
    from tfxc.runs.loaded import LoadedRun


_BATCH = 64  # examples at a time, always the same ones together


def write_teacher_logits(
    path: str | Path,
    teachers: Sequence[str | Path],
    data: "DataSettings",
    manifest: "Manifest",
    source: "Source",
    names: Sequence[str],
    trust: bool = False,
) -> None:
    """Writes the mean of the teachers' logits of every training example; can be resumed.

    Each teacher reads the raw training file with its own features or tokens. Labels are matched by
    name. Nothing is done if the file exists and is of the same computation. With several teachers
    the sum of the logits of the finished ones is kept in a file of the same size, so that twice
    the space is needed.

    Args:
        path: ``.npy`` file to write: float32 (examples, labels) in the order of ``source``.
        teachers: run folders.
        data: ``DataSettings`` of the student.
        manifest: ``Manifest`` of the student's data.
        source: the student's training split, a ``Source``.
        names: the student's label names by id.
        trust: see ``LoadedRun``.

    Raises:
        ConfigError: see ``teacher_columns``.
        DataError: the training file is not the one that was prepared.
        MachineError: there is not enough space; found before a teacher predicts.
    """
    path = Path(path)
    computation = computation_of(teachers, manifest, names)
    if is_written(path, computation):
        return
    path.unlink(missing_ok=True)
    order = reading_order(manifest, data)
    check_order(_labels_of(source, len(names)), data, names, order)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    write_json(_origin(path), computation)
    options: dict[str, Any] = {
        "dtype": np.float32,
        "num_rows": len(order),
        "row_shape": (len(names),),
    }
    sums = _sums(path, len(teachers), computation)
    for number, (teacher, target) in enumerate(zip(teachers, [*sums, path], strict=True)):
        if target.exists():
            continue
        known = {**options, "computation": {**computation, "number": number}}
        with contextlib.ExitStack() as stack:
            total = stack.enter_context(RowWriter(target, **known))
            if sums and not number:  # the space of the next sum is there before any work as well
                following = {**options, "computation": None}
                stack.enter_context(RowWriter([*sums, path][1], **following))
            before = np.load(sums[number - 1], mmap_mode="r") if number else None
            run = load_run(teacher, trust)
            _add_logits(run, total, before, data, names, place, len(teachers))
        if number:
            sums[number - 1].unlink()


def computation_of(
    teachers: Sequence[str | Path], manifest: "Manifest", names: Sequence[str]
) -> dict[str, Any]:
    """Says what determines the bytes of the logits; arguments see ``write_teacher_logits``."""
    texts = {"data": manifest.model_dump_json(), "labels": json_text(list(names))}
    return {
        **{name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()},
        "teachers": [fingerprint_of_run(teacher) for teacher in teachers],
        "batch_size": _BATCH,
    }


def is_written(path: str | Path, computation: Mapping[str, Any]) -> bool:
    """Tells whether the file of logits is there and of this computation."""
    try:
        recorded = read_json(_origin(path))
    except (FileNotFoundError, ValueError):
        return False
    return recorded == computation and Path(path).exists()


def _origin(path: str | Path) -> Path:
    return Path(f"{path}.json")


def _sums(path: Path, count: int, computation: Mapping[str, Any]) -> list[Path]:
    """Names files of the sums over the first teachers; removes those of another computation."""
    text = json_text(computation, sort_keys=True)
    stem = f"{path.stem}-sum-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    for old in path.parent.glob(f"*{path.stem}-sum-*"):
        if stem not in old.name:
            old.unlink()
    return [path.with_name(f"{stem}-{number}.npy") for number in range(1, count)]


def _labels_of(source: "Source", num_labels: int) -> Iterator[np.ndarray]:
    """Yields the ids of each example's labels that are among the first ``num_labels``."""
    for batch in source.sequential(CHUNK_EXAMPLES):
        for row in batch["labels"]:
            yield row[(row >= 0) & (row < num_labels)]


def _add_logits(
    run: "LoadedRun",
    total: RowWriter,
    before: np.ndarray | None,
    data: "DataSettings",
    names: Sequence[str],
    place: np.ndarray,
    count: int,
) -> None:
    """Writes a teacher's logits, divided by the number of teachers and added to ``before``.

    Args:
        run: the teacher's.
        total: what is done in it is left out.
        before: (examples, labels) sum over the teachers before it, or None.
        data, names: see ``write_teacher_logits``.
        place: int (examples,), row of each example of the training file.
        count: number of teachers.
    """
    teacher = run.folder.path
    columns = teacher_columns(run, teacher, names)
    scores = tf.function(run.model.__call__, reduce_retracing=True, autograph=False)
    rest = RemainingChunks(
        open_split(data, "train"), lambda first, stop: total.done[place[first:stop]].all()
    )

    def compute(features: Mapping[str, Any] | np.ndarray, places: np.ndarray) -> np.ndarray:
        logits = scores(tf.nest.map_structure(tf.constant, features)).numpy()
        share = logits[:, columns].astype(np.float32) / count
        return share if before is None else before[places] + share

    start = int(total.done.sum())
    with Progress(f"predicting with {teacher}", len(place), "examples", start=start) as progress:
        for rows in run.rows(rest, CHUNK_EXAMPLES):
            first = rest.firsts.popleft()
            places = place[first : first + len(rows)]
            total.write_missing(rows, places, _BATCH, compute, progress)


def teacher_columns(run: "LoadedRun", folder: str | Path, names: Sequence[str]) -> np.ndarray:
    """Returns the teacher's column of each of the student's labels.

    Args:
        run: ``LoadedRun`` of the teacher; its model is not loaded.
        folder: its path, for messages.
        names: the student's label names by id.

    Returns:
        int64 (len(names),).

    Raises:
        ConfigError: the teacher lacks a label, or its head has no score per label.
    """
    run.require("head", folder)
    assert run.config.head is not None, "``require`` has asked for it"
    if not registry.get("head", run.config.head.name).full_softmax:
        raise ConfigError(
            f"head {run.config.head.name!r} has no score for each label, which a teacher needs",
            where=folder,
            fix="use a teacher with head 'dense'",
        )
    known = {name: number for number, name in enumerate(run.vocabulary.names)}
    missing = [name for name in names if name not in known]
    if missing:
        raise ConfigError(
            f"the teacher lacks {len(missing):,} of the student's {len(names):,} labels, such as "
            f"{missing[0]!r}",
            where=folder,
            fix="train the teacher on the same labels",
        )
    return np.array([known[name] for name in names])


def rows_of(path: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function of example indices -> rows of a ``.npy`` file, mapped when first asked."""
    mapped = functools.cache(lambda: np.load(path, mmap_mode="r"))
    return lambda index: np.asarray(mapped()[index], np.float32)


def confidence(path: str | Path, temperature: float) -> float:
    """Averages the highest probability that teachers give, at a temperature; softmax over a row.

    Args:
        path: what ``write_teacher_logits`` wrote; the first 10,000 examples count.
        temperature: positive.
    """
    logits = np.load(path, mmap_mode="r")[:10_000] / temperature
    return float(softmax(logits, axis=1).max(axis=1).mean())


def save_origin(path: str | Path, teachers: Sequence[str]) -> None:
    """Writes down which teachers a file of logits is of."""
    with atomic_file(path) as stream:
        stream.write("".join(f"{teacher}\n" for teacher in teachers))
