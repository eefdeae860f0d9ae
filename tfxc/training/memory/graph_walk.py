"""The most memory the tensors of a traced function hold at a time, found without running it."""

import collections
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfxc.ops.private_apis import execute_operation

# Their result shares the memory of their first input.
_ALIASES = {
    "Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "PreventGradient",
    "EnsureShape", "CheckNumerics", "Bitcast", "Snapshot",
}  # fmt: skip
# Their result takes the memory of an input of its size that nothing else reads.
_IN_PLACE = {
    "Abs", "Add", "AddN", "AddV2", "BiasAdd", "Cast", "Ceil", "Cos", "Div", "DivNoNan", "Elu",
    "EluGrad", "Erf", "Exp", "Expm1", "Floor", "FusedBatchNormV3", "Inv", "InvGrad", "LeakyRelu",
    "LeakyReluGrad", "Log", "Log1p", "LogSoftmax", "Maximum", "Minimum", "Mul", "MulNoNan", "Neg",
    "Pow", "RealDiv", "Reciprocal", "Relu", "Relu6", "ReluGrad", "Relu6Grad", "Round", "Rsqrt",
    "RsqrtGrad", "Select", "SelectV2", "Selu", "SeluGrad", "Sigmoid", "SigmoidGrad", "Sign", "Sin",
    "Softmax", "Softplus", "SoftplusGrad", "Sqrt", "SqrtGrad", "Square", "SquaredDifference", "Sub",
    "Tanh", "TanhGrad", "TensorScatterAdd", "TensorScatterUpdate", "Xdivy", "Xlogy", "ZerosLike",
}  # fmt: skip
_OF_SHAPES = {"Shape", "ShapeN", "Size", "Rank"}
_SPARSE_MATRICES = {"SparseTensorToCSRSparseMatrix", "SparseMatrixTranspose", "SparseMatrixMatMul"}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_BRANCHES = {"If", "StatelessIf"}
_LOOPS = {"While", "StatelessWhile"}
_BY_ROWS = ("ResourceGather", "ResourceScatter", "ResourceSparseApply")
_WITHOUT_NUMBERS = (tf.string, tf.resource, tf.variant)
# Values of at most as many numbers are computed where all they depend on is known.
_MOST_COMPUTED = 1 << 22


class Known(NamedTuple):
    """What is known of a tensor.

    Attributes:
        shape: tuple of ints.
        dtype: of its numbers.
        value: array, where it depends on the batch alone.
        variable: what a handle of a variable refers to.
        held: bytes of a sparse matrix.
        different: of numbers that are looked up in a variable, which are not known: an array with
            at least as many different ones at the same places.
    """

    shape: tuple[int, ...]
    dtype: tf.DType
    value: np.ndarray | None = None
    variable: Any = None
    held: int = 0
    different: np.ndarray | None = None

    @property
    def bytes(self) -> int:
        """Of memory; of strings, handles and lists none."""
        if self.dtype in _WITHOUT_NUMBERS:
            return self.held
        return math.prod(self.shape) * self.dtype.size


def peak_of(function: Any, arguments: Sequence[Any]) -> int:
    """Bytes that the tensors of a function hold at most, its arguments included.

    Operations run in the order in which they become ready. A tensor is held until the last
    operation that reads it is done; one that adds and the like writes over an input that is no
    longer needed. Bodies of loops count once. Variables do not count, copies of them do.

    Args:
        function: ``tf.ConcreteFunction``.
        arguments: arrays, as they are given to it; sizes that depend on their values are computed.

    Example:
        >>> double = tf.function(lambda x: tf.matmul(x, x) + 1.0).get_concrete_function(
        ...     tf.TensorSpec((8, 8)))
        >>> peak_of(double, [np.ones((8, 8), np.float32)])
        512
    """
    graph = function.graph
    given = [_known(value) for value in arguments]
    captured = [
        Known((), outer.dtype, variable=id(outer))
        if outer.dtype == tf.resource
        else _of_capture(outer)
        for outer, _ in graph.captures
    ]
    walk = _Walk(graph)
    walk.run(graph, [*given, *captured])  # which finds the variables that are used by rows
    return walk.run(graph, [*given, *captured]).peak + sum(one.bytes for one in given)


