"""Adam over the rows of a table that a batch touched, in C++."""

from pathlib import Path

from tfxc.ops.compiled_operations import CompiledOperation

#: ``row_adam.get()(variable, first_moment, second_moment, rows, gradient, rate, epsilon, share_1=,
#: share_2=)`` takes three variables' handles, distinct int32 row numbers, their float32 gradients,
#: two scalars and 1 - beta of both moments, and updates these rows as
#: ``training.optimization.optimizers.Adam`` does.
row_adam = CompiledOperation(
    Path(__file__).with_name("_row_adam.cc"), "tfxc_row_adam", "optimizer step"
)
