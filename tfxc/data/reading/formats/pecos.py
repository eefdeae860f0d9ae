"""A PECOS data folder: texts and/or a sparse feature matrix, and a sparse label matrix."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.declared import Count
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import IMAGE
from tfxc.data.examples.lists import LabelLists
from tfxc.data.reading.formats.base import Reader
from tfxc.data.reading.parsing.feature_file import FeatureFile
from tfxc.data.reading.parsing.label_checks import check_label_name
from tfxc.data.reading.parsing.lines import UTF_8, Lines
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.parsing.sparse_file import ArrayFolder, is_array_folder, open_rows
from tfxc.labels.label_matrix import label_matrix
from tfxc.ops.csr import load_sparse, sparse_shape

_TRAIN = "trn"
_LABEL_FILES = ("Y.txt", "output-items.txt")


class PecosFolder(Reader):
    """Reads ``X.<split>.txt`` and/or ``X.<split>.npz`` with ``Y.<split>.npz``.

    ``X.<split>.txt`` holds one text per line, read as PECOS does: a lone carriage return ends a
    line too, what follows the first tab of a line is not part of its text, spaces are, and an empty
    line is an empty text. The features (examples, num_features) are a SciPy sparse matrix in
    ``X.<split>.npz`` or a dense one in ``X.<split>.npy``, the labels (examples, num_labels) a
    sparse matrix of which the entries above 0 are labels, see ``label_matrix``. In place of an
    ``.npz`` there may be a folder of the same name without the ending, with the arrays of a CSR
    matrix, ``data.npy``, ``indices.npy``, ``indptr.npy`` and ``shape.npy``, for matrices larger
    than memory: it is never read as a whole. With ``Y.txt`` or ``output-items.txt`` (one name per
    label) the labels are names, else ids. Chunks carry texts and features, as far as there are any.
    Sparse matrices in ``.npz`` are held in memory while they are read, but by preparation of
    folders without texts.

    Args:
        path: the folder.
        split: the part of the file names between the dots; PECOS writes ``trn``, ``val``, ``tst``.
        features: file of the features inside the folder, where it is another one: ``{split}`` in
            it stands for ``split``, as in ``"tfidf-attnxml/X.{split}.npz"``.
        labelled: if False, yields the examples without labels; ``Y.<split>.npz`` is optional.
        max_line_bytes: longest line of the texts.
        encoding: of the texts and the names of labels, a name that Python knows.

    Raises:
        DataError: a file is missing or damaged, or files do not have a row for each example.
        ConfigError: ``features`` leads out of the folder, or Python knows no such ``encoding``.

    Source: https://github.com/amzn/pecos (the layout of its XMC data sets).

    Example:
        >>> reader = PecosFolder("eurlex-4k", split="tst")     # doctest: +SKIP
        >>> reader.num_examples, reader.num_labels             # doctest: +SKIP
        (3865, 3956)
    """

    summary = "a PECOS folder"
    num_examples: int
    specificity = 10

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        if not probe.is_folder or probe.input_kind == IMAGE.name:
            return False
        if any(name.startswith(("X.", "Y.")) for name in probe.files):
            return True
        folders = (name for name in probe.folders if name.startswith(("X.", "Y.")))
        return any(is_array_folder(probe.path / name) for name in folders)

    @classmethod
    def splits_of(cls, path: Path) -> list[str]:
        folders = (folder.name[2:] for folder in path.glob("Y.*") if is_array_folder(folder))
        splits = sorted({*folders, *(file.name[2:-4] for file in path.glob("Y.*.npz"))})
        return [] if splits == [_TRAIN] else splits

    def __init__(
        self,
        path: str | Path,
        *,
        split: str = _TRAIN,
        features: str | None = None,
        labelled: bool = True,
        max_line_bytes: Count = MAX_LINE_BYTES,
        encoding: str | None = UTF_8,
    ) -> None:
        super().__init__(path, max_line_bytes, encoding)
        self._encoding = encoding
        if not self.path.is_dir():
            raise DataError("this is a file", where=self.path, fix="give the folder it is in")
        self._label_path = self._required(f"Y.{split}.npz", f"Y.{split}") if labelled else None
        self._label_folder: ArrayFolder | None = None
        self._text_path = self._optional(f"X.{split}.txt")
        self._features = self._feature_file(split, features)
        if self._text_path is None and self._features is None:
            self._required(f"X.{split}.txt", f"X.{split}.npz")
        feature_path = None if self._features is None else self._features.path
        counted = self._label_path or feature_path or self._text_path
        assert counted is not None, "one of them is required"
        self._counted = counted
        if self._label_path is not None:
            if self._label_path.is_dir():
                self._label_folder = ArrayFolder(self._label_path)
                self.num_examples, self.num_labels = self._label_folder.shape
            else:
                self.num_examples, self.num_labels = sparse_shape(self._label_path)
        elif self._features is not None:
            self.num_examples = self._features.num_examples
        else:
            self.num_examples = sum(1 for _ in self._texts())
        if self._features is not None:
            self.num_features = self._features.num_features
            self._check_rows(self._features.num_examples, self._features.path)

    def _feature_file(self, split: str, named: str | None) -> FeatureFile | None:
        """Returns the ``FeatureFile`` of the split, or None."""
        if named is None:
            names = (f"X.{split}.npz", f"X.{split}.npy", f"X.{split}")
            path = next(filter(None, map(self._optional, names)), None)
            return None if path is None else FeatureFile(path)
        name = Path(named.replace("{split}", split))
        if name.is_absolute() or ".." in name.parts:
            raise ConfigError(
                f"{named!r} is not a file inside {self.path}",
                where="features",
                fix="put it there, or name the file of a prediction with --features",
            )
        return FeatureFile(self._required(str(name)))

    def _read(self, size: int) -> Iterator[Chunk]:
        labels_of = self._labels()
        assert labels_of is not None, "the matrix is read as a whole"
        rows_of = None if self._features is None else self._features.open()
        texts = self._texts() if self._text_path else None
        for start in range(0, self.num_examples, size):
            chunk = Chunk(labels=labels_of(start, start + size))
            if rows_of is not None:
                chunk.features = rows_of(start, start + size)
            if texts is not None and self._text_path is not None:
                chunk.texts = list(itertools.islice(texts, len(chunk)))
                self._check_rows(start + len(chunk.texts), self._text_path, start + len(chunk))
            yield chunk
        if texts is not None and self._text_path is not None:
            self._check_rows(self.num_examples + sum(1 for _ in texts), self._text_path)

    def ranges(self, folder: Path) -> Callable[[int, int], Chunk] | None:
        if self._text_path is not None or self._features is None or self._label_path is None:
            return None
        features = self._features.ranges(folder)
        labels_of = self._labels(folder)
        if features is None or labels_of is None:
            return None
        return lambda start, stop: Chunk(
            labels=labels_of(start, stop), features=features(start, stop)
        )

    def _labels(self, scratch: Path | None = None) -> Callable[[int, int], LabelLists] | None:
        """Returns a function of the first row and the one after the last -> ``LabelLists``.

        Args:
            scratch: folder in which an ``.npz`` is opened row by row; None reads it as a whole.

        Returns:
            None if there is such a folder, and the matrix cannot be opened so.
        """
        if self._label_path is None:
            return lambda start, stop: LabelLists.none(min(stop, self.num_examples) - start)
        path = self._label_path
        names = self._label_names(path)
        rows: Callable[[int, int], Any] | None
        if self._label_folder is not None:
            rows = self._label_folder.rows
        elif scratch is not None:
            rows = open_rows(path, scratch)
        else:
            labels = label_matrix(load_sparse(path), path)
            lists = LabelLists(labels.indptr, labels.indices, names)
            return lambda start, stop: lists[start:stop]

        if rows is None:
            return None
        rows_between = rows

        def read(start: int, stop: int) -> LabelLists:
            labels = label_matrix(rows_between(start, stop), path, start)
            return LabelLists(labels.indptr, labels.indices, names)

        return read

    def _texts(self) -> Iterator[str]:
        assert self._text_path is not None
        lines = Lines(self._text_path, self._lines.max_line_bytes, True, self._encoding)
        return (line.split("\t", 1)[0] for _, line in lines.texts())

    def _label_names(self, label_path: Path) -> np.ndarray | None:
        path = next(filter(None, map(self._optional, _LABEL_FILES)), None)
        if path is None:
            return None
        names: dict[str, int] = {}
        for number, name in Lines(path, encoding=self._encoding).texts():
            where = f"{path}:{number}"
            check_label_name(name, where)
            if name in names:
                raise DataError(
                    f"label name {name!r} occurs twice", where=where, fix="rename one of the two"
                )
            names[name] = number
        if len(names) != self.num_labels:
            raise DataError(
                f"the file has {len(names):,} label names, {label_path.name} "
                f"{self.num_labels:,} columns",
                where=path,
                fix="give one name per line, for every column",
            )
        return np.array(list(names), dtype=object)

    def _check_rows(self, rows: int, path: Path, wanted: int | None = None) -> None:
        if rows != (self.num_examples if wanted is None else wanted):
            raise DataError(
                f"the file has {rows:,} examples, {self._counted.name} {self.num_examples:,}",
                where=path,
                fix="give files of the same split",
            )

    def _optional(self, name: str) -> Path | None:
        path = self.path / name
        return path if os.path.lexists(path) else None

    def _required(self, *names: str) -> Path:
        paths = [path for path in map(self._optional, names) if path]
        if paths:
            return paths[0]
        files = sorted(file.name for file in self.path.iterdir())
        raise DataError(
            f"the folder has no {' or '.join(names)}, only {', '.join(files) or 'nothing'}",
            where=self.path,
            fix="give the split as its files are named",
        )
