"""A random graph under construction: each node is evaluated as soon as it is drawn, and rejected if that fails.

So families may draw nodes that are wrong in dtype, shape or size; the result is always a model with a determined answer for each of
its feeds. There are two sets of feeds, with different values for each named size.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import helper

from fuzz.three_arithmetics import Array, Evaluated, Known, Undetermined, exact, from_numpy
from sardonyx.base.dtypes import BY_CODE, DType
from sardonyx.base.errors import SardonyxError
from sardonyx.graph import schemas
from sardonyx.graph.reference.interpreter import KERNEL_ERRORS

MOST_ELEMENTS = 3000
FEEDS = 2
SIZES = (0, 1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 7, 8, 9, 11, 16, 17, 33)
NAMES = ("n", "m", "k")
RESULTS = ("f32", "f32", "f32", "f32", "f64", "f16", "bf16", "i64", "i32", "i8", "u8", "i16", "u16", "u32", "u64", "bool")
TYPES = {dtype.name: dtype for dtype in BY_CODE.values()}
T = TypeVar("T")
Sizes = tuple[tuple[int, ...], ...]  # a shape for each set of feeds


class Rejected(Exception):
    """The drawn node can't be added to this graph."""


@dataclass(frozen=True, eq=False)
class Value:
    """A value: its name, and what it is for each set of feeds. depth: that of the graph that defines it, 0 for the model's"""

    name: str
    known: tuple[Known, ...]
    depth: int

    @property
    def dtype(self) -> DType:
        return self.known[0].dtype

    @property
    def rank(self) -> int:
        return self.known[0].native.ndim

    @property
    def shapes(self) -> Sizes:
        return tuple(k.native.shape for k in self.known)

    @property
    def arrays(self) -> tuple[Array, ...]:
        return tuple(k.native for k in self.known)

    @property
    def is_float(self) -> bool:
        return self.dtype.is_float

    @property
    def is_number(self) -> bool:
        return self.dtype.is_float or self.dtype.is_integer

    @property
    def least(self) -> int:
        """Return the smallest number of elements over all feeds."""
        return min(x.size for x in self.arrays)

    @property
    def is_finite(self) -> bool:
        return not self.is_float or all(bool(np.isfinite(k.wide).all()) for k in self.known)


@dataclass
class Model:
    """What all graphs of a model share."""

    random: random.Random
    opset: int
    sizes: tuple[dict[str, int], ...]  # {name: size} for each set of feeds
    noise: np.random.Generator
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    feeds: tuple[dict[str, Array], ...] = ()
    names: int = 0
    dtypes: dict[str, DType] = field(default_factory=dict)  # dtypes of all values, including those of bodies
    peers: bool = True  # whether other runtimes may run this model; not if it divides integers by zero


