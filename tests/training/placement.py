"""Where the operations of a training step would run on a GPU, found without one.

``python -m tests.training.placement [NAME ...]`` lists them for the models of
``tests.training.placement_models``. TensorFlow's own registry says which kernels there are for a
GPU and which of their arguments are in the host's memory; the walk follows the tensors of a traced
step through its functions, branches and loops.

Kernels for a GPU are registered in builds with CUDA only, also on machines without a GPU.
"""

import sys
from collections import Counter
from typing import NamedTuple

import tensorflow as tf
from tensorflow.python.framework import kernels, op_def_registry

HOST, DEVICE = "host", "device"

# Their output is as long as the values say: the kernel waits for the GPU to tell the host.
SIZED_BY_VALUES = {"Unique", "UniqueV2", "UniqueWithCounts", "Where", "DynamicPartition"}
# What they return depends on shapes alone, which the host knows.
OF_SHAPES = {"Shape", "ShapeN", "Size", "Rank"}
# Functions, walked with the places of what they are given.
BODIES = {
    "PartitionedCall": ("f",),
    "StatefulPartitionedCall": ("f",),
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
    "While": ("cond", "body"),
    "StatelessWhile": ("cond", "body"),
}
# Inserted, or without work of their own.
FREE = {"Const", "NoOp", "Placeholder", "VarHandleOp", "Identity", "IdentityN", "StopGradient"}
_ALWAYS_HOST = {tf.int32.as_datatype_enum, tf.string.as_datatype_enum, tf.resource.as_datatype_enum}


class Tensor(NamedTuple):
    """What is known of one output.

    Attributes:
        place: ``HOST`` or ``DEVICE``.
        of_data: whether it depends on values of the batch or of variables.
        dtype: its number in ``DataType``.
        producer: the name of the operation.
    """

    place: str
    of_data: bool
    dtype: int
    producer: str


class Found(NamedTuple):
    """What keeps a step from running on a GPU without the host; counts by description.

    Attributes:
        no_kernel: operations without a kernel for a GPU.
        on_host: operations on data whose kernel "for a GPU" computes in the host's memory.
        to_host: tensors of data that have to be copied from the GPU's memory to the host's.
        sizes: operations whose result is as long as its values say.
    """

    no_kernel: Counter
    on_host: Counter
    to_host: Counter
    sizes: Counter

    @property
    def total(self) -> int:
        """All of them."""
        return sum(sum(counts.values()) for counts in self)


def has_gpu_kernels() -> bool:
    """Whether this build of TensorFlow knows kernels for a GPU."""
    found = kernels.get_registered_kernels_for_op("MatMul").kernel
    return any(kernel.device_type == "GPU" for kernel in found)


def walk(function) -> Found:
    """Walks a ``ConcreteFunction``; its arguments are on the host, what an iterator yields is not.

    A batch is copied to the GPU by ``prefetch_to_device``; integers of 32 bits stay on the host.
    """
    walker = _Walker(function)
    definition = function.function_def
    arguments = [
        Tensor(HOST, True, argument.type, argument.name)
        for argument in definition.signature.input_arg
    ]
    walker.body(definition, arguments)
    return walker.found


class _Walker:
    def __init__(self, function):
        library = function.graph.as_graph_def(add_shapes=False).library
        self.functions = {f.signature.name: f for f in library.function}
        self.found = Found(Counter(), Counter(), Counter(), Counter())

    def body(self, definition, arguments):
        """Places of the results of one function."""
        nodes = {node.name: node for node in definition.node_def}
        wanted = _reachable(definition, nodes)
        names = [argument.name for argument in definition.signature.input_arg]
        self.values, outer = (
            {name: [value] for name, value in zip(names, arguments, strict=True)},
            getattr(self, "values", None),
        )
        own = self.values
        for node in _in_order(nodes, wanted):
            inputs = [_value(own, name) for name in node.input if not name.startswith("^")]
            own[node.name] = self.outputs(node, inputs)
            self.values = own
        self.values = outer
        return [
            _value(own, definition.ret[output.name]) for output in definition.signature.output_arg
        ]

    def outputs(self, node, inputs):
        """Counts a node; returns its outputs by the name of its output arguments."""
        operation = op_def_registry.get(node.op) or self.functions[node.op].signature
        of_data = any(value.of_data for value in inputs) and node.op not in OF_SHAPES
        if node.op in BODIES or node.op in self.functions:
            return self.call(node, inputs)
        if node.op in FREE:
            kinds = _expanded(operation.output_arg, node)
            if node.op in ("Identity", "StopGradient"):
                return _named(kinds, [inputs[0]])
            on_host = node.op == "VarHandleOp"
            results = [
                Tensor(HOST if on_host or kind in _ALWAYS_HOST else DEVICE, False, kind, node.op)
                for _, kind in kinds
            ]
            return _named(kinds, results)
        of_data |= node.op in ("IteratorGetNext", "ReadVariableOp", "ResourceGather")
        kernel = _kernel(node)
        kinds = _expanded(operation.output_arg, node)
        in_host = None if kernel is None else set(kernel.host_memory_arg)
        places = [
            HOST if kernel is None or name in in_host or _is_host(node, kind) else DEVICE
            for name, kind in kinds
        ]
        self.count(node, operation, inputs, kinds, places, of_data, in_host)
        results = [
            Tensor(place, of_data, kind, node.op)
            for place, (_, kind) in zip(places, kinds, strict=True)
        ]
        return _named(kinds, results)

    def count(self, node, operation, inputs, kinds, places, of_data, in_host):
        dtype = _dtype(inputs[-1].dtype) if inputs else ""
        if in_host is None:
            self.found.no_kernel[f"{node.op} {dtype}"] += 1
        elif node.op in SIZED_BY_VALUES:
            self.found.sizes[f"{node.op} {dtype}"] += 1
        elif of_data and kinds and node.op != "IteratorGetNext" and set(places) == {HOST}:
            self.found.on_host[f"{node.op} {dtype}"] += 1
        for (name, _), value in zip(_expanded(operation.input_arg, node), inputs, strict=True):
            needs_host = in_host is None or name in in_host
            if needs_host and value.place == DEVICE and value.of_data:
                self.found.to_host[f"{value.producer} -> {node.op}.{name}"] += 1

    def call(self, node, inputs):
        """Walks the functions of a call, a branch or a loop."""
        given = inputs
        if node.op in ("If", "StatelessIf"):
            self.edge(inputs[0], f"{node.op}.cond")
            given = inputs[1:]
        given = [self.across(value, node.op) for value in given]
        names = [node.attr[key].func.name for key in BODIES.get(node.op, ())] or [node.op]
        results = []
        for name in names:
            results = self.body(self.functions[name], given)
            if name == node.attr["cond"].func.name and node.op.endswith("While"):
                self.edge(results[0], f"{node.op}.cond")
        results = [self.across(value, node.op) for value in results]
        return {_outputs_of(node, self.functions): results}

    def across(self, value, reader):
        """A tensor that enters or leaves a function: 32-bit integers do so in the host's memory,
        all else in the GPU's.
        """
        if value.dtype not in _ALWAYS_HOST:
            return value._replace(place=DEVICE)
        if value.place == HOST:
            return value
        self.edge(value, reader)
        return value._replace(place=HOST)

    def edge(self, value, reader):
        if value.place == DEVICE and value.of_data:
            self.found.to_host[f"{value.producer} -> {reader}"] += 1


