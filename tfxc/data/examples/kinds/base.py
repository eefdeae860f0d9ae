"""What all kinds of features have in common."""

import abc
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.columns import Arrays, Column, Sizes
from tfxc.ops.csr import unit_rows


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
        """Returns shape for this many examples, as a list; None if a length is open.

        Example:
            >>> Tensor("row_splits", "int64", ("batch + 1",)).shape(4)
            [5]
        """
        known = {"batch": batch, "batch + 1": None if batch is None else batch + 1}
        return [axis if isinstance(axis, int) else known.get(axis) for axis in self.axes]

    def spec(self, batch: int | None = None) -> Any:
        """Returns the ``tf.TensorSpec`` for this many examples; None leaves their number open."""
        import tensorflow as tf

        return tf.TensorSpec(self.shape(batch), self.dtype, name=self.name)

    def __str__(self) -> str:
        axes = ", ".join(map(str, self.axes)) + ("," if len(self.axes) == 1 else "")
        return f"{self.name}: {self.dtype} ({axes}){self.note}"


class Input(abc.ABC):
    """The forms in which a trained model accepts examples.

    Attributes:
        name: in configs, manifests and the ``input_kind`` of encoders, runs and exports.
        description: what examples are, in messages.
        prompt: what a user types for one example; None if it cannot be typed.
        chunk_field: the field of ``tfxc.data.examples.chunk.Chunk`` that has them.
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
        """Returns the ``Tensor``s of a batch, a tuple."""

    def typed(
        self, lines: Sequence[str], places: Sequence[str], num_features: int | None = None
    ) -> dict[str, Any]:
        """Returns typed lines as fields of a ``Chunk``.

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
        """Returns the tensors of a ``Chunk`` as arrays by name; None if it holds something else."""


