"""A complete random model: sizes, inputs, nodes, outputs, and the configuration that it runs in."""

from __future__ import annotations

import random

import numpy as np
import onnx
from onnx import helper

from fuzz.case_file import Configuration, Packed
from fuzz.drawing.builder import FEEDS, NAMES, RESULTS, SIZES, TYPES, Builder, Model, Rejected, Value
from fuzz.drawing.control import fill

OPSETS = (17, 18, 18, 20, 21, 21, 22)


def draw(chance: random.Random) -> Packed:
    """Draw a model with feeds and a configuration."""
    drawn = {name: chance.sample(sorted(set(SIZES)), FEEDS) for name in NAMES}
    sizes = tuple({name: drawn[name][k] for name in NAMES} for k in range(FEEDS))
    noise = np.random.default_rng(chance.getrandbits(32))
    model = Model(chance, chance.choice(OPSETS), sizes, noise, feeds=tuple({} for _ in range(FEEDS)))
    graph = Builder(model)
    for _ in range(chance.choice((2, 3, 4))):
        leaf(graph)
    fill(graph, chance.choice((2, 4, 6, 8, 12, 16)))
    while not graph.nodes:
        fill(graph, 1)
    proto = finished(graph)
    return Packed(proto, [dict(feeds) for feeds in model.feeds], Configuration.draw(chance, model.peers))


def leaf(graph: Builder) -> None:
    """Add an input to start from."""
    dtype = TYPES[graph.either(*RESULTS, "f32", "f32", "f32", "i64", "i64")]
    try:
        sizes = graph.sizes()
        arrays = graph.leaf(sizes, dtype)
    except Rejected:
        return
    if not arrays.arrays or all(v.name != arrays.name for v in graph.values):
        graph.out("Identity", arrays)


def finished(graph: Builder) -> onnx.ModelProto:
    """Return the model. Values that no node reads are outputs, and some others."""
    written = [v for v in graph.values if any(v.name in node.output for node in graph.nodes)]
    kept: list[Value] = [v for v in written if v.name not in graph.used or graph.chance(0.15)]
    graph.random.shuffle(kept)
    outputs = [
        helper.make_tensor_value_info(v.name, v.dtype.code, [None] * v.rank if graph.chance(0.8) else None) for v in kept[:8]
    ]
    proto = helper.make_graph(graph.nodes, "graph", graph.model.inputs, outputs, graph.initializers)
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", graph.model.opset)], ir_version=10)
