"""Writes feature sets so that a stopped writing goes on where it was."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np

from tfxc import checksums
from tfxc.data.feature_set import (
    DONE,
    FEATURES,
    FORMAT_VERSION,
    LABELS,
    NAMES,
    SETTINGS,
    TYPES,
    array_header,
    check_array,
    check_finite,
    check_labels,
    load_settings,
)
from tfxc.errors import ConfigError, DataError, UserError
from tfxc.escaping import json_text
from tfxc.files import atomic_file, write_errors, write_json
from tfxc.labels.vocabulary import LabelVocabulary

# What a kill -9 or a power cut can cost is the work of this time.
_SECONDS_BETWEEN_FLUSHES = 20.0
_FREE = ("origin", "finished")
_MOST_LABELS = 2**31 - 1
_ANEW = "delete the folder and start again"


class FeatureWriter:
    """Fills a feature set row block by row block, in any order.

    Rows count as done once they are on the disk: the features are synchronised before the bitmap
    says so. A folder that was begun with the same arguments is gone on with; the result is the
    same bytes whether or not the writing was interrupted. Use it as a context manager.

    Args:
        folder: the folder to write.
        labels: int (n,), one per row.
        num_features: length of the vectors.
        num_labels: number of labels.
        label_names: their names, or None.
        dtype: ``"float32"`` or ``"float16"``.
        settings: dict of whatever else decides the bytes of the features (the encoder, the batch
            size); a folder begun with other ones is refused.
        origin: dict of what else is worth telling.

    Raises:
        ConfigError: an unknown type.
        DataError: labels out of range, none at all, or not as many names as labels.
        UserError: the folder was begun with something else, another process writes to it, the
            disk is too small, or the folder cannot be written to.

    Example:
        >>> with FeatureWriter(folder, labels=[0, 1], num_features=8, num_labels=2) as writer:
        ...     writer.write(0, np.zeros((2, 8)))           # doctest: +SKIP
    """

    def __init__(
        self, folder, *, labels, num_features, num_labels, label_names=None, dtype="float32",
        settings=None, origin=None,
    ):  # fmt: skip
        if dtype not in TYPES:
            raise ConfigError(f"one of {', '.join(TYPES)} expected, found {dtype!r}", where="dtype")
        self.folder, self.dtype = Path(folder), np.dtype(dtype)
        self._labels = _checked_labels(labels, num_labels, label_names, self.folder)
        self._names = label_names
        self.num_examples, self.num_features = len(self._labels), num_features
        # Through JSON, so that they equal what is loaded (tuples become lists).
        self.settings = json.loads(json_text({
            "format_version": FORMAT_VERSION,
            "num_examples": self.num_examples, "num_features": num_features,
            "num_labels": num_labels, "dtype": dtype,
            "labels_sha256": hashlib.sha256(self._labels.tobytes()).hexdigest(),
            **(settings or {}), "origin": origin or {}, "finished": False,
        }))  # fmt: skip
        header = array_header((self.num_examples, num_features), self.dtype)
        self._offset, self._row_bytes = len(header), num_features * self.dtype.itemsize
        self._file = None
        self.done = np.zeros(self.num_examples, bool)

    def __enter__(self):
        with write_errors(self.folder):
            begun = (self.folder / SETTINGS).exists()
            if begun:
                self._check_begun()
            if not self.finished:
                self._open(begun)
            elif not (self.folder / checksums.FILE).exists():  # killed just before
                self._finish()
        return self

    def __exit__(self, error_type, *_):
        if self._file is not None:
            with write_errors(self.folder):
                self.flush()
                if error_type is None and self.done.all():
                    self._finish()
            os.close(self._file)
            self._file = None

    @property
    def finished(self):
        """Whether the set is complete and marked so."""
        return self.settings["finished"]

    def is_done(self, start, stop):
        """Whether the rows ``start`` to ``stop`` are all in place."""
        return bool(self.done[start:stop].all())

    def write(self, start, rows):
        """Puts rows, (count, num_features), in their place from ``start`` on.

        Raises:
            DataError: rows of another width, NaN or infinity (the row is named).
            UserError: the disk is full.
        """
        with np.errstate(over="ignore"):  # what is too large for float16 is refused below
            rows = np.ascontiguousarray(rows, self.dtype)
        stop = start + len(rows)
        if rows.shape[1:] != (self.num_features,) or stop > self.num_examples:
            raise DataError(
                f"vectors of length {self.num_features} for rows up to {self.num_examples:,} "
                f"expected, found {rows.shape} from row {start:,} on",
                where=self.folder,
            )
        check_finite(rows.astype(np.float32, copy=False), start, self.folder)
        view = memoryview(rows.reshape(-1).view(np.uint8))
        place = self._offset + start * self._row_bytes
        with write_errors(self.folder):
            while len(view):
                count = os.pwrite(self._file, view, place)
                view, place = view[count:], place + count
        self.done[start:stop] = True
        if time.monotonic() - self._flushed > _SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def flush(self):
        """Brings the features, and then what is known to be done, to the disk."""
        os.fsync(self._file)
        _write_array(self.folder / DONE, np.packbits(self.done))
        self._flushed = time.monotonic()

    def _check_begun(self):
        old = load_settings(self.folder)
        changed = [
            key
            for key in sorted({*old, *self.settings} - {*_FREE})
            if old.get(key) != self.settings.get(key)
        ]
        if changed:
            shown = ", ".join(f"{k} ({old.get(k)} -> {self.settings.get(k)})" for k in changed[:4])
            raise UserError(
                f"holds a feature set of something else; changed: {shown}",
                where=self.folder,
                fix="choose another folder, or delete this one",
            )
        self.settings["finished"] = old["finished"]
        if old["finished"]:
            self.done[:] = True

    def _open(self, begun):
        path, sizes = self.folder / FEATURES, (self.num_examples, self.num_features)
        if begun:
            check_array(path, sizes, self.dtype, fix=_ANEW)
            check_array(self.folder / LABELS, sizes[:1], np.dtype(np.int32), fix=_ANEW)
        else:
            self._refuse_strangers()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._flushed = time.monotonic()
        try:
            self._lock()
            if begun:
                self.done = _load_done(self.folder, self.num_examples)
                return
            self._begin()
        except BaseException:
            os.close(self._file)
            self._file = None
            raise

    def _refuse_strangers(self):
        """Refuses a file in the folder's place, and arrays that no writer of this kind has made."""
        found = [name for name in (FEATURES, LABELS) if (self.folder / name).exists()]
        found = [name for name in found if (self.folder / name).stat().st_size]
        if self.folder.is_file() or (found and not (self.folder / DONE).exists()):
            raise UserError(
                f"a new folder expected, found {' and '.join(found) or 'a file'}",
                where=self.folder,
                fix="choose another folder; tools/import_features.py takes arrays over",
            )

    def _lock(self):
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "another process is writing this feature set", where=self.folder, fix="wait for it"
            ) from None

    def _begin(self):
        """Makes the files; the description comes last, so that where it is, all are."""
        size = self._offset + self.num_examples * self._row_bytes
        free = shutil.disk_usage(self.folder).free
        if size > free:
            (self.folder / FEATURES).unlink()
            raise UserError(
                f"{size / 1e9:,.1f} GB are needed, {free / 1e9:,.1f} GB are free",
                where=self.folder,
                fix="choose another folder, or store float16",
            )
        self.flush()  # from here on the folder is known to be ours
        header = array_header((self.num_examples, self.num_features), self.dtype)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, header, 0)
        os.ftruncate(self._file, size)
        _write_array(self.folder / LABELS, self._labels)
        if self._names is not None:
            LabelVocabulary(self._names).save(self.folder / NAMES)
        os.fsync(self._file)
        self._save_settings()

    def _finish(self):
        self.settings["finished"] = True
        self._save_settings()
        names = [FEATURES, LABELS, SETTINGS, *([NAMES] if self._names is not None else [])]
        checksums.record(self.folder, names)
        (self.folder / DONE).unlink(missing_ok=True)

    def _save_settings(self):
        write_json(self.folder / SETTINGS, self.settings, indent=1)


def _checked_labels(labels, num_labels, names, where):
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
        raise DataError(
            f"one label (a whole number) per example expected, found {labels.dtype} {labels.shape}",
            where=where,
            fix="check the source and the reader's options",
        )
    if num_labels > _MOST_LABELS:
        problem = f"at most {_MOST_LABELS:,} labels expected, found {num_labels:,}"
        raise DataError(problem, where=where, fix="number the labels from 0 on")
    check_labels(labels, num_labels, where)
    if names is not None and len(names) != num_labels:
        raise DataError(f"{num_labels:,} label names expected, found {len(names):,}", where=where)
    return labels.astype(np.int32)


def _load_done(folder, num_examples):
    with contextlib.suppress(OSError, ValueError):
        done = np.unpackbits(np.load(folder / DONE), count=num_examples).astype(bool)
        if len(done) == num_examples:
            return done
    raise DataError(
        "missing or damaged: which rows are in place is not known",
        where=folder / DONE,
        fix=_ANEW,
    )


def _write_array(path, array):
    stream = io.BytesIO()
    np.save(stream, array)
    with atomic_file(path, "wb") as target:
        target.write(stream.getvalue())
