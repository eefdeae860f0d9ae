"""The kinds of features: all that distinguishes one from another, one object per kind.

A kind knows the arrays its rows have in memory and in records, the tensors of a batch, which are
the inputs of an exported model as well, the bytes it takes, examples to try a model with, and how
it is named in messages. Readers, records, sources, exports and commands ask it; none of them has a
list of kinds. A new kind is a class here, its object in ``KINDS``, and an encoder that reads it.

``sizes`` is a mapping of what the kinds need to know about the data: ``num_features``, of images
``image_shape`` (height, width, channels), of joined texts ``vocabulary_size``. A manifest as a dict
is one.

TensorFlow is imported by the methods that need it: whoever reads rows does without.
"""

import abc
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.data.chunk import Chunk
from tfxc.data.columns import Arrays, Column, Files, Lists, Pixels, Sizes, Vectors
from tfxc.data.lists import joined_files, pad_tokens
from tfxc.data.parsing import typed_lines
from tfxc.ops.csr import as_csr, bounds_of


class Tensor(NamedTuple):
    """One tensor of a batch, and one input of an exported model.

    Attributes:
        name: of the input.
        dtype: name of its type.
        axes: lengths of the axes: numbers, or names of what they depend on; ``"batch"`` and
            ``"batch + 1"`` follow the number of examples.
        values: of one example, to show how a model is called; None shows zeros.
        note: what more there is to say of it.
    """

    name: str
    dtype: str
    axes: tuple[str | int, ...]
    values: list | None = None
    note: str = ""

    def shape(self, batch: int | None = None) -> list[int | None]:
        """Shape for this many examples, as a list; None if a length is open.

        Example:
            >>> Tensor("row_splits", "int64", ("batch + 1",)).shape(4)
            [5]
        """
        known = {"batch": batch, "batch + 1": None if batch is None else batch + 1}
        return [axis if isinstance(axis, int) else known.get(axis) for axis in self.axes]

    def spec(self, batch: int | None = None) -> Any:
        """The ``tf.TensorSpec`` for this many examples; None leaves their number open."""
        import tensorflow as tf

        return tf.TensorSpec(self.shape(batch), self.dtype, name=self.name)

    def __str__(self):
        axes = ", ".join(map(str, self.axes)) + ("," if len(self.axes) == 1 else "")
        return f"{self.name}: {self.dtype} ({axes}){self.note}"


class Input(abc.ABC):
    """The forms in which a trained model accepts examples.

    Attributes:
        name: in configs, manifests and the ``input_kind`` of encoders, runs and exports.
        description: what examples are, in messages.
        prompt: what a user types for one example; None if it cannot be typed.
        chunk_field: the field of ``tfxc.data.chunk.Chunk`` that has them.
        inputs: names of the tensors of a batch. A batch of features holds a single one as it is,
            several as a dict.
    """

    name: str
    description: str
    prompt: str | None = None
    chunk_field: str
    inputs: tuple[str, ...]

    @abc.abstractmethod
    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        """The ``Tensor``s of a batch, a tuple."""

    def typed(
        self, lines: Sequence[str], places: Sequence[str], num_features: int | None = None
    ) -> dict[str, Any]:
        """Typed lines as fields of a ``Chunk``.

        Args:
            lines: list of texts, one per example.
            places: where each is from, for messages.
            num_features: width of the features; None if it is not known.

        Raises:
            DataError: a line is of another form.
        """
        raise TypeError(f"{self.description} cannot be typed")

    @abc.abstractmethod
    def given(self, chunk: Chunk) -> Arrays | None:
        """The tensors of a ``Chunk`` as arrays by name; None if it holds something else."""


class Text(Input):
    """Texts, which the text features of a run make features of."""

    name, description, prompt, chunk_field = "text", "texts", "a text", "texts"
    inputs = ("text",)

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (Tensor("text", "string", ("batch",), ["some text"]),)

    def typed(
        self, lines: Sequence[str], places: Sequence[str], num_features: int | None = None
    ) -> dict[str, Any]:
        return {"texts": lines}

    def given(self, chunk: Chunk) -> Arrays | None:
        return None if chunk.texts is None else {"text": np.array(chunk.texts, object)}


