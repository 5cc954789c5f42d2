"""Evaluates nodes in three arithmetics, to know a value and how exactly it is known.

    native   the reference provider's own: floats of each value's dtype
    wide     the same nodes with f64 in place of every narrower float
    loose    wide, each result that is not exact disturbed by a few roundings of its own dtype

Where rounding decides what comes out (a Floor at the edge, a NaN), the three disagree in kind, and the value is `Undetermined`: no
implementation can be held to it. Elsewhere their distance says how far apart two right implementations may be.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from sardonyx.base.context import QUIET
from sardonyx.base.dtypes import DType, from_numpy
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.reference.interpreter import Interpreter, graph_attributes, make_kernel

logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of names that a node alone does not define
Array = np.ndarray[Any, Any]
NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
DISTURBED = {"f64": 16.0, "f32": 16.0, "f16": 1.0, "bf16": 1.0}  # roundings by which the loose world is disturbed
LARGEST = 1e4  # of floats: beyond it one element would hide the errors of the others
# One operation on f32 or f64 whose result IEEE 754 determines to the last bit.
ROUNDED_CORRECTLY = frozenset(
    ("Add", "Sub", "Mul", "Div", "Sqrt", "Neg", "Abs", "Floor", "Ceil", "Round", "Min", "Max", "Cast", "Relu")
)

STASHED = frozenset(("GroupNormalization",))  # computed in the dtype of an attribute
# These go through floats on integers too, as far as the reference is concerned.
THROUGH_FLOATS = frozenset(("Mean", "ReduceMean", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "LpNormalization", "Pow"))


class Undetermined(Exception):
    """Rounding decides this value, or it is too large or too ill-conditioned to compare."""


@dataclass(frozen=True)
class Known:
    """A value in the three arithmetics; all the same array if it is exact."""

    native: Array
    wide: Array
    loose: Array

    @property
    def is_exact(self) -> bool:
        return self.wide is self.loose

    @property
    def dtype(self) -> DType:
        return from_numpy(self.native.dtype)


def exact(array: Array) -> Known:
    """A value that is the same in all worlds: an input, a constant, an integer."""
    wide = widened(array)
    return Known(array, wide, wide)


def widened(array: Array) -> Array:
    return array.astype(np.float64) if from_numpy(array.dtype).is_float else array


def step(dtype: DType) -> float:
    """The distance from 1 to the next larger number."""
    return {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}[dtype.name]


def allowed(known: Known) -> float:
    """How far from `wide` a right result may lie."""
    size = finite(np.abs(known.wide))
    with np.errstate(invalid="ignore"):
        distance = max(float(finite(np.abs(widened(other) - known.wide))) for other in (known.native, known.loose))
    return 4 * (distance + step(known.dtype) * float(size))


def finite(x: Array) -> Any:
    """The largest finite element; 0 if there is none."""
    return np.max(x, initial=0.0, where=np.isfinite(x))


def complaint(got: Any, known: Known) -> str:
    """What is wrong with a result; empty if nothing is."""
    if not isinstance(got, np.ndarray) or got.dtype != known.native.dtype or got.shape != known.native.shape:
        return f"{form(got)}, not {form(known.native)}"
    if not known.dtype.is_float:
        unequal = got != known.native
        return f"{at(unequal, got, known.native)}" if unequal.any() else ""
    wide = got.astype(np.float64)
    with np.errstate(invalid="ignore"):
        same = (wide == known.wide) | (np.isnan(wide) & np.isnan(known.wide))
        error = np.where(same, 0.0, np.abs(wide - known.wide))
    error = np.where(np.isnan(error), np.inf, error)
    limit = allowed(known)
    return f"{at(error, got, known.wide)}, allowed {limit:.3g}" if error.max(initial=0.0) > limit else ""


def at(error: Array, got: Array, wanted: Array) -> str:
    """The place of the largest error, what is there and what should be."""
    index = np.unravel_index(int(np.argmax(error)), error.shape)
    return f"{got[index]}, not {wanted[index]} at {[int(i) for i in index]} of {form(got)}"


def form(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__


# ---- nodes ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kernel:
    """A node that is ready to run. captured: names of the values of outer graphs that its bodies read."""

    run: Callable[[list[Any]], Sequence[Any]]
    captured: tuple[str, ...]


class Evaluated:
    """A node in the native and the wide arithmetic."""

    def __init__(self, node: onnx.NodeProto, imports: Mapping[str, int], dtypes: Mapping[str, DType]) -> None:
        """dtypes: of the values that the node's bodies define, where known."""
        self.node, self.imports = node, imports
        self.native = kernel(node, imports, dtypes)
        self._wide = kernel(widened_node(node, imports), imports, {name: wide_type(dtype) for name, dtype in dtypes.items()})
        self.inputs = (*node.input, *self.native.captured)

    def __call__(self, inputs: Sequence[Known | None], dtypes: Sequence[DType | None], noise: np.random.Generator) -> list[Known]:
        """The outputs. Raises Undetermined, or what numpy raises where the inputs don't fit the node."""
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            native = [conform(x, d) for x, d in zip(self.native.run([x and x.native for x in inputs]), dtypes, strict=False)]
            self.check_rows(native)
            self.check_integers(inputs)
            if all(x is None or x.is_exact for x in inputs) and self.is_determined(inputs, native):
                return [exact(x) for x in native]
            wide = self.in_wide([x and x.wide for x in inputs], native)
            loose = self.in_wide([x and x.loose for x in inputs], native)
        given = [x.wide for x in inputs if x is not None and x.is_exact]
        return [joined(*each, noise, rounded_in_f64(each[0], given)) for each in zip(native, wide, loose, strict=True)]

    def check_rows(self, native: Sequence[Array]) -> None:
        """Raises Undetermined for rows of a Loop that ran no iteration: no text says of what shape they are."""
        rows = native[len(self.node.input) - 2 :] if self.node.op_type == "Loop" else ()
        if any(len(x) == 0 for x in rows):
            raise Undetermined("rows of no iteration")

    def check_integers(self, inputs: Sequence[Known | None]) -> None:
        """Raises Undetermined for integers so large that their squares or sums wrap, where the operator takes these through floats, and
        where what comes out of floats is no integer: a logarithm of nothing."""
        if self.node.op_type not in THROUGH_FLOATS:
            return
        first = inputs[0]
        if first is None or not first.dtype.is_integer:
            return
        values = first.native.astype(np.float64)
        if (np.abs(values) > 2.0 ** (4 * first.native.itemsize - 4)).any():
            raise Undetermined("integers through floats")
        results = self._wide.run([values, *(x and x.native for x in inputs[1:])])
        if not all(np.isfinite(x).all() for x in results):
            raise Undetermined("no finite number, as an integer")

    def in_wide(self, inputs: list[Array | None], native: Sequence[Array]) -> list[Array]:
        results = self._wide.run(inputs)
        return [
            np.asarray(x) if from_numpy(n.dtype).is_float else conform(x, from_numpy(n.dtype))
            for x, n in zip(results, native, strict=False)
        ]

    def is_determined(self, inputs: Sequence[Known | None], native: Sequence[Array]) -> bool:
        """Does IEEE arithmetic fix the result to the last bit? Only for what may decide sizes: few elements of f32 and f64."""
        names = {from_numpy(x.dtype).name for x in native} | {x.dtype.name for x in inputs if x is not None}
        return self.node.op_type in ROUNDED_CORRECTLY and not names & {"f16", "bf16"} and all(x.size <= 8 for x in native)


