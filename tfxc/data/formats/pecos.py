"""A PECOS data folder: texts and/or a sparse feature matrix, and a sparse label matrix."""

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.chunk import Chunk
from tfxc.data.formats.base import Reader
from tfxc.data.kinds import IMAGE
from tfxc.data.parsing.label_checks import check_label_name
from tfxc.data.parsing.lines import Lines
from tfxc.ops.csr import load_sparse, sparse_shape

if TYPE_CHECKING:
    from tfxc.data.parsing.candidate import Candidate


_LABEL_FILES = ("Y.txt", "output-items.txt")


class PecosFolder(Reader):
    """Reads ``X.<split>.txt`` and/or ``X.<split>.npz`` with ``Y.<split>.npz``.

    ``X.<split>.txt`` holds one text per line, the ``.npz`` files SciPy sparse matrices: features
    (examples, num_features) and labels (examples, num_labels), of which every entry that is not
    zero counts as a label. With ``Y.txt`` or ``output-items.txt`` (one name per label) the labels
    are names, else ids. Chunks carry texts and features, as far as there are any. The matrices
    are held in memory while they are read.

    Args:
        path: the folder.
        split: the part of the file names between the dots; PECOS writes ``trn``, ``val``, ``tst``.
        labelled: if False, yields the examples without labels; ``Y.<split>.npz`` is optional.
        max_line_bytes: longest line of the texts.

    Raises:
        DataError: a file is missing, damaged or no sparse matrix, the numbers of examples or of
            label names disagree, a label name is empty or occurs twice, a feature is not finite.

    Source: https://github.com/amzn/pecos (the layout of its XMC data sets).

    Example:
        >>> reader = PecosFolder("eurlex-4k", split="tst")     # doctest: +SKIP
        >>> reader.num_examples, reader.num_labels             # doctest: +SKIP
        (3865, 3956)
    """

    summary = "a PECOS folder"
    specificity = 10

    @classmethod
    def recognises(cls, candidate: "Candidate") -> bool:
        if not candidate.is_folder or candidate.takes == IMAGE.name:
            return False
        return any(name.startswith("Y.") for name in candidate.files) or not candidate.has_images

    def __init__(
        self,
        path: str | Path,
        *,
        split: str = "trn",
        labelled: bool = True,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        super().__init__(path, max_line_bytes)
        if not self.path.is_dir():
            raise DataError(
                "a folder expected, found a file", where=self.path, fix="give its folder"
            )
        self._label_path = self._required(f"Y.{split}.npz") if labelled else None
        self._text_path = self._optional(f"X.{split}.txt")
        self._feature_path = self._optional(f"X.{split}.npz")
        if self._text_path is None and self._feature_path is None:
            self._required(f"X.{split}.txt", f"X.{split}.npz")
        self._counted = self._label_path or self._feature_path or self._text_path
        if self._label_path is not None:
            self.num_examples, self.num_labels = sparse_shape(self._label_path)
        elif self._feature_path is not None:
            self.num_examples, _ = sparse_shape(self._feature_path)
        else:
            self.num_examples = sum(1 for _ in self._texts())
        if self._feature_path is not None:
            rows, self.num_features = sparse_shape(self._feature_path)
            self._check_rows(rows, self._feature_path)

    def _read(self, size):
        labels, names = self._labels()
        features = load_sparse(self._feature_path) if self._feature_path else None
        texts = self._texts() if self._text_path else None
        for start in range(0, self.num_examples, size):
            rows = slice(start, start + size)
            chunk = Chunk(labels=_label_lists(labels[rows], names))
            if features is not None:
                chunk.features = self._checked(features[rows].astype(np.float32), start)
            if texts is not None:
                chunk.texts = list(itertools.islice(texts, len(chunk)))
                self._check_rows(start + len(chunk.texts), self._text_path, start + len(chunk))
            yield chunk
        if texts is not None:
            self._check_rows(self.num_examples + sum(1 for _ in texts), self._text_path)

    def _labels(self):
        """CSR (examples, labels), and the labels' names or None."""
        if self._label_path is None:
            return scipy.sparse.csr_matrix((self.num_examples, 0)), None
        labels = load_sparse(self._label_path)
        labels.eliminate_zeros()
        return labels, self._label_names()

    def _texts(self):
        return (line for _, line in Lines(self._text_path, self._lines.max_line_bytes).texts())

    def _checked(self, features, start):
        wrong = np.flatnonzero(~np.isfinite(features.data))
        if wrong.size:
            row = start + np.searchsorted(features.indptr, wrong[0], side="right")
            raise DataError(
                f"finite values expected, found NaN or infinity in row {row}",
                where=self._feature_path,
                fix="correct the value",
            )
        features.sum_duplicates()
        return features

    def _label_names(self):
        path = next(filter(None, map(self._optional, _LABEL_FILES)), None)
        if path is None:
            return None
        names = {}
        for number, name in Lines(path).texts():
            where = f"{path}:{number}"
            check_label_name(name, where)
            if name in names:
                raise DataError(
                    f"label name {name!r} occurs twice", where=where, fix="rename one of the two"
                )
            names[name] = number
        if len(names) != self.num_labels:
            raise DataError(
                f"{self.num_labels:,} label names, one for each column of "
                f"{self._label_path.name}, expected, found {len(names):,}",
                where=path,
                fix="give one name per line, for every column",
            )
        return np.array(list(names), dtype=object)

    def _check_rows(self, rows, path, expected=None):
        if rows != (self.num_examples if expected is None else expected):
            raise DataError(
                f"{self.num_examples:,} examples, one for each row of {self._counted.name}, "
                f"expected, found {rows:,}",
                where=path,
                fix="give the files of the same split",
            )

    def _optional(self, name):
        path = self.path / name
        return path if os.path.lexists(path) else None

    def _required(self, *names):
        paths = [path for path in map(self._optional, names) if path]
        if paths:
            return paths[0]
        found = sorted(file.name for file in self.path.iterdir())
        raise DataError(
            f"{' or '.join(names)} expected; the folder has {', '.join(found) or 'no files'}",
            where=self.path,
            fix="give the split as its files are named",
        )


def _label_lists(matrix, names):
    flat = (matrix.indices if names is None else names[matrix.indices]).tolist()
    splits = matrix.indptr.tolist()
    return [flat[start:end] for start, end in itertools.pairwise(splits)]
