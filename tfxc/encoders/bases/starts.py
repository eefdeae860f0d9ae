"""Random starts of kernels by name."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import keras
import numpy as np

from tfxc.ops.tables.large_weights import assign_in_pieces, pieces_of
from tfxc.ops.tables.row_start import RowStart

#: How kernels start, by the names in configs; see ``TokenEncoder``.
Start = Literal["uniform", "normal", "xavier", "kaiming"]
#: Functions of a seed -> Keras initialiser.
STARTS: dict[str, Callable[..., keras.Initializer]] = {
    "uniform": lambda seed: keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed),
    "normal": lambda seed: keras.initializers.VarianceScaling(
        1.0, "fan_in", "untruncated_normal", seed
    ),
    "xavier": keras.initializers.GlorotUniform,
    "kaiming": keras.initializers.HeUniform,
}
_NO_KERNELS = ("alpha",)  # slopes of PReLU, one per channel


def restart_encoder(
    variables: Iterable[keras.Variable],
    start: str,
    seed: int,
    tables: Iterable[keras.Variable] = (),
) -> None:
    """Gives the kernels of an encoder, matrices and filters, a new random start.

    Biases, scales and tables of embeddings stay as they are.

    Args:
        variables: Keras variables.
        start: name in ``STARTS``.
        seed: of all of them.
        tables: Keras variables that stay.

    Example:
        >>> layer = keras.layers.Dense(2)
        >>> layer.build((None, 3))
        >>> restart_encoder(layer.weights, "kaiming", seed=1)
        >>> bool(abs(layer.kernel.numpy()).max() <= 2**0.5)
        True
    """
    left_out = {id(table) for table in tables}
    for number, variable in enumerate(variables):
        is_kernel = len(variable.shape) > 1 and variable.name not in _NO_KERNELS
        if is_kernel and id(variable) not in left_out:
            initialise = STARTS[start](seed=_seed(seed, number))
            variable.assign(initialise(variable.shape, variable.dtype))


def restart_head(
    variables: Iterable[keras.Variable], start: str, seed: int, *, dim: int, first: int = 0
) -> None:
    """Gives the kernels of a head a new random start.

    A kernel has a column for each of its outputs, or a row where a label has a row of ``dim``
    numbers. One of three sides is a stack, of one matrix per repetition.

    Args:
        variables: Keras variables.
        start: name in ``STARTS``.
        seed: of all of them.
        dim: length of the vectors that the head reads.
        first: number of the first repetition.
    """
    for number, variable in enumerate(variables):
        if len(variable.shape) < 2:
            continue
        shape = tuple(variable.shape)
        count, *sides = [1, *shape][-3:]
        by_rows = sides[1] == dim != sides[0] or variable.name.startswith(("table", "centres"))
        if by_rows and len(shape) == 2 and pieces_of(shape, variable.dtype):
            # The same distribution, in blocks of rows: the table is not drawn as a whole.
            row_seed = _seed(seed, number, first)
            if start == "normal":
                rows = RowStart("normal", dim**-0.5, row_seed)
            else:
                limits = {"uniform": 1 / dim, "kaiming": 6 / dim, "xavier": 6 / (dim + shape[0])}
                rows = RowStart("uniform", limits[start] ** 0.5, row_seed)
            assign_in_pieces(variable, rows.of_shape(shape))
            continue
        seeds = [_seed(seed, number, place) for place in range(first, first + count)]
        stack = _Stack((count, *sides), start, seeds, by_rows)
        if len(shape) == 3:
            assign_in_pieces(variable, stack)
        else:
            variable.assign(stack[0:1][0])


class _Stack:
    """Matrices of a stack, each of its own seed, drawn where they are asked for."""

    def __init__(
        self, shape: tuple[int, ...], start: str, seeds: Sequence[int], by_rows: bool
    ) -> None:
        self.shape = shape
        self._start = start
        self._seeds = seeds
        self._by_rows = by_rows

    def __getitem__(self, key: slice | tuple[()]) -> np.ndarray:
        rows, columns = self.shape[-2:]
        sides = (columns, rows) if self._by_rows else (rows, columns)
        matrices = []
        for seed in self._seeds if isinstance(key, tuple) else self._seeds[key]:
            matrix = STARTS[self._start](seed=seed)(sides, "float32").numpy()
            matrices.append(matrix.T if self._by_rows else matrix)
        return np.stack(matrices)


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0] >> 1)