def rounded_in_f64(x: Array, given: Sequence[Array]) -> bool:
    """Has rounding to f64 possibly changed x, which no wider arithmetic tells? Not where its numbers are all among those given, or so
    short that sums and products of such are exact."""
    if x.dtype != np.float64:
        return False
    moved = np.zeros(x.shape, bool)
    for other in given:
        if other.dtype == np.float64:
            moved |= np.isin(x, other)
    with np.errstate(all="ignore"):
        short = ~np.isfinite(x) | ((np.abs(x) < 2.0**32) & (np.ldexp(x, 16) % 1 == 0))
    return not (moved | short).all()


def joined(native: Array, wide: Array, loose: Array, noise: np.random.Generator, rounded: bool = False) -> Known:
    """The value, from the three worlds' results. rounded: it is not exact, although all three are the same. Raises Undetermined."""
    if not native.shape == wide.shape == loose.shape:
        raise Undetermined("rounding decides the shape")
    dtype = from_numpy(native.dtype)
    if not dtype.is_float:
        if not (np.array_equal(native, wide) and np.array_equal(native, loose)):
            raise Undetermined("rounding decides the value")
        return exact(native)
    as_wide = native.astype(np.float64)
    if not rounded and np.array_equal(as_wide, wide, equal_nan=True) and np.array_equal(wide, loose, equal_nan=True):
        known = Known(native, wide, wide)
    else:
        known = Known(native, wide, loose * (1 + DISTURBED[dtype.name] * step(dtype) * noise.uniform(-1, 1, loose.shape)))
    for other in (as_wide, known.loose):
        if not np.array_equal(np.isfinite(other), np.isfinite(wide)) or not np.array_equal(
            np.sign(other[~np.isfinite(other)]), np.sign(wide[~np.isfinite(wide)]), equal_nan=True
        ):
            raise Undetermined("rounding decides what is finite")
    largest = float(finite(np.abs(wide)))
    if not known.is_exact and (largest > LARGEST or allowed(known) > 0.05 * largest + 1e-30):
        raise Undetermined("too large, or too ill-conditioned")
    return known