class TextAndFeatures(Input):
    """Texts, and next to them the features that a run takes as they are."""

    name, description, chunk_field = "text_and_features", "texts with features", "texts"
    inputs = ("text", "ids", "weights", "row_splits")

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (*TEXT.tensors(sizes), *SPARSE.tensors(sizes))

    def given(self, chunk: Chunk) -> Arrays | None:
        texts = TEXT.given(chunk)
        if texts is None or chunk.features is None:
            return None
        features = chunk.features
        features = features if scipy.sparse.issparse(features) else as_csr(features)
        return {**texts, **SPARSE.tensors_of(SPARSE.arrays_of(features))}


class FeatureKind(Input):
    """One kind of features; there is one object of each class.

    Attributes:
        columns: the ``tfxc.data.columns.Column``s of its rows: one, or one of features and one of
            tokens.
        encoder: one that reads it, for messages.
        is_matrix: whether the rows are those of a matrix, sparse or dense, that linear models are
            trained on.
        is_image: whether examples are images, of which fewer are held at once.
    """

    chunk_field = "features"
    columns: tuple[Column, ...]
    encoder: str
    is_matrix = is_image = False

    def __reduce__(self):
        return self.name.upper()  # there is one object of each kind, also where it is unpickled

    def __repr__(self):
        return f"kinds.{self.name.upper()}"

    @property
    def components(self) -> Mapping[str, "FeatureKind"]:
        """The kinds of a text that has several, by the names of their sections of the config."""
        return {}

    @property
    def arrays(self) -> dict[str, type]:
        """Types of the arrays of ``Rows`` by name."""
        return {name: dtype for column in self.columns for name, dtype in column.types.items()}

    @property
    def decoded(self) -> "FeatureKind":
        """The kind that models are built for: of encoded images that of images."""
        return self

    def holds(self, kind: "FeatureKind") -> bool:
        """Whether an example has features of ``kind``, by themselves or next to others."""
        return kind is self or kind in self.components.values()

    def component_named(self, input_kind: str) -> str | None:
        """Name of the part whose kind is called ``input_kind``; None if there are no parts."""
        return next(
            (name for name, kind in self.components.items() if kind.name == input_kind), None
        )

    @abc.abstractmethod
    def describe(self, sizes: Sizes) -> str:
        """What a manifest's examples are made of, as text."""

    def arrays_of(self, features: Any) -> Arrays:
        """The arrays of ``Rows``.

        Args:
            features: as readers return them or text features make them: CSR matrix, float32
                (n, num_features), ``TokenRows``, ``JoinedRows``, uint8 (n, height, width, channels)
                or a list of encoded files. Entries of a CSR matrix in one place are added up.
        """
        found = self._arrays_of(features)
        return {name: np.asarray(found[name], dtype) for name, dtype in self.arrays.items()}

    @abc.abstractmethod
    def _arrays_of(self, features):
        """``arrays_of``, of any type of numbers."""

    @abc.abstractmethod
    def tensors_of(self, arrays: Arrays) -> Arrays:
        """The tensors of a batch by name, as NumPy arrays.

        Args:
            arrays: those of its ``Rows``.
        """

    def batch(self, arrays: Arrays) -> Any:
        """The features of a batch, see docs/architecture.md, "Rows and batches".

        Args:
            arrays: those of its ``Rows``.
        """
        return self.pack(self.tensors_of(arrays))

    def pack(self, tensors: Mapping[str, Any]) -> Any:
        """The features of a batch out of its tensors by name."""
        return dict(tensors) if len(self.inputs) > 1 else tensors[self.inputs[0]]

    def unpack(self, features: Any) -> dict[str, Any]:
        """The tensors of a batch by name out of its features."""
        return dict(features) if len(self.inputs) > 1 else {self.inputs[0]: features}

    def select_features(self, features: Any) -> Any:
        """This kind's part of features that hold more, such as joined ones; others as they are."""
        if not isinstance(features, dict) or not features.keys() >= set(self.inputs):
            return features
        return self.pack({name: features[name] for name in self.inputs})

    def specs(self, sizes: Sizes, batch: int | None = None) -> Any:
        """The ``tf.TensorSpec``s of the features of this many examples; None leaves that open."""
        return self.pack({tensor.name: tensor.spec(batch) for tensor in self.tensors(sizes)})

    def decode(self, features: Any, image_shape: tuple[int, ...] | None) -> Any:
        """The features as a model reads them, NumPy arrays; only encoded images differ."""
        return features

    def unit_rows(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        """Tensors by name with each example scaled to length 1, in the graph.

        A row of zeros stays one. Kinds that are not a matrix stay as they are.
        """
        return tensors

    def recognises(self, features: Any) -> bool:
        """Whether what a ``Chunk`` holds in ``chunk_field`` is of this kind, as a reader has it.

        False where text features make the features.
        """
        return False

    def num_features(self, features: Any) -> int:
        """Width of the space of features, as readers return them or text features make them."""
        return features.shape[1]

    def given(self, chunk: Chunk) -> Arrays | None:
        features = getattr(chunk, self.chunk_field)
        if features is None or not self.recognises(features):
            return None
        return self.tensors_of(self.arrays_of(features))

    def matrix(self, features: Any, num_features: int) -> Any:
        """The features of a batch as a matrix, float32: CSR or an array; where ``is_matrix``."""
        raise TypeError(f"{self.description} are no rows of a matrix")

    def model_arguments(self, data_dependent: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the data decides under the names that the arguments of encoders have.

        Args:
            data_dependent: see ``tfxc.model.build_model``.
        """
        return data_dependent

    @abc.abstractmethod
    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        """Random examples to build or try a model with: the arrays of ``Rows``.

        Args:
            count: number of examples.
            draw: ``numpy.random.Generator``; None means one of seed 0.
        """

    def memory_bytes(self, examples: int, labels: int, values: int, tokens: int = 0) -> int:
        """Bytes of memory that rows take.

        Args:
            examples, labels: how many rows and labels of them.
            values: feature values, see ``tfxc.data.rows.Rows.nonzeros``.
            tokens: tokens next to them, see ``tfxc.data.rows.Rows.num_tokens``.
        """
        rows = examples * (8 + sum(column.row_bytes for column in self.columns))
        counts = zip(self.columns, (values, tokens), strict=False)
        return rows + sum(column.value_bytes * count for column, count in counts) + 4 * labels


class Given(FeatureKind):
    """A kind whose features readers return as ``Chunk.features``; they are checked, not made."""

    @abc.abstractmethod
    def recognises(self, features: Any) -> bool:
        """Whether ``features``, any object, have the form in which readers return this kind."""

    @abc.abstractmethod
    def values(self, features: Any) -> np.ndarray:
        """The stored values, an array of any shape."""

    @abc.abstractmethod
    def width(self, features: Any) -> int:
        """Width of the features as far as it is used."""

    def fits(self, width: int, num_features: int) -> bool:
        """Whether features of a width belong into a space of ``num_features``."""
        return width == num_features

    def normalised(self, features: Any, norm: str) -> Any:
        """The features with each example scaled to length 1, as ``unit_rows`` does in the graph.

        A kind that is no matrix refuses it here.

        Args:
            features: float32.
            norm: ``data.normalise`` of the config.
        """
        from sklearn.preprocessing import normalize

        return normalize(features, norm=norm)

    def first_not_finite(self, features: Any) -> int | None:
        """Number of the first row that has NaN or infinity; None if there is none."""
        if np.isfinite(self.values(features)).all():
            return None
        rows = (self.values(features[row : row + 1]) for row in itertools.count())
        return next(row for row, values in enumerate(rows) if not np.isfinite(values).all())


class Sparse(Given):
    """Bags of features with a weight each."""

    name, description, prompt = "sparse", "sparse features", "id:value pairs"
    columns = (
        Lists(
            "indptr", "indices", "input_idxs", "input_counts",
            values="values", values_field="input_vals",
        ),
    )  # fmt: skip
    inputs, encoder, is_matrix = ("ids", "weights", "row_splits"), "bag_mlp", True

    def describe(self, sizes: Sizes) -> str:
        return f"{sizes['num_features']:,} features (sparse)"

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (
            Tensor("ids", "int32", ("nnz",), [0, 7]),
            Tensor("weights", "float32", ("nnz",), [1.0, 0.5]),
            Tensor("row_splits", "int64", ("batch + 1",), [0, 2]),
        )

    def typed(
        self, lines: Sequence[str], places: Sequence[str], num_features: int | None = None
    ) -> dict[str, Any]:
        return {"features": typed_lines.bags_of_lines(lines, places, num_features)}

    def recognises(self, features: Any) -> bool:
        return scipy.sparse.issparse(features)

    def values(self, features: scipy.sparse.csr_matrix) -> np.ndarray:
        return features.data

    def _arrays_of(self, features):
        if not features.has_canonical_format:
            features = features.copy()
            features.sum_duplicates()
        return {"indptr": features.indptr, "indices": features.indices, "values": features.data}

    def tensors_of(self, arrays: Arrays) -> Arrays:
        ids, weights, row_splits = (arrays[name] for name in ("indices", "values", "indptr"))
        return {"ids": ids, "weights": weights, "row_splits": row_splits}

    def matrix(self, features: Any, num_features: int) -> scipy.sparse.csr_matrix:
        parts = (features["weights"], features["ids"], features["row_splits"])
        shape = (len(features["row_splits"]) - 1, num_features)
        return scipy.sparse.csr_matrix(parts, shape, dtype=np.float32)

    def width(self, features: scipy.sparse.csr_matrix) -> int:
        return int(features.indices.max(initial=-1)) + 1

    def fits(self, width: int, num_features: int) -> bool:
        return width <= num_features

    def unit_rows(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        from tfxc.ops.sparse import unit_rows

        weights = unit_rows(tensors["weights"], tensors["row_splits"])
        return {**tensors, "weights": weights}

    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        draw, num_features = draw or np.random.default_rng(0), sizes["num_features"]
        width = min(20, num_features)
        ids = [np.sort(draw.choice(num_features, width, replace=False)) for _ in range(count)]
        return {
            "indptr": np.arange(count + 1) * width,
            "indices": np.concatenate(ids).astype(np.int32),
            "values": draw.uniform(0.1, 1, width * count).astype(np.float32),
        }


class Dense(Given):
    """Vectors."""

    name, description, prompt = "dense", "dense vectors", "numbers"
    columns = (Vectors("matrix", "input_vals"),)
    inputs, encoder, is_matrix = ("features",), "precomputed", True

    def describe(self, sizes: Sizes) -> str:
        return f"{sizes['num_features']:,} features (dense)"

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (Tensor("features", "float32", ("batch", sizes["num_features"])),)

    def typed(
        self, lines: Sequence[str], places: Sequence[str], num_features: int | None = None
    ) -> dict[str, Any]:
        return {"features": typed_lines.vectors_of_lines(lines, places, num_features)}

    def recognises(self, features: Any) -> bool:
        return isinstance(features, np.ndarray) and features.ndim == 2

    def values(self, features: np.ndarray) -> np.ndarray:
        return features

    def _arrays_of(self, features):
        return {"matrix": features}

    def tensors_of(self, arrays: Arrays) -> Arrays:
        return {"features": arrays["matrix"]}

    def matrix(self, features: Any, num_features: int) -> np.ndarray:
        return np.asarray(features, np.float32)

    def width(self, features: np.ndarray) -> int:
        return features.shape[1]

    def unit_rows(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        import tensorflow as tf

        # As sklearn's normalize: a row of zeros stays one.
        norms = tf.norm(tensors["features"], axis=1, keepdims=True)
        return {"features": tf.math.divide_no_nan(tensors["features"], norms)}

    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        draw = draw or np.random.default_rng(0)
        return {"matrix": draw.normal(size=(count, sizes["num_features"])).astype(np.float32)}


class Tokens(FeatureKind):
    """Texts as lists of token ids."""

    name = "tokens"
    description = "lists of tokens (data.text_features 'characters' or 'words')"
    columns = (Lists("indptr", "tokens", "input_idxs", "input_counts", what="token"),)
    inputs, encoder = ("tokens",), "textcnn"

    def describe(self, sizes: Sizes) -> str:
        return f"texts of {sizes['num_features']:,} different tokens"

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        padded = ", padded with 0"
        return (Tensor("tokens", "int32", ("batch", "length"), [[1, 1, 0]], padded),)

    def _arrays_of(self, features):
        return {"indptr": features.indptr, "tokens": features.tokens}

    def tensors_of(self, arrays: Arrays) -> Arrays:
        return {"tokens": pad_tokens(arrays["indptr"], arrays["tokens"])}

    def model_arguments(self, data_dependent: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**data_dependent, "vocabulary_size": data_dependent["num_features"]}

    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        draw = draw or np.random.default_rng(0)
        indptr = bounds_of(draw.integers(1, 13, count))
        tokens = draw.integers(1, max(2, sizes["num_features"]), indptr[-1])
        return {"indptr": indptr, "tokens": tokens.astype(np.int32)}


class Joined(FeatureKind):
    """Texts twice, as tokens and as sparse features; an encoder reads one of the two."""

    name = "joined"
    description = "texts as tokens and as bags (data.text_features 'joined')"
    inputs, encoder, is_matrix = (*Sparse.inputs, "tokens"), "textcnn", True
    columns = (
        *Sparse.columns,
        Lists(
            "token_indptr", "tokens", "tokens", "token_counts", what="token",
            limit="vocabulary_size",
        ),
    )  # fmt: skip

    @property
    def components(self) -> Mapping[str, FeatureKind]:
        return {"tokens": TOKENS, "terms": SPARSE}

    def describe(self, sizes: Sizes) -> str:
        tokens = TOKENS.describe({"num_features": sizes["vocabulary_size"]})
        return f"{tokens} and {SPARSE.describe(sizes)}"

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (*SPARSE.tensors(sizes), *TOKENS.tensors(sizes))

    def _arrays_of(self, features):
        return _joined(SPARSE.arrays_of(features.terms), TOKENS.arrays_of(features.tokens))

    def tensors_of(self, arrays: Arrays) -> Arrays:
        tokens = {"indptr": arrays["token_indptr"], "tokens": arrays["tokens"]}
        return {**SPARSE.tensors_of(arrays), **TOKENS.tensors_of(tokens)}

    def matrix(self, features: Any, num_features: int) -> scipy.sparse.csr_matrix:
        """See ``FeatureKind``; that of the terms."""
        return SPARSE.matrix(features, num_features)

    def model_arguments(self, data_dependent: Mapping[str, Any]) -> Mapping[str, Any]:
        """See ``FeatureKind``; encoders know of text features those that make tokens."""
        texts = data_dependent.get("text_features")
        return {**data_dependent, "text_features": texts["tokens"]} if texts else data_dependent

    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        vocabulary = {"num_features": sizes.get("vocabulary_size") or 2}
        return _joined(
            SPARSE.example(sizes, count, draw), TOKENS.example(vocabulary, count, draw)
        )  # fmt: skip


def _joined(terms, tokens):
    """The arrays of joined rows out of those of their parts."""
    return {**terms, "token_indptr": tokens["indptr"], "tokens": tokens["tokens"]}


class Image(FeatureKind):
    """Images as pixels."""

    name, description, prompt, chunk_field = "image", "images", "a path", "images"
    columns: tuple[Column, ...] = (Pixels("images", "image/raw"),)
    inputs, encoder, is_image = ("images",), "resnet", True

    def describe(self, sizes: Sizes) -> str:
        return f"images of {' x '.join(map(str, sizes['image_shape']))}"

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (Tensor("images", "uint8", ("batch", *sizes["image_shape"])),)

    def typed(
        self, lines: Sequence[str], places: Sequence[str], num_features: int | None = None
    ) -> dict[str, Any]:
        return {"images": typed_lines.files_of_lines(lines, places), "names": lines}

    def recognises(self, features: Any) -> bool:
        return True

    def _arrays_of(self, features):
        return {"images": features}

    def tensors_of(self, arrays: Arrays) -> Arrays:
        return {"images": arrays["images"]}

    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        draw = draw or np.random.default_rng(0)
        return {"images": draw.integers(0, 256, (count, *sizes["image_shape"]), np.uint8)}


class Encoded(Image):
    """Images as files, which are decoded on the way to the model."""

    name, description = "encoded", "encoded images"
    columns = (Files("indptr", "content", "image/encoded", "image"),)
    inputs = ("image_bytes",)

    @property
    def decoded(self) -> FeatureKind:
        return IMAGE

    def tensors(self, sizes: Sizes) -> tuple[Tensor, ...]:
        return (Tensor("image_bytes", "string", ("batch",)),)

    def _arrays_of(self, features):
        return joined_files(features)

    def tensors_of(self, arrays: Arrays) -> Arrays:
        (files,) = self.columns
        return {"image_bytes": files.files(arrays)}

    def decode(self, features: Any, image_shape: tuple[int, ...] | None) -> Any:
        from tfxc.data.images.decoding import decode_files

        assert image_shape is not None, "encoded images need a shape"
        return decode_files(features, image_shape)

    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        """See ``FeatureKind``; PNG files lose nothing."""
        import tensorflow as tf

        images = IMAGE.example(sizes, count, draw)["images"]
        return self.arrays_of([tf.io.encode_png(image).numpy() for image in images])


TEXT, TEXT_AND_FEATURES = Text(), TextAndFeatures()
SPARSE, DENSE, TOKENS, JOINED = Sparse(), Dense(), Tokens(), Joined()
IMAGE, ENCODED = Image(), Encoded()
#: The kinds that models are built for, by name: what a manifest and an encoder may say.
KINDS = {kind.name: kind for kind in (SPARSE, DENSE, TOKENS, JOINED, IMAGE)}
#: The kinds that rows have, by name: images are kept as pixels or encoded.
ROW_KINDS = KINDS | {ENCODED.name: ENCODED}
#: What a run or an export may take, by name.
INPUTS = {given.name: given for given in (TEXT, TEXT_AND_FEATURES, *KINDS.values())}


def input_of(names: Iterable[str]) -> Input | None:
    """The ``Input`` whose tensors have these names; None if there is no such one.

    Example:
        >>> input_of(["weights", "ids", "row_splits"])
        kinds.SPARSE
    """
    return next((kind for kind in INPUTS.values() if set(kind.inputs) == set(names)), None)


def kind_of_features(features: Any, where: str | Path) -> Given:
    """The kind of what a reader returned as ``Chunk.features``.

    Args:
        where: the source, for messages.

    Raises:
        DataError: no kind has that form.

    Example:
        >>> kind_of_features(np.zeros((2, 3), np.float32), "train.npz")
        kinds.DENSE
    """
    known = [kind for kind in KINDS.values() if isinstance(kind, Given)]
    for kind in known:
        if kind.recognises(features):
            return kind
    raise DataError(
        f"{' or '.join(kind.description for kind in known)} expected, found "
        f"{type(features).__name__} {getattr(features, 'shape', '')}".rstrip(),
        where=where,
        fix="return Chunk.features in one of the forms that tfxc.data.chunk describes",
    )