def _known(value):
    array = np.asarray(value)
    return Known(array.shape, tf.as_dtype(array.dtype), array)


def _of_capture(tensor):
    unknown = tf.is_symbolic_tensor(tensor) or tensor.dtype in _WITHOUT_NUMBERS
    return Known(_bounded(tensor.shape, ()), tensor.dtype, None if unknown else tensor.numpy())


class _Ran(NamedTuple):
    """Peak of a graph in bytes beyond its inputs, and what is known of its results."""

    peak: int
    results: list[Known]


class _Buffer:
    """Memory that tensors share."""

    def __init__(self, size):
        self.size = size
        self.readers = 0


class _Walk:
    """A function with those it calls.

    Attributes:
        by_rows: variables of which some operation has read or written single rows: from then on
            TensorFlow copies them where they are read as a whole.
    """

    def __init__(self, graph):
        self._outer = graph
        self.by_rows = set()

    def run(self, graph, inputs):
        """Walks a graph in the order in which operations become ready."""
        return _Run(self, graph, inputs).run()

    def graph_of(self, name):
        """The graph of a function that is called."""
        return self._outer._get_function(name).graph


class _Run:
    def __init__(self, walk, graph, inputs):
        self._walk = walk
        self._graph = graph
        self._known = {}
        self._buffers = {}
        self._held = 0
        self._peak = 0
        self._operations = _needed(graph)
        self._readers = collections.Counter(
            id(tensor) for op in self._operations for tensor in op.inputs
        )
        for tensor, known in zip(graph.inputs, inputs, strict=True):
            # The caller counts them.
            self._known[id(tensor)] = known
            self._buffers[id(tensor)] = _Buffer(0)

    def run(self):
        for tensor in self._graph.outputs:
            self._readers[id(tensor)] += 1  # held to the end
        for tensor in self._graph.inputs:
            self._buffers[id(tensor)].readers = 1 << 30
        for op in _ready_order(self._operations):
            if op.outputs and id(op.outputs[0]) in self._known:
                continue  # an input
            self._operation(op)
        results = [self._known[id(tensor)] for tensor in self._graph.outputs]
        return _Ran(self._peak, results)

    def _operation(self, op):
        inputs = [self._known[id(tensor)] for tensor in op.inputs]
        if op.type.startswith(_BY_ROWS):
            self._walk.by_rows.add(inputs[0].variable)
        scratch, outputs = self._outputs(op, inputs)
        buffers = [self._buffer(op, number, inputs, known) for number, known in enumerate(outputs)]
        self._peak = max(self._peak, self._held + scratch)
        for tensor, known, buffer in zip(op.outputs, outputs, buffers, strict=True):
            self._known[id(tensor)] = known
            self._buffers[id(tensor)] = buffer
            buffer.readers += self._readers[id(tensor)]
        for buffer in {id(b): b for b in buffers}.values():
            self._drop_unread(buffer)
        for tensor in op.inputs:
            buffer = self._buffers[id(tensor)]
            buffer.readers -= 1
            self._drop_unread(buffer)

    def _drop_unread(self, buffer):
        if buffer.readers == 0 and buffer.size:
            self._held -= buffer.size
            buffer.size = 0

    def _buffer(self, op, number, inputs, known):
        """The memory of an output: that of an input, or new."""
        size = known.bytes
        if op.type in _ALIASES and number < len(op.inputs):
            return self._buffers[id(op.inputs[number])]
        if op.type == "ReadVariableOp":
            size = size if inputs[0].variable in self._walk.by_rows else 0
        elif op.type == "Const":
            size = 0
        elif op.type in _IN_PLACE and number == 0:
            for tensor, given in zip(op.inputs, inputs, strict=True):
                buffer = self._buffers[id(tensor)]
                if buffer.readers == 1 and buffer.size == size and given.dtype == known.dtype:
                    return buffer
        self._held += size
        return _Buffer(size)

    def _outputs(self, op, inputs):
        """Bytes needed while it runs beyond its outputs, and what is known of these."""
        if op.type in _CALLS:
            ran = self._call(op.get_attr("f").name, inputs)
            return self._beyond(ran), ran.results
        if op.type in _BRANCHES:
            return self._branches(op, inputs)
        if op.type in _LOOPS:
            ran = self._call(op.get_attr("body").name, inputs)  # as in the first round
            return self._beyond(ran), [
                _larger(one, other) for one, other in zip(inputs, ran.results, strict=True)
            ]
        return 0, _results(op, inputs)

    def _call(self, name, inputs):
        return self._walk.run(self._walk.graph_of(name), inputs)

    def _beyond(self, ran):
        return max(0, ran.peak - sum(one.bytes for one in ran.results))

    def _branches(self, op, inputs):
        names = [op.get_attr(name).name for name in ("then_branch", "else_branch")]
        if inputs[0].value is not None:
            names = names[:1] if inputs[0].value else names[1:]
        ran = [self._call(name, inputs[1:]) for name in names]
        results = ran[0].results
        for other in ran[1:]:
            results = [_larger(a, b) for a, b in zip(results, other.results, strict=True)]
        return max(map(self._beyond, ran)), results


