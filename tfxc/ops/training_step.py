"""Operations of a training step in C++: Adam, and the loss of a sigmoid with its gradient."""

from pathlib import Path

from tfxc.ops.compiled_operations import CompiledOperation

_SOURCE = Path(__file__).with_name("_training_step.cc")

#: ``adam.get()(variable, first_moment, second_moment, rows, gradient, rate, epsilon, kept,
#: share_1=, share_2=, dense=)`` takes three variables' handles, distinct int32 row numbers, their
#: float32 gradients, three scalars and 1 - beta of both moments, and updates these rows as
#: ``training.optimization.optimizers.Adam`` does, after it has multiplied the weights by ``kept``.
#: ``dense`` updates the whole variable from a gradient of its shape, and looks at no rows.
adam = CompiledOperation(_SOURCE, "tfxc_adam", "optimizer step")

#: ``sigmoid_loss.get()(logits, positives)`` returns what ``ops.losses.sigmoid_cross_entropy`` does
#: of float32 logits and int64 positives, and the gradient of each loss, over the logits where
#: nothing else reads them.
sigmoid_loss = CompiledOperation(_SOURCE, "tfxc_sigmoid_cross_entropy", "sigmoid loss")