class FeatureKind(Input):
    """One kind of features; there is one object of each class.

    Attributes:
        columns: the ``tfxc.data.examples.columns.Column``s of its rows: one, or one of features and
            one of tokens.
        encoder: one that reads it, for messages.
        is_matrix: whether the rows are those of a matrix, sparse or dense, that linear models are
            trained on.
        is_image: whether examples are images, of which fewer are held at once.
    """

    chunk_field = "features"
    columns: tuple[Column, ...]
    encoder: str
    is_matrix = is_image = False

    def __reduce__(self) -> str:
        return self.name.upper()  # there is one object of each kind, also where it is unpickled

    def __repr__(self) -> str:
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
        """Tells whether an example has features of ``kind``, by themselves or next to others."""
        return kind is self or kind in self.components.values()

    def component_named(self, input_kind: str) -> str | None:
        """Returns the name of the part whose kind is called ``input_kind``; None if there are no
        parts.
        """
        return next(
            (name for name, kind in self.components.items() if kind.name == input_kind), None
        )

    @abc.abstractmethod
    def describe(self, sizes: Sizes) -> str:
        """Returns what a manifest's examples are made of, as text."""

    def arrays_of(self, features: Any) -> Arrays:
        """Returns the arrays of ``Rows``.

        Args:
            features: as readers return them or text features make them: CSR matrix, float32
                (n, num_features), ``TokenRows``, ``JoinedRows``, uint8 (n, height, width, channels)
                or a list of encoded files. Entries of a CSR matrix in one place are added up.
        """
        arrays = self._arrays_of(features)
        return {name: np.asarray(arrays[name], dtype) for name, dtype in self.arrays.items()}

    @abc.abstractmethod
    def _arrays_of(self, features: Any) -> Arrays:
        """Returns the ``arrays_of``, of any type of numbers."""

    @abc.abstractmethod
    def tensors_of(self, arrays: Arrays) -> Arrays:
        """Returns the tensors of a batch by name, as NumPy arrays.

        Args:
            arrays: those of its ``Rows``.
        """

    def batch(self, arrays: Arrays) -> Any:
        """Returns the features of a batch, see docs/architecture.md, "Rows and batches".

        Args:
            arrays: those of its ``Rows``.
        """
        return self.pack(self.tensors_of(arrays))

    def pack(self, tensors: Mapping[str, Any]) -> Any:
        """Returns the features of a batch out of its tensors by name."""
        return dict(tensors) if len(self.inputs) > 1 else tensors[self.inputs[0]]

    def unpack(self, features: Any) -> dict[str, Any]:
        """Returns the tensors of a batch by name out of its features."""
        return dict(features) if len(self.inputs) > 1 else {self.inputs[0]: features}

    def select_features(self, features: Any) -> Any:
        """Returns this kind's part of features that hold more, such as joined ones; others as they
        are.
        """
        if not isinstance(features, dict) or not features.keys() >= set(self.inputs):
            return features
        return self.pack({name: features[name] for name in self.inputs})

    def specs(self, sizes: Sizes, batch: int | None = None) -> Any:
        """Returns the ``tf.TensorSpec``s of the features of this many examples; None leaves that
        open.
        """
        return self.pack({tensor.name: tensor.spec(batch) for tensor in self.tensors(sizes)})

    def decode(self, features: Any, image_shape: tuple[int, ...] | None) -> Any:
        """Returns the features as a model reads them, NumPy arrays; only encoded images differ."""
        return features

    def unit_rows(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns tensors by name with each example scaled to length 1, in the graph.

        A row of zeros stays one. Kinds that are not a matrix stay as they are.
        """
        return tensors

    def recognises(self, features: object) -> bool:
        """Tells whether what a ``Chunk`` holds in ``chunk_field`` is of this kind, as a reader has
        it.

        False where text features make the features.
        """
        return False

    def num_features(self, features: Any) -> int:
        """Returns the width of the space of features, as readers return them or text features make
        them.
        """
        return features.shape[1]

    def given(self, chunk: Chunk) -> Arrays | None:
        features = getattr(chunk, self.chunk_field)
        if features is None or not self.recognises(features):
            return None
        return self.tensors_of(self.arrays_of(features))

    def matrix(self, features: Any, num_features: int) -> Any:
        """Returns the features of a batch as a matrix, float32: CSR or an array; where
        ``is_matrix``.
        """
        raise TypeError(f"{self.description} are not rows of a matrix")

    def model_arguments(self, data_dependent: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns what the data decides under the names that the arguments of encoders have.

        Args:
            data_dependent: see ``tfxc.model.build_model``.
        """
        return data_dependent

    @abc.abstractmethod
    def example(
        self, sizes: Sizes, count: int = 2, draw: np.random.Generator | None = None
    ) -> Arrays:
        """Returns random examples to build or try a model with: the arrays of ``Rows``.

        Args:
            count: number of examples.
            draw: ``numpy.random.Generator``; None means one of seed 0.
        """

    def memory_bytes(self, examples: int, labels: int, values: int, tokens: int = 0) -> int:
        """Returns the bytes of memory that rows take.

        Args:
            examples, labels: how many rows and labels of them.
            values: feature values, see ``tfxc.data.examples.rows.Rows.nonzeros``.
            tokens: tokens next to them, see ``tfxc.data.examples.rows.Rows.num_tokens``.
        """
        rows = examples * (8 + sum(column.row_bytes for column in self.columns))
        counts = zip(self.columns, (values, tokens), strict=False)
        return rows + sum(column.value_bytes * count for column, count in counts) + 4 * labels


class Given(FeatureKind):
    """A kind whose features readers return as ``Chunk.features``; they are checked, not made."""

    @abc.abstractmethod
    def recognises(self, features: object) -> bool:
        """Tells whether ``features``, any object, have the form in which readers return this
        kind.
        """

    @abc.abstractmethod
    def values(self, features: Any) -> np.ndarray:
        """Returns the stored values, an array of any shape."""

    @abc.abstractmethod
    def width(self, features: Any) -> int:
        """Returns the width of the features as far as it is used."""

    def fits(self, width: int, num_features: int) -> bool:
        """Tells whether features of a width belong into a space of ``num_features``."""
        return width == num_features

    def normalised(self, features: Any, norm: str) -> Any:
        """Returns the features with each example scaled to length 1, as ``unit_rows`` does in the
        graph.

        A kind that is no matrix refuses it here.

        Args:
            features: float32.
            norm: ``data.normalise`` of the config.
        """
        return unit_rows(features.copy(), norm)

    def first_not_finite(self, features: Any) -> int | None:
        """Returns the number of the first row that has NaN or infinity; None if there is none."""
        if np.isfinite(self.values(features)).all():
            return None
        rows = (self.values(features[row : row + 1]) for row in itertools.count())
        return next(row for row, values in enumerate(rows) if not np.isfinite(values).all())
