"""Large variables in TensorFlow's checkpoint format, in slices that are read one at a time."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from tfxc.ops.tables.large_weights import assign_rows, pieces_of, shared_value


def is_large(variable: tf.Variable) -> bool:
    """Says whether a variable is written in slices.

    TensorFlow's own checkpoints need the memory of a variable twice when they are read.
    """
    return bool(pieces_of(variable.shape, variable.dtype))


def write_tables(path: str | Path, tables: Mapping[str, tf.Variable]) -> None:
    """Writes variables that are large to ``PATH.index`` and ``PATH.data-*``, without a copy.

    Args:
        path: first part of the files' names.
        tables: variables by their names in the file.

    Example:
        >>> write_tables("checkpoints/ckpt-7.tables", {"0": variable})  # doctest: +SKIP
    """
    names = []
    places = []
    values = []
    for name, variable in tables.items():
        value = shared_value(variable)
        for begin, end in pieces_of(variable.shape, variable.dtype):
            names.append(name)
            places.append(_place(variable.shape, begin, end))
            values.append(value[begin:end])  # shares the memory of the variable
    tf.raw_ops.SaveV2(prefix=str(path), tensor_names=names, shape_and_slices=places, tensors=values)


def read_tables(path: str | Path, tables: Mapping[str, tf.Variable]) -> None:
    """Reads variables that ``write_tables`` wrote, slice by slice.

    Args:
        path: see there.
        tables: some or all of them, by name.

    Raises:
        ValueError: one is missing, or has another shape.
        tf.errors.OpError: they cannot be read.
    """
    shapes = table_shapes(path)
    for name, variable in tables.items():
        if shapes.get(name) != variable.shape.as_list():
            raise ValueError(f"{name} has the shape {shapes.get(name)}, not {variable.shape}")
    for name, variable in tables.items():
        for begin, end in pieces_of(variable.shape, variable.dtype):
            (rows,) = tf.raw_ops.RestoreV2(
                prefix=str(path),
                tensor_names=[name],
                shape_and_slices=[_place(variable.shape, begin, end)],
                dtypes=[tf.float32],
            )
            assign_rows(variable, begin, rows)


def table_shapes(path: str | Path) -> dict[str, list[int]]:
    """Returns shapes of the variables that ``write_tables`` wrote, by name; empty if there are
    none.

    Args:
        path: see there.

    Raises:
        ValueError, tf.errors.OpError: the files are damaged.
    """
    if not Path(f"{path}.index").exists():
        return {}
    return dict(tf.train.load_checkpoint(str(path)).get_variable_to_shape_map())


def _place(shape: tf.TensorShape, begin: int, end: int) -> str:
    """Returns a slice of rows as TensorFlow writes it, e.g. ``"10 3 4,2:-"`` for rows 4 and 5 of
    10.
    """
    return f"{' '.join(map(str, shape))} {begin},{end - begin}" + ":-" * (len(shape) - 1)
