"""The most memory the tensors of a traced function hold at a time, found without running it."""

import collections
import math
from collections.abc import Iterator, Sequence
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
_SHAPE_OPERATIONS = {"Shape", "ShapeN", "Size", "Rank"}
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


def peak_of(function: tf.types.experimental.ConcreteFunction, arguments: Sequence[Any]) -> int:
    """Returns the bytes that the tensors of a function hold at most, its arguments included.

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
    known_arguments = [_known(value) for value in arguments]
    captured = []
    for outer, _ in graph.captures:
        if outer.dtype == tf.resource:
            captured.append(Known((), outer.dtype, variable=id(outer)))
        else:
            unknown = tf.is_symbolic_tensor(outer) or outer.dtype in _WITHOUT_NUMBERS
            value = None if unknown else outer.numpy()
            captured.append(Known(_bounded(outer.shape, ()), outer.dtype, value))
    inputs = [*known_arguments, *captured]
    walk = _Walk(graph)
    walk.run(graph, inputs)  # which finds the variables that are used by rows
    return walk.run(graph, inputs).peak + sum(known.bytes for known in known_arguments)


def _known(value: object) -> Known:
    array = np.asarray(value)
    return Known(array.shape, tf.as_dtype(array.dtype), array)


class _Ran(NamedTuple):
    """Peak of a graph in bytes beyond its inputs, and what is known of its results."""

    peak: int
    results: list[Known]

    @property
    def beyond(self) -> int:
        """Of the peak, what the results do not hold."""
        return max(0, self.peak - sum(known.bytes for known in self.results))


class _Buffer:
    """Memory that tensors share."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.readers = 0


class _Walk:
    """A function with those it calls.

    Attributes:
        by_rows: variables of which some operation has read or written single rows: from then on
            TensorFlow copies them where they are read as a whole.
    """

    def __init__(self, graph: tf.Graph) -> None:
        self._outer = graph
        self.by_rows: set[Any] = set()

    def run(self, graph: tf.Graph, inputs: Sequence[Known]) -> _Ran:
        """Walks a graph in the order in which operations become ready."""
        return _Run(self, graph, inputs).run()

    def call(self, name: str, inputs: Sequence[Known]) -> _Ran:
        """Walks the graph of a function that is called."""
        return self.run(self._outer._get_function(name).graph, inputs)


class _Run:
    """One walk of a graph, in the order in which its operations become ready."""

    def __init__(self, walk: _Walk, graph: tf.Graph, inputs: Sequence[Known]) -> None:
        self._walk = walk
        self._graph = graph
        self._known: dict[int, Known] = {}
        self._buffers: dict[int, _Buffer] = {}
        self._held = 0
        self._peak = 0
        # Those that results and effects depend on.
        needed = {id(tensor.op) for tensor in graph.outputs}
        needed |= {id(op) for op in graph.control_outputs}
        operations = graph.get_operations()
        for op in reversed(operations):  # inputs come before what reads them
            if id(op) in needed:
                needed |= {id(tensor.op) for tensor in op.inputs} | set(map(id, op.control_inputs))
        self._operations = [op for op in operations if id(op) in needed]
        self._readers = collections.Counter(
            id(tensor) for op in self._operations for tensor in op.inputs
        )
        for tensor, known in zip(graph.inputs, inputs, strict=True):
            # The caller counts them.
            self._known[id(tensor)] = known
            self._buffers[id(tensor)] = _Buffer(0)

    def run(self) -> _Ran:
        """Returns the peak and results of the graph."""
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

    def _operation(self, op: tf.Operation) -> None:
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

    def _drop_unread(self, buffer: _Buffer) -> None:
        if buffer.readers == 0 and buffer.size:
            self._held -= buffer.size
            buffer.size = 0

    def _buffer(
        self, op: tf.Operation, number: int, inputs: Sequence[Known], known: Known
    ) -> _Buffer:
        """Returns the memory of an output: that of an input, or new."""
        size = known.bytes
        if op.type in _ALIASES and number < len(op.inputs):
            return self._buffers[id(op.inputs[number])]
        if op.type == "ReadVariableOp":
            size = size if inputs[0].variable in self._walk.by_rows else 0
        elif op.type == "Const":
            size = 0
        elif op.type in _IN_PLACE and number == 0:
            for tensor, source in zip(op.inputs, inputs, strict=True):
                buffer = self._buffers[id(tensor)]
                if buffer.readers == 1 and buffer.size == size and source.dtype == known.dtype:
                    return buffer
        self._held += size
        return _Buffer(size)

    def _outputs(self, op: tf.Operation, inputs: Sequence[Known]) -> tuple[int, Sequence[Known]]:
        """Returns bytes needed while it runs beyond its outputs, and what is known of these."""
        if op.type in _CALLS:
            ran = self._walk.call(op.get_attr("f").name, inputs)
            return ran.beyond, ran.results
        if op.type in _LOOPS:
            ran = self._walk.call(op.get_attr("body").name, inputs)  # as in the first round
            return ran.beyond, list(map(_larger, inputs, ran.results))
        if op.type in _BRANCHES:
            names = [op.get_attr(name).name for name in ("then_branch", "else_branch")]
            if inputs[0].value is not None:
                names = names[:1] if inputs[0].value else names[1:]
            branches = [self._walk.call(name, inputs[1:]) for name in names]
            results: Sequence[Known] = branches[0].results
            for branch in branches[1:]:
                results = list(map(_larger, results, branch.results))
            return max(branch.beyond for branch in branches), results
        return 0, _results(op, inputs)