def conform(x: Any, dtype: DType | None) -> Array:
    array = np.asarray(x)
    return array if dtype is None or array.dtype == dtype.numpy else array.astype(dtype.numpy)


def kernel(node: onnx.NodeProto, imports: Mapping[str, int], dtypes: Mapping[str, DType]) -> Kernel:
    """The node's kernel in the reference provider, its bodies' values with these dtypes."""
    held = ir.serde.deserialize_node(node)
    graphs = graph_attributes(held)
    for graph in graphs.values():
        for inner in graph.all_nodes():
            for value in inner.outputs:
                if value.dtype is None and value.name in dtypes:
                    value.dtype = ir.DataType(dtypes[value.name].code)
    bodies = {name: Interpreter(graph, imports) for name, graph in graphs.items()}
    run = make_kernel(held, imports, bodies)
    captured = tuple(str(value.name) for body in bodies.values() for value in body.captured)
    return Kernel(lambda inputs: run(inputs, QUIET), captured)


# ---- the wide form of a node ------------------------------------------------------------------------------------------------


def wide_type(dtype: DType) -> DType:
    return from_numpy(np.dtype(np.float64)) if dtype.is_float else dtype


def computes_in_f32(node: onnx.NodeProto, imports: Mapping[str, int]) -> bool:
    """Does the reference compute it in the dtype `stash_type`, f32 by default, whatever the dtype of its inputs?"""
    if node.op_type not in STASHED or any(attribute.name == "stash_type" for attribute in node.attribute):
        return False
    return "stash_type" in onnx.defs.get_schema(node.op_type, imports[node.domain], node.domain).attributes


def widened_node(node: onnx.NodeProto, imports: Mapping[str, int]) -> onnx.NodeProto:
    """The node with f64 in place of narrower floats: in tensors, in bodies, in the attributes that name a dtype."""
    out = onnx.NodeProto()
    out.CopyFrom(node)
    if computes_in_f32(node, imports):
        out.attribute.append(onnx.helper.make_attribute("stash_type", TensorProto.FLOAT))
    for attribute in out.attribute:
        if attribute.name in ("to", "dtype", "output_dtype", "stash_type") and attribute.i in NARROW:
            attribute.i = TensorProto.DOUBLE
        elif attribute.type == onnx.AttributeProto.TENSOR:
            widen_tensor(attribute.t)
        elif attribute.type == onnx.AttributeProto.GRAPH:
            widen_graph(attribute.g, imports)
    return out


def widen_graph(graph: onnx.GraphProto, imports: Mapping[str, int]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in NARROW:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in graph.initializer:
        widen_tensor(tensor)
    for node in graph.node:
        node.CopyFrom(widened_node(node, imports))


def widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in NARROW:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
