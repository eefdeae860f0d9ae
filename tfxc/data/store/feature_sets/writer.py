"""Writes feature sets so that a stopped writing resumes where it stopped."""

import contextlib
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.errors import ConfigError, DataError, UserError
from tfxc.core.escaping import json_text
from tfxc.core.storage import checksums
from tfxc.core.storage.files import ensured_parent, write_array, write_json
from tfxc.data.reading.parsing.feature_set import (
    FEATURES,
    FORMAT_VERSION,
    LABELS,
    NAMES,
    SETTINGS,
    TYPES,
    check_array,
    check_finite,
    check_labels,
    is_finished,
    load_settings,
)
from tfxc.data.reading.parsing.row_file import unfinished_files
from tfxc.data.store.row_writer import RowWriter
from tfxc.labels.vocabulary import LabelVocabulary

_FREE_SETTINGS = ("origin", "finished")
_MAX_LABELS = 2**31 - 1
_ANEW = "delete the folder and start again"


class FeatureWriter:
    """Fills a feature set row block by row block, in any order.

    A folder that was started with the same arguments is continued, by ``RowWriter``; the result is
    the same bytes whether or not the writing was interrupted. Use it as a context manager.

    Args:
        folder: the folder to write.
        labels: int (n,), one per row.
        num_features: length of the vectors.
        num_labels: number of labels.
        label_names: their names, or None.
        dtype: ``"float32"`` or ``"float16"``.
        settings: dict of whatever else determines the bytes of the features (the encoder, the batch
            size); a folder started with other ones is refused.
        origin: dict of what else is worth recording.

    Raises:
        ConfigError: an unknown type.
        DataError: labels out of range, none at all, or not as many names as labels.
        UserError: the folder was started with something else, or another process writes to it.
        MachineError: the disk is too small, or the folder cannot be written to.

    Example:
        >>> with FeatureWriter(folder, labels=[0, 1], num_features=8, num_labels=2) as writer:
        ...     writer.write(0, np.zeros((2, 8)))           # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        labels: Sequence[int] | np.ndarray,
        num_features: int,
        num_labels: int,
        label_names: Sequence[str] | None = None,
        dtype: str = "float32",
        settings: Mapping[str, Any] | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        if dtype not in TYPES:
            raise ConfigError(f"must be {' or '.join(TYPES)}, not {dtype!r}", where="dtype")
        self.folder = Path(folder)
        self.dtype = np.dtype(dtype)
        labels = np.asarray(labels)
        _check_labels(labels, num_labels, label_names, self.folder)
        self._labels = labels.astype(np.int32)
        self._names = label_names
        self.num_examples = len(self._labels)
        self.num_features = num_features
        # Through JSON, so that they equal what is loaded (tuples become lists).
        description = {
            "format_version": FORMAT_VERSION,
            "num_examples": self.num_examples,
            "num_features": num_features,
            "num_labels": num_labels,
            "dtype": dtype,
            "labels_sha256": hashlib.sha256(self._labels.tobytes()).hexdigest(),
            **(settings or {}),
            "origin": origin or {},
            "finished": False,
        }
        self.settings = json.loads(json_text(description))
        fixed = {key: value for key, value in self.settings.items() if key not in _FREE_SETTINGS}
        self._rows = RowWriter(
            self.folder / FEATURES,
            dtype=dtype,
            computation=fixed,
            num_rows=self.num_examples,
            row_shape=(num_features,),
        )
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "FeatureWriter":
        with ensured_parent(self.folder / FEATURES):
            begun = (self.folder / SETTINGS).exists()
            if begun:
                self._check_begun()
            else:
                arrays = [name for name in (FEATURES, LABELS) if (self.folder / name).exists()]
                unfinished = unfinished_files(self.folder / FEATURES)
                if arrays and not any(path.exists() for path in unfinished):
                    raise UserError(
                        f"the folder has arrays that tfxc did not write: {' and '.join(arrays)}",
                        where=self.folder,
                        fix="choose another folder; tfxc features import imports existing arrays",
                    )
            if not self.finished:
                with contextlib.ExitStack() as stack:
                    stack.enter_context(self._rows)
                    self._begin(begun)
                    self._open = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None and not self.finished and self.done.all():
                self.settings["finished"] = True
                self._save_settings()
        except BaseException:
            self._open.__exit__(*sys.exc_info())
            raise
        self._open.__exit__(*error)
        if error[0] is None and self.finished:
            self._finish()
        if error[0] is not None and not self.done.any():
            self._remove()

    @property
    def done(self) -> np.ndarray:
        """Which rows are in place, bool (n,)."""
        return np.ones(self.num_examples, bool) if self.finished else self._rows.done

    @property
    def finished(self) -> bool:
        """Whether the set is complete and marked so."""
        return self.settings["finished"]

    def is_done(self, start: int, stop: int) -> bool:
        """Tells whether the rows ``start`` to ``stop`` are all in place."""
        return self.finished or self._rows.is_done(start, stop)

    def write(self, start: int, rows: np.ndarray) -> None:
        """Puts rows, (count, num_features), in their place from ``start`` on.

        Raises:
            DataError: rows of another width, NaN or infinity (the row is named).
            MachineError: the disk is full.
        """
        with np.errstate(over="ignore"):  # what is too large for float16 is refused below
            rows = np.ascontiguousarray(rows, self.dtype)
        stop = start + len(rows)
        if rows.shape[1:] != (self.num_features,) or stop > self.num_examples:
            raise DataError(
                f"vectors {rows.shape} from row {start:,} on do not fit into "
                f"{self.num_examples:,} rows of length {self.num_features}",
                where=self.folder,
            )
        check_finite(rows.astype(np.float32, copy=False), start, self.folder)
        self._rows.write(start, rows)

    def _check_begun(self) -> None:
        old = load_settings(self.folder)
        changed = [
            key
            for key in sorted({*old, *self.settings} - {*_FREE_SETTINGS})
            if old.get(key) != self.settings.get(key)
        ]
        if changed:
            shown = ", ".join(f"{k} ({old.get(k)} -> {self.settings.get(k)})" for k in changed[:4])
            raise UserError(
                f"the folder has a feature set of other data or settings; changed: {shown}",
                where=self.folder,
                fix="choose another folder, or delete this one",
            )
        self.settings["finished"] = is_finished(self.folder, old)

    def _begin(self, begun: bool) -> None:
        """Writes the small files; the description comes last, so that where it is, all are."""
        if begun:
            labels = self.folder / LABELS
            check_array(labels, (self.num_examples,), np.dtype(np.int32), fix=_ANEW)
            return
        try:
            write_array(self.folder / LABELS, self._labels)
            if self._names is not None:
                LabelVocabulary(self._names).save(self.folder / NAMES)
            self._save_settings()
        except BaseException:
            self._remove()
            raise

    def _finish(self) -> None:
        """Records the checksums, also where an earlier process was killed just before."""
        if (self.folder / checksums.FILE).exists():
            return
        names = [FEATURES, LABELS, SETTINGS, *([NAMES] if self._names is not None else [])]
        checksums.record(self.folder, names)

    def _remove(self) -> None:
        """Removes the small files: of a set without a row nothing has to stay."""
        for name in (SETTINGS, NAMES, LABELS):
            (self.folder / name).unlink(missing_ok=True)

    def _save_settings(self) -> None:
        write_json(self.folder / SETTINGS, self.settings, indent=1)


def _check_labels(
    labels: np.ndarray, num_labels: int, names: Sequence[str] | None, where: str | Path
) -> None:
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
        raise DataError(
            f"the labels are {labels.dtype} {labels.shape} instead of one integer per example",
            where=where,
            fix="check the source and the reader's options",
        )
    if num_labels > _MAX_LABELS:
        problem = f"there are {num_labels:,} labels, more than {_MAX_LABELS:,}"
        raise DataError(problem, where=where, fix="number the labels from 0")
    check_labels(labels, num_labels, where)
    if names is not None and len(names) != num_labels:
        raise DataError(
            f"there are {len(names):,} label names for {num_labels:,} labels",
            where=where,
            fix="give one name per label",
        )