def _larger(one, other):
    """What holds of both: the larger shape, no value."""
    if one.dtype == tf.resource:
        return one
    shape = one.shape if math.prod(one.shape) >= math.prod(other.shape) else other.shape
    return Known(shape, one.dtype)


def _needed(graph):
    """Operations that results and effects depend on, in the order of the graph."""
    wanted = {id(tensor.op) for tensor in graph.outputs}
    wanted |= {id(op) for op in graph.control_outputs}
    operations = graph.get_operations()
    for op in reversed(operations):  # inputs come before what reads them
        if id(op) in wanted:
            wanted |= {id(one.op) for one in op.inputs} | {id(one) for one in op.control_inputs}
    return [op for op in operations if id(op) in wanted]


def _ready_order(operations):
    """The operations in the order in which all they wait for is done, first come first served."""
    waiting = {}
    readers = collections.defaultdict(list)
    here = {id(op) for op in operations}
    for op in operations:
        before = {id(one.op): None for one in op.inputs} | {
            id(one): None for one in op.control_inputs
        }
        before = [one for one in before if one in here]
        waiting[id(op)] = len(before)
        for one in before:
            readers[one].append(op)
    queue = collections.deque(op for op in operations if not waiting[id(op)])
    while queue:
        op = queue.popleft()
        yield op
        for reader in readers[id(op)]:
            waiting[id(reader)] -= 1
            if not waiting[id(reader)]:
                queue.append(reader)


def _results(op, inputs):
    """What is known of the outputs of an operation."""
    if op.type == "Const":
        return [_known(tf.make_ndarray(op.get_attr("value")))]
    if op.type in _OF_SHAPES:
        return [_known(one) for one in _of_shapes(op, inputs)]
    if op.type in _SPARSE_MATRICES:
        return [_sparse_matrix(op, inputs)]
    if op.type in ("Identity", "IdentityN"):
        return inputs
    if inputs and inputs[0].different is not None:
        found = _of_different(op, inputs[0])
        if found is not None:
            return found
    computed = _computed(op, inputs)
    if computed is not None:
        return computed
    shapes = [tensor.shape for tensor in op.outputs]
    if op.type == "ResourceGather":
        rank = len(inputs[1].shape)
        shapes = [tf.TensorShape(inputs[1].shape).concatenate(shapes[0][rank:])]
        if shapes[0].rank == rank and op.outputs[0].dtype.is_integer:
            return [Known(inputs[1].shape, op.outputs[0].dtype, different=inputs[1].value)]
    elif not all(shape.is_fully_defined() for shape in shapes):
        found = _inferred(op, inputs)
        shapes = [one.merge_with(other) for one, other in zip(shapes, found, strict=True)]
    return [
        Known(_bounded(shape, inputs), tensor.dtype, variable=_variable(op, inputs, tensor))
        for shape, tensor in zip(shapes, op.outputs, strict=True)
    ]


