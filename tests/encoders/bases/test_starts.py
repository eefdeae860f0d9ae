import keras
import numpy as np
import pytest

from tfxc.core.registry import STARTS as NAMES
from tfxc.encoders.bases.starts import STARTS, restart_encoder, restart_head
from tfxc.ops.tables import large_weights, row_start


def variable(*shape, name="kernel"):
    return keras.Variable(np.zeros(shape, "f4"), name=name)


def spread(values, fan_in, fan_out):
    """What each start is told by: largest value of the uniform ones, deviation of the normal."""
    return {
        "uniform": (np.abs(values).max(), fan_in**-0.5),
        "normal": (values.std(), fan_in**-0.5),
        "xavier": (np.abs(values).max(), (6 / (fan_in + fan_out)) ** 0.5),
        "kaiming": (np.abs(values).max(), (6 / fan_in) ** 0.5),
    }


def test_the_names_of_configs():
    assert set(NAMES) == set(STARTS)


@pytest.mark.parametrize("start", STARTS)
def test_kernels_and_filters_of_an_encoder(start):
    kernel, filters = variable(90, 40), variable(3, 3, 20, 40)
    table, bias, slopes = variable(30, 4), variable(40), variable(1, 1, 9, name="alpha")
    restart_encoder([kernel, filters, table, bias, slopes], start, 5, tables=[table])
    for values, fan_in, fan_out in ((kernel, 90, 40), (filters, 180, 360)):
        found, expected = spread(values.numpy(), fan_in, fan_out)[start]
        assert found == pytest.approx(expected, rel=0.03)
    assert not any(values.numpy().any() for values in (table, bias, slopes))
    again = variable(90, 40)
    restart_encoder([again], start, 5)
    np.testing.assert_array_equal(again.numpy(), kernel.numpy())
    restart_encoder([again], start, 6)
    assert (again.numpy() != kernel.numpy()).mean() > 0.99


@pytest.mark.parametrize("start", STARTS)
def test_kernels_of_a_head(start):
    columns, rows = variable(50, 400), variable(400, 50)
    labels, stack = variable(300, 30, name="table_1"), variable(3, 50, 80)
    restart_head([columns, rows, labels, stack, variable(400)], start, 5, dim=50)
    for values, fan_in, fan_out in (
        (columns.numpy(), 50, 400),
        (rows.numpy(), 50, 400),
        (labels.numpy(), 30, 300),
        (stack.numpy()[1], 50, 80),
    ):
        found, expected = spread(values, fan_in, fan_out)[start]
        assert found == pytest.approx(expected, rel=0.03)
    assert (stack.numpy()[0] != stack.numpy()[1]).mean() > 0.99


def test_a_repetition_alone_starts_as_among_others():
    stack, alone = variable(3, 50, 80), variable(1, 50, 80)
    restart_head([stack], "xavier", 5, dim=50, first=1)
    restart_head([alone], "xavier", 5, dim=50, first=2)
    np.testing.assert_array_equal(alone.numpy()[0], stack.numpy()[1])


@pytest.mark.parametrize("start", STARTS)
def test_a_large_table_of_labels_is_drawn_in_blocks(start, monkeypatch):
    monkeypatch.setattr(large_weights, "_PIECE", 2**12)
    monkeypatch.setattr(row_start, "_BLOCK", 2**9)
    table = variable(400, 50, name="kernel")
    value = table.value
    restart_head([table], start, 5, dim=50)
    found, expected = spread(table.numpy(), 50, 400)[start]
    assert found == pytest.approx(expected, rel=0.03) and table.value is value
    assert len(np.unique(table.numpy(), axis=0)) == 400
    monkeypatch.setattr(large_weights, "_PIECE", 2**13)
    again = variable(400, 50)
    restart_head([again], start, 5, dim=50)
    np.testing.assert_array_equal(again.numpy(), table.numpy())
    stack, whole = variable(40, 10, 50, name="table"), variable(40, 10, 50, name="table")
    restart_head([stack], start, 5, dim=50)
    monkeypatch.undo()
    restart_head([whole], start, 5, dim=50)
    np.testing.assert_array_equal(stack.numpy(), whole.numpy())