def _is_host(node, kind):
    """Whether a kernel that does not say so returns a tensor in the host's memory."""
    return kind in _ALWAYS_HOST and node.op == "IteratorGetNext"


def _outputs_of(node, functions):
    operation = op_def_registry.get(node.op) or functions[node.op].signature
    return operation.output_arg[0].name if operation.output_arg else "output"


def _reachable(definition, nodes):
    """Names of the nodes that a result or an effect needs: TensorFlow prunes the others."""
    stack = [name.split(":")[0] for name in definition.ret.values()]
    stack += list(definition.control_ret.values())
    wanted = set()
    while stack:
        name = stack.pop()
        if name in wanted or name not in nodes:
            continue
        wanted.add(name)
        stack += [given.lstrip("^").split(":")[0] for given in nodes[name].input]
    return wanted


def _in_order(nodes, wanted):
    """The nodes, each after what it reads."""
    done, order = set(), []
    stack = [(name, False) for name in sorted(wanted, reverse=True)]
    while stack:
        name, ready = stack.pop()
        if name in done or name not in nodes:
            continue
        if ready:
            done.add(name)
            order.append(nodes[name])
            continue
        stack.append((name, True))
        stack += [(given.lstrip("^").split(":")[0], False) for given in nodes[name].input]
    return order


def _value(values, reference):
    """``argument``, or ``node:output:number``."""
    name, *place = reference.split(":")
    found = values[name]
    if not place:
        return found[0]
    return found[place[0]][int(place[1])]


def _expanded(arguments, node):
    """(name, dtype) of every tensor of the arguments of an operation."""
    found = []
    for argument in arguments:
        if argument.type_list_attr:
            found += [(argument.name, t) for t in node.attr[argument.type_list_attr].list.type]
            continue
        kind = argument.type or node.attr[argument.type_attr].type
        count = node.attr[argument.number_attr].i if argument.number_attr else 1
        found += [(argument.name, kind)] * count
    return found


def _named(kinds, values):
    found = {}
    for (name, _), value in zip(kinds, values, strict=True):
        found.setdefault(name, []).append(value)
    return found


def _kernel(node):
    """The kernel that a GPU would run, or None."""
    fitting = [kernel for kernel in _kernels(node.op) if _fits(kernel, node)]
    fitting.sort(key=lambda kernel: (kernel.device_type == "GPU", kernel.priority))
    return fitting[-1] if fitting else None


_known: dict = {}


def _kernels(name):
    if name not in _known:
        found = kernels.get_registered_kernels_for_op(name).kernel
        _known[name] = [kernel for kernel in found if kernel.device_type in ("GPU", "DEFAULT")]
    return _known[name]


def _fits(kernel, node):
    for constraint in kernel.constraint:
        given = node.attr[constraint.name]
        types = [given.type] if given.type else list(given.list.type)
        if any(kind not in constraint.allowed_values.list.type for kind in types):
            return False
    return True


def _dtype(number):
    return tf.dtypes.as_dtype(number).name


def lines(name, found):
    """What the walk found, as text."""
    shown = [f"{name}: {found.total}"]
    for kind, counts in found._asdict().items():
        if counts:
            listed = ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
            shown.append(f"  {kind} {sum(counts.values())}: {listed}")
    return "\n".join(shown)


def main(names):
    """Prints the lists."""
    from tests.training.placement_models import MODELS, trace

    for name in names or MODELS:
        print(lines(name, walk(trace(name))), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