class Builder:
    """A graph of the model: its own nodes, and the graphs around it whose values it can read."""

    def __init__(self, model: Model, outer: Builder | None = None) -> None:
        self.model, self.outer = model, outer
        self.depth: int = outer.depth + 1 if outer else 0
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.values: list[Value] = []
        self.used: set[str] = set()

    # ---- chance ---------------------------------------------------------------------------------------------------------

    @property
    def random(self) -> random.Random:
        return self.model.random

    def either(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def among(self, choices: Sequence[T]) -> T:
        """Return a random one of the choices. Raises Rejected if there are none."""
        if not choices:
            raise Rejected("nothing to choose from")
        return self.random.choice(choices)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def below(self, number: int) -> int:
        if number < 1:
            raise Rejected("no number is below")
        return self.random.randrange(number)

    def numbers(self) -> np.random.Generator:
        return np.random.default_rng(self.random.getrandbits(32))

    # ---- values ---------------------------------------------------------------------------------------------------------

    def name(self, prefix: str) -> str:
        self.model.names += 1
        return f"{prefix}{self.model.names}"

    def visible(self) -> list[Value]:
        return [*(self.outer.visible() if self.outer else ()), *self.values]

    def pick(self, suits: Callable[[Value], bool]) -> Value:
        """Return a random value that suits, preferably a late one. Raises Rejected."""
        found = [value for value in self.visible() if suits(value)]
        if not found:
            raise Rejected("no value suits")
        return found[-1 - int(len(found) * self.random.random() ** 1.7)]

    def number(self, least: int = 0) -> Value:
        """Return a random value of numbers that has at least this many axes."""
        return self.pick(lambda v: v.is_number and v.rank >= least)

    def float(self, least: int = 0, most: int = 9) -> Value:
        return self.pick(lambda v: v.is_float and least <= v.rank <= most)

    def exact(self, least: int = 0) -> Value:
        """Return a random value that rounding does not affect: it may decide sizes and choices."""
        return self.pick(lambda v: v.rank >= least and all(k.is_exact for k in v.known))

    def add(self, name: str, known: Sequence[Known]) -> Value:
        value = Value(name, tuple(known), self.depth)
        self.values.append(value)
        self.model.dtypes[name] = value.dtype
        return value

    def constant(self, array: Any, dtype: str = "") -> Value:
        """Add an initializer or a Constant node; sometimes, if it is small, an input of the model that is fed this array."""
        held = np.asarray(array) if not dtype else np.asarray(array).astype(TYPES[dtype].numpy)
        if self.depth == 0 and held.size < 10 and held.dtype != bool and self.chance(0.12):
            return self.input(held.shape, [held] * FEEDS)
        name, known = self.name("c"), [exact(held)] * FEEDS
        self.model.dtypes[name] = from_numpy(held.dtype)
        tensor = tensor_proto(held, name)
        if self.chance(0.25):
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return Value(name, tuple(known), self.depth)

    def integers(self, *numbers: int) -> Value:
        """Add a constant i64[len(numbers)]."""
        return self.constant(np.array(numbers, np.int64))

    def input(self, sizes: Sequence[int | str | None], arrays: Sequence[Array]) -> Value:
        """Add an input of the model (of the outermost graph)."""
        root = self
        while root.outer is not None:
            root = root.outer
        name = self.name("x")
        self.model.inputs.append(helper.make_tensor_value_info(name, from_numpy(arrays[0].dtype).code, list(sizes)))
        for feeds, array in zip(self.model.feeds, arrays, strict=True):
            feeds[name] = array
        return root.add(name, [exact(array) for array in arrays])

    def leaf(self, sizes: Sequence[int | str], dtype: DType) -> Value:
        """Add an input or a constant of these sizes; a string is the name of a size."""
        shapes = [tuple(feeds[size] if isinstance(size, str) else size for size in sizes) for feeds in self.model.sizes]
        if max(int(np.prod(shape)) for shape in shapes) > MOST_ELEMENTS:
            raise Rejected("too large")
        if all(isinstance(size, int) for size in sizes) and self.chance(0.4):
            return self.constant(draw_array(self, shapes[0], dtype))
        return self.input(sizes, [draw_array(self, shape, dtype) for shape in shapes])

    def sizes(self, most: int = 4) -> list[int | str]:
        """Draw sizes for a leaf."""
        rank = self.either(0, 1, 1, 2, 2, 2, 3, 3, 4)
        return [self.either(*NAMES) if self.chance(0.4) else self.either(*SIZES) for _ in range(min(rank, most))]

    def like(self, value: Value, sizes: Sequence[int | None]) -> Value:
        """Add a leaf of the value's dtype and of these sizes; None means the value's size at this axis."""
        wanted: list[int | str] = []
        for axis, size in enumerate(sizes):
            found = tuple(shape[axis] for shape in value.shapes) if size is None else ()
            names = [n for n in NAMES if tuple(feeds[n] for feeds in self.model.sizes) == found]
            if size is None and not names and len(set(found)) > 1:
                raise Rejected("a size without a name")
            wanted.append(size if size is not None else found[0] if len(set(found)) == 1 else names[0])
        return self.leaf(wanted, value.dtype)

    # ---- nodes ----------------------------------------------------------------------------------------------------------

    def node(self, operator: str, *inputs: Value | None, outputs: int = 1, **attributes: Any) -> list[Value]:
        """Add a node and return its outputs. Raises Rejected."""
        schema = schemas.find("", operator, self.model.opset)
        if schema is None or schema.deprecated:
            raise Rejected("not in this opset")
        check_types(schema, inputs)
        names = [value.name if value is not None else "" for value in inputs]
        while names and not names[-1]:
            names.pop()
        node = helper.make_node(operator, names, [self.name("v") for _ in range(outputs)], self.name("node"), **attributes)
        return self.evaluated(node)

    def out(self, operator: str, *inputs: Value | None, **attributes: Any) -> Value:
        """Add a node with one output and return it."""
        return self.node(operator, *inputs, **attributes)[0]

    def reduced(self, operator: str, x: Value, axes: Sequence[int], keepdims: int = 1) -> Value:
        """Add a reduction over these axes, which are an attribute before opset 18 (except for ReduceSum)."""
        if self.model.opset >= 18 or operator == "ReduceSum":
            return self.out(operator, x, self.integers(*axes), keepdims=keepdims)
        return self.out(operator, x, axes=list(axes), keepdims=keepdims)

    def evaluated(self, node: onnx.NodeProto) -> list[Value]:
        """Add the node if it can be evaluated for all feeds. Raises Rejected."""
        named = {value.name: value for value in self.visible()} | {name: self.found(name) for name in node.input if name}
        imports = {"": self.model.opset}
        try:
            run = Evaluated(node, imports, self.model.dtypes)
            found = []
            for k in range(FEEDS):
                inputs = [named[name].known[k] if name else None for name in run.inputs]
                found.append(run(inputs, self.output_dtypes(node, named), self.model.noise))
        except (SardonyxError, *KERNEL_ERRORS, Undetermined) as error:
            raise Rejected(f"{node.op_type}: {error}") from error
        columns = list(zip(*found, strict=True))
        for known in columns:
            if len({k.native.ndim for k in known}) > 1 or len({k.native.dtype for k in known}) > 1:
                raise Rejected("the rank depends on the feeds")
            if max(k.native.size for k in known) > MOST_ELEMENTS:
                raise Rejected("too large")
        self.nodes.append(node)
        self.used.update(run.inputs)
        return [self.add(name, known) for name, known in zip(node.output, columns, strict=False)]

    def found(self, name: str) -> Value:
        """Return the value or constant of this name."""
        value = next((v for v in self.visible() if v.name == name), None)
        if value is not None:
            return value
        graph: Builder | None = self
        while graph is not None:
            for tensor in graph.tensors():
                if tensor.name == name:
                    return Value(name, (exact(onnx.numpy_helper.to_array(tensor)),) * FEEDS, graph.depth)
            graph = graph.outer
        raise KeyError(name)

    def tensors(self) -> list[onnx.TensorProto]:
        """Return the constants of this graph."""
        return [*self.initializers, *(node.attribute[0].t for node in self.nodes if node.op_type == "Constant")]

    def output_dtypes(self, node: onnx.NodeProto, named: Mapping[str, Value]) -> list[DType | None]:
        """Return the outputs' dtypes by the standard's rules; for a node with bodies those of its bodies' outputs."""
        bodies = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
        if bodies:
            first = 1 if node.op_type == "Loop" else 0
            return [BY_CODE[value.type.tensor_type.elem_type] for value in bodies[0].output[first:]]
        types = {n: helper.make_tensor_type_proto(named[n].dtype.code, None) for n in node.input if n}
        version = [helper.make_opsetid("", self.model.opset)]
        schema = onnx.defs.get_schema(node.op_type, self.model.opset, "")
        try:
            made = onnx.shape_inference.infer_node_outputs(schema, node, types, {}, opset_imports=version)
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
            raise Rejected(str(error)) from error
        return [BY_CODE[made[name].tensor_type.elem_type] if name in made else None for name in node.output]


def check_types(schema: schemas.Schema, inputs: Sequence[Value | None]) -> None:
    """Check that the operator takes these dtypes. Raises Rejected."""
    letters: dict[str, DType] = {}
    for k, value in enumerate(inputs):
        if value is None:
            continue
        parameter = schema.input(k)
        if f"tensor({value.dtype.onnx_name})" not in parameter.types:
            raise Rejected(f"{schema.name} of {value.dtype}")
        if parameter.agrees and letters.setdefault(parameter.letter, value.dtype) is not value.dtype:
            raise Rejected(f"{schema.name} of {value.dtype} and {letters[parameter.letter]}")


def tensor_proto(array: Array, name: str) -> onnx.TensorProto:
    """Convert the array to protobuf. onnx's `numpy_helper` does not support bf16 in all versions."""
    code = from_numpy(array.dtype).code
    return helper.make_tensor(name, code, array.shape, np.ascontiguousarray(array).tobytes(), raw=True)


# ---- numbers ----------------------------------------------------------------------------------------------------------------


def draw_array(graph: Builder, shape: Sequence[int], dtype: DType) -> Array:
    """Draw numbers for a leaf: floats are small fractions or normal, integers small or at the limits of their range."""
    numbers = graph.numbers()
    if dtype.name == "bool":
        return numbers.integers(0, 2, shape).astype(np.bool_)
    if dtype.is_float:
        if graph.chance(0.5):
            return (numbers.integers(-8, 9, shape) / graph.either(1, 2, 4)).astype(dtype.numpy)
        return numbers.standard_normal(shape).astype(dtype.numpy)
    if graph.chance(0.2):
        return numbers.choice(edges(dtype), shape)
    low, high = (0, 7) if dtype.kind == "uint" else (-5, 6)
    return numbers.integers(low, high, shape).astype(dtype.numpy)


@functools.cache
def edges(dtype: DType) -> Array:
    """Return integers at the limits of their range, and near zero."""
    low, high = int(np.iinfo(dtype.numpy).min), int(np.iinfo(dtype.numpy).max)
    return np.array([low, low + 1, max(low, -2), max(low, -1), 0, 1, 2, dtype.bits - 1, high - 1, high], dtype.numpy)
