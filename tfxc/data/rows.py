"""Examples in memory: features of one kind and CSR label lists, gathered without a loop."""

import itertools

import numpy as np
import scipy.sparse

from tfxc.data.lists import gather_lists, joined_files, pad_labels, pad_tokens, slice_lists

# The features of each kind: an array with an entry per example, or bounds and lists between them.
_GROUPS = {
    "sparse": (("indptr", "indices", "values"),),
    "dense": (("matrix",),),
    "tokens": (("indptr", "tokens"),),
    "joined": (("indptr", "indices", "values"), ("token_indptr", "tokens")),
    "pixels": (("images",),),
    "encoded": (("indptr", "content"),),
}
#: The arrays that hold the features of each kind.
ARRAYS = {kind: tuple(itertools.chain(*groups)) for kind, groups in _GROUPS.items()}
_TYPES = {
    "label_indptr": np.int64, "label_ids": np.int32, "indptr": np.int64, "indices": np.int32,
    "values": np.float32, "matrix": np.float32, "images": np.uint8, "content": np.uint8,
    "token_indptr": np.int64, "tokens": np.int32,
}  # fmt: skip


class Rows:
    """Examples in memory, all of one kind.

    Sparse features are ``indptr`` int64 (n + 1,), ``indices`` int32 (nnz,) and ``values`` float32
    (nnz,); dense ones ``matrix`` float32 (n, num_features). Texts as lists of tokens are
    ``tokens`` int32 (total,), row r being ``tokens[indptr[r]:indptr[r + 1]]``; texts that are
    sparse features as well, ``"joined"``, have the bounds of their tokens in ``token_indptr``.
    Images are ``images`` uint8 (n, height, width, channels) as pixels; as encoded files they are
    ``content`` uint8 (bytes,), file r being ``content[indptr[r]:indptr[r + 1]]``. The arrays of the
    other kinds are None.
    Labels are ``label_indptr`` int64 (n + 1,) and ``label_ids`` int32 (total,).

    Args:
        num_features: width of the feature space; for images values of one (0 if not known).

    Attributes:
        kind: ``"sparse"``, ``"dense"``, ``"tokens"``, ``"joined"``, ``"pixels"`` or ``"encoded"``.

    Example:
        >>> rows = Rows.from_csr(scipy.sparse.csr_matrix([[0.0, 2.0], [1.0, 0.0]]), [[3], []])
        >>> rows.take([1, 0])["labels"].tolist()
        [[-1], [3]]
    """

    def __init__(
        self, *, label_indptr, label_ids, num_features, indptr=None, indices=None, values=None,
        matrix=None, images=None, content=None, tokens=None, token_indptr=None,
    ):  # fmt: skip
        given = {
            "indptr": indptr, "indices": indices, "values": values, "matrix": matrix,
            "images": images, "content": content, "tokens": tokens, "token_indptr": token_indptr,
        }  # fmt: skip
        found = {name for name, array in given.items() if array is not None}
        kinds = [kind for kind, names in ARRAYS.items() if set(names) == found]
        assert kinds, f"the arrays of one kind of features, found {sorted(found)}"
        self.kind = kinds[0]
        self.label_indptr = np.asarray(label_indptr, np.int64)
        self.label_ids = np.asarray(label_ids, np.int32)
        self.num_features = int(num_features)
        for name, array in given.items():
            setattr(self, name, None if array is None else np.asarray(array, _TYPES[name]))
        for first, *lists in _GROUPS[self.kind]:
            features = len(getattr(self, first)) - bool(lists)
            assert features == len(self), f"{features} rows of {first}, {len(self)} label rows"

    @classmethod
    def from_csr(cls, features, labels):
        """Rows of a scipy CSR matrix (n, num_features).

        Args:
            labels: one list of ids per row, or a CSR matrix whose stored entries are the labels.
        """
        features = scipy.sparse.csr_matrix(features)
        label_indptr, label_ids = _label_arrays(labels)
        return cls(
            indptr=features.indptr, indices=features.indices, values=features.data,
            label_indptr=label_indptr, label_ids=label_ids, num_features=features.shape[1],
        )  # fmt: skip

    @classmethod
    def from_dense(cls, matrix, labels):
        """Rows of a dense matrix (n, dim); ``labels`` as in ``from_csr``."""
        label_indptr, label_ids = _label_arrays(labels)
        return cls(
            matrix=matrix, label_indptr=label_indptr, label_ids=label_ids,
            num_features=matrix.shape[1],
        )  # fmt: skip

    @classmethod
    def from_tokens(cls, rows, labels):
        """Rows of lists of tokens (``tokens_base.TokenRows``); ``labels`` as in ``from_csr``."""
        label_indptr, label_ids = _label_arrays(labels)
        return cls(
            indptr=rows.indptr, tokens=rows.tokens, num_features=rows.num_features,
            label_indptr=label_indptr, label_ids=label_ids,
        )  # fmt: skip

    @classmethod
    def from_joined(cls, rows, labels):
        """Rows of texts twice (``joined_features.JoinedRows``); ``labels`` as in ``from_csr``."""
        label_indptr, label_ids = _label_arrays(labels)
        return cls(
            **rows.arrays, num_features=rows.shape[1],
            label_indptr=label_indptr, label_ids=label_ids,
        )  # fmt: skip

    @classmethod
    def from_images(cls, images, labels):
        """Rows of images; ``labels`` as in ``from_csr``.

        Args:
            images: uint8 (n, height, width, channels), or a list of encoded files (``bytes``).
        """
        label_indptr, label_ids = _label_arrays(labels)
        features = {"images": images} if isinstance(images, np.ndarray) else joined_files(images)
        size = int(np.prod(images.shape[1:])) if "images" in features else 0
        return cls(label_indptr=label_indptr, label_ids=label_ids, num_features=size, **features)

    @classmethod
    def concatenate(cls, parts):
        """The rows of several ``Rows`` of one kind and width, one after the other."""
        builder = RowsBuilder(
            kind=parts[0].kind,
            num_examples=sum(len(part) for part in parts),
            num_values=sum(part.nonzeros for part in parts),
            num_tokens=sum(part.num_tokens for part in parts),
            num_labels=sum(len(part.label_ids) for part in parts),
            num_features=parts[0].num_features,
            image_shape=parts[0].image_shape,
        )
        for part in parts:
            builder.append(part)
        return builder.finish()

    def __len__(self):
        return len(self.label_indptr) - 1

    @property
    def arrays(self):
        """The arrays of the features by name, see ``ARRAYS``."""
        return {name: getattr(self, name) for name in ARRAYS[self.kind]}

    @property
    def dense(self):
        """Whether the features are dense vectors."""
        return self.kind == "dense"

    @property
    def image_shape(self):
        """(height, width, channels) of images stored as pixels, else None."""
        return self.images.shape[1:] if self.kind == "pixels" else None

    @property
    def nonzeros(self):
        """Number of stored feature values; of encoded files the bytes."""
        return getattr(self, _GROUPS[self.kind][0][-1]).size

    @property
    def num_tokens(self):
        """Number of tokens beside the feature values: of kind ``"joined"``, else 0."""
        return self.tokens.size if self.kind == "joined" else 0

    @property
    def lengths(self):
        """Tokens of each text, int64 (n,); None where rows are no lists of tokens."""
        bounds = {"tokens": self.indptr, "joined": self.token_indptr}.get(self.kind)
        return None if bounds is None else np.diff(bounds)

    def by_length(self):
        """Row numbers, short texts first; of rows without ``lengths`` in their order."""
        lengths = self.lengths
        return np.arange(len(self)) if lengths is None else np.argsort(lengths, kind="stable")

    @property
    def nbytes(self):
        """Bytes of memory the arrays take."""
        arrays = (self.label_indptr, self.label_ids, *self.arrays.values())
        return sum(array.nbytes for array in arrays)

    def slice(self, start, stop):
        """Rows ``start`` to ``stop`` (exclusive); the values are views, not copies."""
        start, stop, _ = slice(start, stop).indices(len(self))
        return self._cut(
            lambda indptr, *lists: slice_lists(indptr, start, stop, *lists),
            lambda array: array[start:stop],
        )

    def select(self, row_numbers):
        """The given rows, in the given order, as new ``Rows``."""
        row_numbers = np.asarray(row_numbers, np.int64)
        return self._cut(
            lambda indptr, *lists: gather_lists(indptr, row_numbers, *lists),
            lambda array: array[row_numbers],
        )

    def _cut(self, cut_lists, cut_array):
        cut = {}
        for names in (("label_indptr", "label_ids"), *_GROUPS[self.kind]):
            arrays = [getattr(self, name) for name in names]
            found = cut_lists(*arrays) if len(names) > 1 else [cut_array(*arrays)]
            cut.update(zip(names, found, strict=True))
        return Rows(num_features=self.num_features, **cut)

    def take(self, row_numbers):
        """The batch of the given rows as NumPy arrays (docs/architecture.md, "Rows and batches").

        Returns:
            dict: ``features``, either ``{"ids": int32 (nnz,), "weights": float32 (nnz,),
            "row_splits": int64 (n + 1,)}``, float32 (n, dim), int32 (n, length) tokens padded with
            0 (of joined rows a fourth entry ``"tokens"`` of the dict), uint8 (n, height, width,
            channels) or, for encoded files, object (n,) of ``bytes``; ``labels`` int32
            (n, max(1, most labels in these rows)) padded with −1.
        """
        return self.select(row_numbers).batch()

    def batch(self):
        """All rows as one batch; see ``take``."""
        if self.kind in ("sparse", "joined"):
            features = {"ids": self.indices, "weights": self.values, "row_splits": self.indptr}
            if self.kind == "joined":
                features["tokens"] = pad_tokens(self.token_indptr, self.tokens)
        elif self.kind == "encoded":
            features = self._files()
        elif self.kind == "tokens":
            features = pad_tokens(self.indptr, self.tokens)
        else:
            features = self.images if self.matrix is None else self.matrix
        return {"features": features, "labels": pad_labels(self.label_indptr, self.label_ids)}

    def _files(self):
        files, bounds = np.empty(len(self), object), self.indptr.tolist()
        # One copy of each file and nothing else: files are long, so that this costs what it must.
        for row in range(len(self)):
            files[row] = self.content[bounds[row] : bounds[row + 1]].tobytes()
        return files


