"""Models that mutations start from: ONNX's test cases of single operators, and small graphs with features that those lack."""

from __future__ import annotations

import contextlib
import functools
import random
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

MOST_BYTES = 1 << 16  # largest size of a case's model and data together


@functools.cache
def corpus() -> list[tuple[onnx.ModelProto, list[object]]]:
    """Return [(model, values of its inputs)]. Callers must not modify them."""
    return [*cases(), *((model, []) for model in made())]


def cases() -> Iterator[tuple[onnx.ModelProto, list[object]]]:
    """Yield ONNX's test cases."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for case in sorted(found, key=lambda case: str(case.name)):
        inputs = list(case.data_sets[0][0]) if case.data_sets else []
        size = sum(value.nbytes for value in inputs if isinstance(value, np.ndarray))
        if case.model is not None and case.model.ByteSize() + size < MOST_BYTES:
            yield case.model, inputs


def value(name: str, shape: list[int | str] | None, kind: int = T.FLOAT) -> onnx.ValueInfoProto:
    return h.make_tensor_value_info(name, kind, shape)


def model(graph: onnx.GraphProto, domains: tuple[str, ...] = (), opset: int = 21) -> onnx.ModelProto:
    imports = [h.make_opsetid("", opset), *(h.make_opsetid(domain, 1) for domain in domains)]
    return h.make_model(graph, opset_imports=imports, ir_version=10)


def made() -> list[onnx.ModelProto]:
    return [network(), attention(), loop(), scan(), branches(), function(), external(), shapes(), contributed(), quantised()]


def weights(name: str, *shape: int) -> onnx.TensorProto:
    numbers = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
    return nh.from_array(numbers, name)


def network() -> onnx.ModelProto:
    """Make a network of convolution, normalisation, pooling and a dense layer."""
    nodes = [
        h.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        h.make_node("BatchNormalization", ["c", "s", "b", "b", "s"], ["n"], name="norm"),
        h.make_node("Relu", ["n"], ["r"]),
        h.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        h.make_node("GlobalAveragePool", ["p"], ["g"]),
        h.make_node("Flatten", ["g"], ["f"]),
        h.make_node("Gemm", ["f", "d", "e"], ["l"], name="dense", transB=1),
        h.make_node("Softmax", ["l"], ["y"]),
    ]
    tensors = [
        weights("w", 4, 3, 3, 3),
        weights("b", 4),
        nh.from_array(np.ones(4, np.float32), "s"),
        weights("d", 5, 4),
        weights("e", 5),
    ]
    return model(h.make_graph(nodes, "network", [value("x", ["n", 3, "h", "w"])], [value("y", ["n", 5])], tensors))


def attention() -> onnx.ModelProto:
    """Make attention as exporters write it, with shape arithmetic."""
    nodes = [
        h.make_node("Shape", ["x"], ["size"]),
        h.make_node("Slice", ["size", "zero", "two"], ["head"]),
        h.make_node("Concat", ["head", "tail"], ["split"], axis=0),
        h.make_node("MatMul", ["x", "wq"], ["q0"]),
        h.make_node("MatMul", ["x", "wk"], ["k0"]),
        h.make_node("Reshape", ["q0", "split"], ["q1"]),
        h.make_node("Reshape", ["k0", "split"], ["k1"]),
        h.make_node("Transpose", ["q1"], ["q"], perm=[0, 2, 1, 3]),
        h.make_node("Transpose", ["k1"], ["k"], perm=[0, 2, 3, 1]),
        h.make_node("MatMul", ["q", "k"], ["scores"], name="scores"),
        h.make_node("Add", ["scores", "mask"], ["masked"], name="mask"),
        h.make_node("Softmax", ["masked"], ["p"], axis=-1),
        h.make_node("MatMul", ["p", "q"], ["mixed"]),
        h.make_node("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]),
        h.make_node("Reshape", ["back", "size"], ["y"]),
    ]
    tensors = [weights("wq", 8, 8), weights("wk", 8, 8), nh.from_array(np.array([0]), "zero"), nh.from_array(np.array([2]), "two")]
    tensors.append(nh.from_array(np.array([2, 4]), "tail"))
    inputs = [value("x", ["batch", "length", 8]), value("mask", ["batch", 1, 1, "length"])]
    return model(h.make_graph(nodes, "attention", inputs, [value("y", None)], tensors))


def loop() -> onnx.ModelProto:
    """Make a Loop in a Loop, with a captured value, and scan outputs whose size depends on the data."""
    step = [h.make_node("Add", ["t", "x"], ["t2"]), h.make_node("Identity", ["go2"], ["on2"])]
    bools, whole = value("go2", [], T.BOOL), value("j", [], T.INT64)
    deep = h.make_graph(step, "inner", [whole, bools, value("t", ["n"])], [value("on2", [], T.BOOL), value("t2", ["n"])])
    nodes = [
        h.make_node("Loop", ["i", "", "s"], ["s2"], body=deep, name="inner"),
        h.make_node("Identity", ["go"], ["on"]),
        h.make_node("Identity", ["s2"], ["out"]),
    ]
    inputs = [value("i", [], T.INT64), value("go", [], T.BOOL), value("s", ["n"])]
    body = h.make_graph(nodes, "body", inputs, [value("on", [], T.BOOL), value("s2", ["n"]), value("out", ["n"])])
    outer = [h.make_node("Loop", ["m", "", "x"], ["y", "z"], body=body, name="outer")]
    return model(
        h.make_graph(outer, "loop", [value("m", [], T.INT64), value("x", ["n"])], [value("y", ["n"]), value("z", ["m", "n"])])
    )


def scan() -> onnx.ModelProto:
    nodes = [h.make_node("Add", ["s", "e"], ["s2"]), h.make_node("Identity", ["s2"], ["o"])]
    body = h.make_graph(nodes, "body", [value("s", [3]), value("e", [3])], [value("s2", [3]), value("o", [3])])
    node = h.make_node("Scan", ["a", "x"], ["b", "y"], body=body, num_scan_inputs=1, scan_input_axes=[1])
    inputs = [value("a", [3]), value("x", [3, "t"])]
    return model(h.make_graph([node], "scan", inputs, [value("b", [3]), value("y", ["t", 3])]))


def branches() -> onnx.ModelProto:
    """Make an If whose branches make sequences."""
    then = h.make_graph(
        [h.make_node("SequenceConstruct", ["x", "x"], ["p"])], "then", [], [h.make_tensor_sequence_value_info("p", T.FLOAT, None)]
    )
    other = h.make_graph(
        [h.make_node("SequenceConstruct", ["x"], ["q"])], "other", [], [h.make_tensor_sequence_value_info("q", T.FLOAT, None)]
    )
    nodes = [
        h.make_node("If", ["c"], ["s"], then_branch=then, else_branch=other),
        h.make_node("ConcatFromSequence", ["s"], ["t"], axis=0),
        h.make_node("NonZero", ["t"], ["z"]),
        h.make_node("Transpose", ["z"], ["zt"]),
        h.make_node("GatherND", ["t", "zt"], ["y"]),
    ]
    return model(h.make_graph(nodes, "branches", [value("c", [], T.BOOL), value("x", ["n", 2])], [value("y", None)]))


def function() -> onnx.ModelProto:
    """Make a model with a function that calls another one and passes an attribute on."""
    inner = h.make_node("LeakyRelu", ["a"], ["b"])
    inner.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    call = h.make_node("soft", ["a"], ["c"], domain="own")
    call.attribute.add(name="slope", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    imports = [h.make_opsetid("", 21), h.make_opsetid("own", 1)]
    one = h.make_function("own", "soft", ["a"], ["b"], [inner], imports, ["slope"])
    two = h.make_function("own", "twice", ["a"], ["d"], [call, h.make_node("Mul", ["c", "a"], ["d"])], imports, ["slope"])
    out = model(
        h.make_graph(
            [h.make_node("twice", ["x"], ["y"], domain="own", slope=0.5)], "function", [value("x", ["n"])], [value("y", None)]
        ),
        ("own",),
    )
    out.functions.extend([one, two])
    return out


def external() -> onnx.ModelProto:
    """Make a model with weights in another file, a sparse weight, and one packed two to a byte."""
    far = T(name="far", data_type=T.FLOAT, dims=[4, 4], data_location=T.EXTERNAL)
    for key, told in (("location", "weights.bin"), ("offset", "0"), ("length", "64")):
        far.external_data.add(key=key, value=told)
    packed = h.make_tensor("packed", T.INT4, [3], b"\x21\x03", raw=True)
    sparse = h.make_sparse_tensor(weights("thin", 2), nh.from_array(np.array([1, 5]), "at"), [4, 4])
    nodes = [
        h.make_node("MatMul", ["x", "far"], ["a"]),
        h.make_node("MatMul", ["a", "thin"], ["y"]),
        h.make_node("Cast", ["packed"], ["z"], to=T.FLOAT),
    ]
    graph = h.make_graph(nodes, "external", [value("x", ["n", 4])], [value("y", None), value("z", None)], [far, packed])
    graph.sparse_initializer.append(sparse)
    return model(graph)


def shapes() -> onnx.ModelProto:
    """Make a model with sizes that depend on data and on each other."""
    nodes = [
        h.make_node("Shape", ["x"], ["s"]),
        h.make_node("Gather", ["s", "k"], ["n"], axis=0),
        h.make_node("Mul", ["n", "k"], ["nk"]),
        h.make_node("Div", ["nk", "n"], ["d"]),
        h.make_node("Range", ["zero", "n", "one"], ["r"]),
        h.make_node("Unsqueeze", ["d", "axis"], ["count"]),
        h.make_node("Expand", ["r", "count"], ["e"]),
        h.make_node("ConstantOfShape", ["s"], ["c"], value=h.make_tensor("v", T.FLOAT, [1], [2.0])),
        h.make_node("Pad", ["c", "pads"], ["p"]),
        h.make_node("Tile", ["x", "s"], ["t"]),
        h.make_node("OneHot", ["r", "depth", "values"], ["o"]),
    ]
    tensors = [
        nh.from_array(np.array(v), n) for n, v in (("zero", 0), ("one", 1), ("axis", [0]), ("depth", 3), ("pads", [0, 1, 1, 0]))
    ]
    tensors.append(nh.from_array(np.array([0.0, 1.0], np.float32), "values"))
    outputs = [value(name, None, kind) for name, kind in (("e", T.INT64), ("p", T.FLOAT), ("t", T.FLOAT), ("o", T.FLOAT))]
    return model(h.make_graph(nodes, "shapes", [value("x", ["n", "m"]), value("k", [], T.INT64)], outputs, tensors))


def contributed() -> onnx.ModelProto:
    """Make a model with operators of com.microsoft."""
    nodes = [
        h.make_node("SkipLayerNormalization", ["x", "x", "g"], ["a"], domain="com.microsoft"),
        h.make_node("FastGelu", ["a"], ["b"], domain="com.microsoft"),
        h.make_node("MultiHeadAttention", ["b", "b", "b"], ["y"], domain="com.microsoft", num_heads=2),
    ]
    graph = h.make_graph(nodes, "contributed", [value("x", ["n", "l", 8])], [value("y", None)], [weights("g", 8)])
    return model(graph, ("com.microsoft",), 17)


def quantised() -> onnx.ModelProto:
    nodes = [
        h.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        h.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        h.make_node("Cast", ["i"], ["f"], to=T.FLOAT),
        h.make_node("Mul", ["f", "s"], ["y"]),
        h.make_node("QuantizeLinear", ["y", "s", "z"], ["p"]),
        h.make_node("DequantizeLinear", ["p", "s", "z"], ["d"]),
    ]
    rng = np.random.default_rng(0)
    tensors = [nh.from_array(rng.integers(-9, 9, (8, 6), np.int8), "w"), nh.from_array(np.array(3, np.int8), "wz")]
    return model(h.make_graph(nodes, "quantised", [value("x", ["n", 8])], [value("y", None), value("d", None)], tensors))


@functools.cache
def ort_files() -> list[bytes]:
    """Return .ort files of the models made here that the format can hold."""
    from sardonyx.base.errors import SardonyxError
    from sardonyx.graph.load import load
    from sardonyx.graph.ort_writer import write_ort

    found = []
    for each in made():
        with contextlib.suppress(SardonyxError):
            found.append(write_ort(load(each.SerializeToString())))
    return found


def pick(drawn: random.Random) -> tuple[onnx.ModelProto, list[object]]:
    """Return a copy of a random model of the corpus; one third of the time one of those made here."""
    found = corpus()
    own = len(made())
    chosen, inputs = found[len(found) - 1 - drawn.randrange(own)] if drawn.random() < 0.33 else drawn.choice(found)
    copy = onnx.ModelProto()
    copy.CopyFrom(chosen)
    return copy, inputs
