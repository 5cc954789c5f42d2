"""Evaluation of nodes in three arithmetics, to know a value and its possible error.

    native   the reference provider's own: floats of each value's dtype
    wide     the same nodes with f64 in place of every narrower float
    loose    like wide, but each inexact result is disturbed by a few roundings of its own dtype

Where rounding decides the result (a Floor at an integer, a NaN), the three differ in kind, and the value is `Undetermined`: no
implementation can be expected to agree. Elsewhere their distance tells how far two correct implementations may differ.
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

logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns about names that a single node does not define
Array = np.ndarray[Any, Any]
NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
DISTURBED = {"f64": 16.0, "f32": 16.0, "f16": 1.0, "bf16": 1.0}  # roundings by which loose results are disturbed
LARGEST = 1e4  # largest float; a larger element would hide the errors of the others
# Operators whose result IEEE 754 determines to the last bit, for f32 and f64.
ROUNDED_CORRECTLY = frozenset(
    ("Add", "Sub", "Mul", "Div", "Sqrt", "Neg", "Abs", "Floor", "Ceil", "Round", "Min", "Max", "Cast", "Relu")
)

STASHED = frozenset(("GroupNormalization",))  # computed in the dtype of an attribute
# Operators that the reference computes in floats for integers too.
THROUGH_FLOATS = frozenset(("Mean", "ReduceMean", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "LpNormalization", "Pow"))


class Undetermined(Exception):
    """Rounding decides this value, or it is too large or too ill-conditioned to compare."""


@dataclass(frozen=True)
class Known:
    """A value in the three arithmetics; all three are equal if it is exact."""

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
    """Return a value that is equal in all arithmetics: an input, a constant, an integer."""
    wide = widened(array)
    return Known(array, wide, wide)


def widened(array: Array) -> Array:
    return array.astype(np.float64) if from_numpy(array.dtype).is_float else array


def step(dtype: DType) -> float:
    """Return the distance from 1 to the next larger number."""
    return {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}[dtype.name]


def allowed(known: Known) -> float:
    """Return how far a correct result may be from `wide`."""
    size = finite(np.abs(known.wide))
    with np.errstate(invalid="ignore"):
        distance = max(float(finite(np.abs(widened(other) - known.wide))) for other in (known.native, known.loose))
    return 4 * (distance + step(known.dtype) * float(size))


def finite(x: Array) -> Any:
    """Return the largest finite element, 0 if there is none."""
    return np.max(x, initial=0.0, where=np.isfinite(x))


def complaint(got: Any, known: Known) -> str:
    """Return what is wrong with a result, empty if nothing is."""
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
    """Return the index of the largest error with both values, as text."""
    index = np.unravel_index(int(np.argmax(error)), error.shape)
    return f"{got[index]}, not {wanted[index]} at {[int(i) for i in index]} of {form(got)}"


def form(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__


# ---- nodes ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kernel:
    """A node that is ready to run. captured: names of the values of outer graphs that its bodies read"""

    run: Callable[[list[Any]], Sequence[Any]]
    captured: tuple[str, ...]


class Evaluated:
    """A node in the native and the wide arithmetic."""

    def __init__(self, node: onnx.NodeProto, imports: Mapping[str, int], dtypes: Mapping[str, DType]) -> None:
        """Prepare the node. dtypes: those of values that its bodies define, where known"""
        self.node, self.imports = node, imports
        self.native = kernel(node, imports, dtypes)
        self._wide = kernel(widened_node(node, imports), imports, {name: wide_type(dtype) for name, dtype in dtypes.items()})
        self.inputs = (*node.input, *self.native.captured)

    def __call__(self, inputs: Sequence[Known | None], dtypes: Sequence[DType | None], noise: np.random.Generator) -> list[Known]:
        """Return the outputs. Raises Undetermined, or what numpy raises for inputs that don't fit."""
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            native = [conform(x, d) for x, d in zip(self.native.run([x and x.native for x in inputs]), dtypes, strict=False)]
            self.check_rows(native)
            self.check_integers(inputs)
            self.check_indices(inputs)
            if all(x is None or x.is_exact for x in inputs) and self.is_determined(inputs, native):
                return [exact(x) for x in native]
            wide = self.in_wide([x and x.wide for x in inputs], native)
            loose = self.in_wide([x and x.loose for x in inputs], native)
        given = [x.wide for x in inputs if x is not None and x.is_exact]
        return [joined(*each, noise, rounded_in_f64(each[0], given)) for each in zip(native, wide, loose, strict=True)]

    def check_rows(self, native: Sequence[Array]) -> None:
        """Raise Undetermined for scan outputs of a Loop without iterations: the standard does not define their shape."""
        rows = native[len(self.node.input) - 2 :] if self.node.op_type == "Loop" else ()
        if any(len(x) == 0 for x in rows):
            raise Undetermined("rows of no iteration")

    def check_indices(self, inputs: Sequence[Known | None]) -> None:
        """Raises Undetermined for a Gather outside its axis, which numpy allows where nothing is taken, and ONNX does not."""
        if self.node.op_type == "Gather" and inputs[0] is not None and inputs[1] is not None:
            axis = next((a.i for a in self.node.attribute if a.name == "axis"), 0)
            indices, size = inputs[1].native, inputs[0].native.shape[axis]
            if ((indices < -size) | (indices >= size)).any():
                raise Undetermined("an index outside its axis")

    def check_integers(self, inputs: Sequence[Known | None]) -> None:
        """Raise Undetermined for integers that the operator computes in floats, if their squares or sums may overflow, or the float
        result is not finite.
        """
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
        """Return whether IEEE arithmetic determines the result to the last bit. Only small f32 and f64 results count, which may
        decide sizes.
        """
        names = {from_numpy(x.dtype).name for x in native} | {x.dtype.name for x in inputs if x is not None}
        return self.node.op_type in ROUNDED_CORRECTLY and not names & {"f16", "bf16"} and all(x.size <= 8 for x in native)


def rounded_in_f64(x: Array, given: Sequence[Array]) -> bool:
    """Return whether rounding to f64 may have changed x, which no wider arithmetic shows.

    It can't have if all numbers of x are among those given, or are so short that their sums and products are exact.
    """
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
    """Return the value from the results of the three arithmetics. rounded: it is inexact although all three are equal. Raises
    Undetermined.
    """
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
    """Return the node's kernel in the reference provider; values of its bodies get these dtypes."""
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
    """Return whether the reference computes the node in the dtype `stash_type` (by default f32), whatever the dtype of its inputs."""
    if node.op_type not in STASHED or any(attribute.name == "stash_type" for attribute in node.attribute):
        return False
    return "stash_type" in onnx.defs.get_schema(node.op_type, imports[node.domain], node.domain).attributes


def widened_node(node: onnx.NodeProto, imports: Mapping[str, int]) -> onnx.NodeProto:
    """Return the node with f64 in place of narrower floats: in tensors, bodies, and attributes that name a dtype."""
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