class RowsBuilder:
    """Fills arrays of a size known beforehand, so that the parts never stand beside the whole.

    Args:
        num_values: how many values are coming, see ``Rows.nonzeros``.
        num_tokens: how many tokens beside them, see ``Rows.num_tokens``.
        image_shape: of images stored as pixels.
    """

    def __init__(
        self, *, kind, num_examples, num_values, num_labels, num_features, num_tokens=0,
        image_shape=None,
    ):  # fmt: skip
        self._kind, self._num_features = kind, num_features
        shapes = {
            "matrix": (num_examples, num_features),
            "images": (num_examples, *(image_shape or ())),
        }
        self._groups = (("label_indptr", "label_ids"), *_GROUPS[kind])
        sizes, self._arrays = (num_labels, num_values, num_tokens), {}
        for (first, *lists), size in zip(self._groups, sizes, strict=False):
            shape = num_examples + 1 if lists else shapes[first]
            self._arrays[first] = np.zeros(shape, _TYPES[first])
            self._arrays |= {name: np.zeros(size, _TYPES[name]) for name in lists}
        self._row, self._filled = 0, [0] * len(self._groups)

    def append(self, rows):
        """Copies ``rows`` behind those appended so far."""
        assert rows.kind == self._kind and rows.num_features == self._num_features
        last = self._row + len(rows)
        for number, (first, *lists) in enumerate(self._groups):
            if not lists:
                self._arrays[first][self._row : last] = getattr(rows, first)
                continue
            begin = self._filled[number]
            self._arrays[first][self._row + 1 : last + 1] = getattr(rows, first)[1:] + begin
            self._filled[number] = begin + getattr(rows, lists[0]).size
            for name in lists:
                self._arrays[name][begin : self._filled[number]] = getattr(rows, name)
        self._row = last

    def finish(self):
        """The filled ``Rows``."""
        assert self._row == len(self._arrays["label_indptr"]) - 1, "fewer rows than announced"
        return Rows(num_features=self._num_features, **self._arrays)


def _label_arrays(labels):
    if scipy.sparse.issparse(labels):
        labels = scipy.sparse.csr_matrix(labels)
        return labels.indptr, labels.indices
    counts = np.fromiter((len(row) for row in labels), np.int64, len(labels))
    label_indptr = np.concatenate([[0], np.cumsum(counts)])
    ids = np.fromiter((label for row in labels for label in row), np.int32, label_indptr[-1])
    return label_indptr, ids