def _of_shapes(op, inputs):
    """Values that depend on shapes alone."""
    if op.type in ("Shape", "ShapeN"):
        found = [one.shape for one in inputs]
    else:
        found = [len(inputs[0].shape) if op.type == "Rank" else math.prod(inputs[0].shape)]
    return [
        np.asarray(one, tensor.dtype.as_numpy_dtype)
        for one, tensor in zip(found, op.outputs, strict=True)
    ]


def _of_different(op, given):
    """What is known of the outputs of an operation on numbers that are looked up, such as hashes of
    features: how many different ones there are at most. None if the operation keeps no count."""
    dtype = op.outputs[0].dtype
    if op.type == "Cast":
        return [given._replace(dtype=dtype)]
    if op.type == "Unique":
        numbers, places = np.unique(given.different, return_inverse=True)
        return [
            Known(numbers.shape, dtype, different=numbers),
            Known(places.shape, op.outputs[1].dtype, places),
        ]
    return None


def _sparse_matrix(op, inputs):
    """What is known of a sparse matrix (its shape as a matrix), or of its product."""
    if op.type == "SparseMatrixMatMul":
        rows, _ = inputs[0].shape
        _, columns = inputs[1].shape
        return Known((rows, columns), op.outputs[0].dtype)
    if op.type == "SparseMatrixTranspose":
        return inputs[0]._replace(shape=inputs[0].shape[::-1])
    indices, _, shape = inputs
    size = (0, 0) if shape.value is None else tuple(map(int, shape.value))
    return Known(size, tf.variant, held=12 * indices.shape[0] + 8 * size[0])


def _variable(op, inputs, tensor):
    return inputs[0].variable if tensor.dtype == tf.resource and inputs else None


def _computed(op, inputs):
    """The outputs' values, where those of all inputs are known and it is cheap; or None."""
    if not inputs or op.op_def.is_stateful or any(one.value is None for one in inputs):
        return None
    if any(tensor.dtype in _WITHOUT_NUMBERS for tensor in op.outputs):
        return None
    if sum(one.value.size for one in inputs) > _MOST_COMPUTED:
        return None
    if any(
        t.shape.num_elements() is not None and t.shape.num_elements() > _MOST_COMPUTED
        for t in op.outputs
    ):
        return None
    attributes = []
    for name in op.node_def.attr:
        if not name.startswith("_"):
            attributes += [name, op.get_attr(name)]
    tensors = [tf.constant(one.value, one.dtype) for one in inputs]
    found = execute_operation(op.type, len(op.outputs), tensors, attributes)
    return [Known(tuple(t.shape), t.dtype, t.numpy()) for t in found]


def _inferred(op, inputs):
    """Shapes of the outputs for inputs of known shapes, some of known values."""
    with tf.Graph().as_default() as graph:
        tensors = [
            tf.constant(one.value, one.dtype)
            if one.value is not None and one.value.size < 1000
            else tf.compat.v1.placeholder(one.dtype, one.shape)
            for one in inputs
        ]
        try:
            copy = graph._create_op_internal(
                op.type, tensors, [t.dtype for t in op.outputs],
                attrs=dict(op.node_def.attr), op_def=op.op_def,
            )  # fmt: skip
        except ValueError:  # lists and the like know more of themselves than is written in them
            return [tensor.shape for tensor in op.outputs]
        return [tensor.shape for tensor in copy.outputs]


def _bounded(shape, inputs):
    """A shape with numbers in place of what only values say: as large as the largest input."""
    if shape.rank is None:
        largest = max((one.shape for one in inputs), key=math.prod, default=())
        return largest
    known = math.prod(length for length in shape if length is not None)
    most = max((math.prod(one.shape) for one in inputs), default=0)
    unknown = sum(length is None for length in shape)
    share = math.ceil((most / max(known, 1)) ** (1 / unknown)) if unknown else 0
    return tuple(share if length is None else length for length in shape)