def _larger(first: Known, second: Known) -> Known:
    """Returns what holds of both: the larger shape, no value."""
    if first.dtype == tf.resource:
        return first
    shape = max(first.shape, second.shape, key=math.prod)  # the first of equal ones
    return Known(shape, first.dtype)


def _ready_order(operations: Sequence[tf.Operation]) -> Iterator[tf.Operation]:
    """Yields the operations in the order in which all they wait for is done, first come first
    served.
    """
    waiting = {}
    readers = collections.defaultdict(list)
    here = {id(op) for op in operations}
    for op in operations:
        # A dict keeps their order.
        before = dict.fromkeys([*(id(t.op) for t in op.inputs), *map(id, op.control_inputs)])
        awaited = [number for number in before if number in here]
        waiting[id(op)] = len(awaited)
        for number in awaited:
            readers[number].append(op)
    queue = collections.deque(op for op in operations if not waiting[id(op)])
    while queue:
        op = queue.popleft()
        yield op
        for reader in readers[id(op)]:
            waiting[id(reader)] -= 1
            if not waiting[id(reader)]:
                queue.append(reader)


def _results(op: tf.Operation, inputs: Sequence[Known]) -> Sequence[Known]:
    """Returns what is known of the outputs of an operation."""
    if op.type == "Const":
        return [_known(tf.make_ndarray(op.get_attr("value")))]
    if op.type in _SHAPE_OPERATIONS:
        values: list[Any] = [known.shape for known in inputs]
        if op.type in ("Rank", "Size"):
            values = [len(inputs[0].shape) if op.type == "Rank" else math.prod(inputs[0].shape)]
        return [
            _known(np.asarray(value, tensor.dtype.as_numpy_dtype))
            for value, tensor in zip(values, op.outputs, strict=True)
        ]
    if op.type in _SPARSE_MATRICES:
        return [_sparse_matrix(op, inputs)]
    if op.type in ("Identity", "IdentityN"):
        return inputs
    if inputs and inputs[0].different is not None:
        # Numbers that are looked up, such as hashes of features: how many different ones at most.
        dtype = op.outputs[0].dtype
        if op.type == "Cast":
            return [inputs[0]._replace(dtype=dtype)]
        if op.type == "Unique":
            numbers, places = np.unique(inputs[0].different, return_inverse=True)
            return [
                Known(numbers.shape, dtype, different=numbers),
                Known(places.shape, op.outputs[1].dtype, places),
            ]
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
        inferred = _inferred(op, inputs)
        shapes = [shape.merge_with(more) for shape, more in zip(shapes, inferred, strict=True)]
    results = []
    for shape, tensor in zip(shapes, op.outputs, strict=True):
        variable = inputs[0].variable if tensor.dtype == tf.resource and inputs else None
        results.append(Known(_bounded(shape, inputs), tensor.dtype, variable=variable))
    return results


def _sparse_matrix(op: tf.Operation, inputs: Sequence[Known]) -> Known:
    """Returns what is known of a sparse matrix (its shape as a matrix), or of its product."""
    if op.type == "SparseMatrixMatMul":
        rows, _ = inputs[0].shape
        _, columns = inputs[1].shape
        return Known((rows, columns), op.outputs[0].dtype)
    if op.type == "SparseMatrixTranspose":
        return inputs[0]._replace(shape=inputs[0].shape[::-1])
    indices, _, shape = inputs
    size = (0, 0) if shape.value is None else tuple(map(int, shape.value))
    return Known(size, tf.variant, held=12 * indices.shape[0] + 8 * size[0])


def _computed(op: tf.Operation, inputs: Sequence[Known]) -> list[Known] | None:
    """Returns the outputs' values, where those of all inputs are known and it is cheap; or None."""
    values = [known.value for known in inputs if known.value is not None]
    if not inputs or op.op_def.is_stateful or len(values) < len(inputs):
        return None
    if any(tensor.dtype in _WITHOUT_NUMBERS for tensor in op.outputs):
        return None
    if sum(value.size for value in values) > _MOST_COMPUTED:
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
    tensors = [tf.constant(known.value, known.dtype) for known in inputs]
    outputs = execute_operation(op.type, len(op.outputs), tensors, attributes)
    return [Known(tuple(t.shape), t.dtype, t.numpy()) for t in outputs]


def _inferred(op: tf.Operation, inputs: Sequence[Known]) -> list[tf.TensorShape]:
    """Returns the shapes of the outputs for inputs of known shapes, some of known values."""
    with tf.Graph().as_default() as graph:
        tensors = [
            tf.constant(known.value, known.dtype)
            if known.value is not None and known.value.size < 1000
            else tf.compat.v1.placeholder(known.dtype, known.shape)
            for known in inputs
        ]
        try:
            copy = graph._create_op_internal(
                op.type,
                tensors,
                [t.dtype for t in op.outputs],
                attrs=dict(op.node_def.attr),
                op_def=op.op_def,
            )
        except ValueError:  # lists and the like know more of themselves than is written in them
            return [tensor.shape for tensor in op.outputs]
        return [tensor.shape for tensor in copy.outputs]


def _bounded(shape: tf.TensorShape, inputs: Sequence[Known]) -> tuple[int, ...]:
    """Returns a shape with numbers in place of what only values say: as large as the largest
    input.
    """
    largest: tuple[int, ...] = max((known.shape for known in inputs), key=math.prod, default=(0,))
    if shape.rank is None:
        return largest if inputs else ()
    size = math.prod(length for length in shape if length is not None)
    unknown = sum(length is None for length in shape)
    share = math.ceil((math.prod(largest) / max(size, 1)) ** (1 / unknown)) if unknown else 0
    return tuple(share if length is None else length for length in shape)
