"""What is in a model's file: opsets, inputs and outputs, operators, weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from sardonyx.base.dtypes import BY_CODE
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.load import LoadOptions, load
from sardonyx.graph.records import node_name
from sardonyx.graph.types import tensor_string, type_string
from sardonyx.graph.verify import subgraphs


def contents_of(path: Path) -> dict[str, Any]:
    """Describe a model's file. Operators of any domain are accepted; functions are inlined. Raises SardonyxError.

    Weights come largest first, operators most frequent first; `graph` lists the nodes.
    """
    model = load(path, LoadOptions(knows=lambda domain, name: True))
    graph = model.graph
    size = path.stat().st_size
    weights = sorted(
        (weight_of(v) for g in (graph, *graph.subgraphs()) for v in g.initializers.values()), key=weight_bytes, reverse=True
    )
    inputs = [value_of(v) for v in graph.inputs if not v.is_initializer()]
    counts = Counter(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in graph.all_nodes())
    return {
        "file": str(path),
        "bytes": size,
        "bytes_text": f"{size:,} bytes",
        "ir_version": model.ir_version,
        "producer": model.producer_name or "",
        "producer_version": model.producer_version or "",
        "opsets": dict(graph.opset_imports),
        "inputs": inputs,
        "outputs": [value_of(v) for v in graph.outputs],
        "dynamic_dimensions": dynamic_dimensions(inputs),
        "operators": dict(counts.most_common()),
        "weights": weights,
        "parameters": sum(weight["numbers"] for weight in weights),
        "weight_bytes": sum(map(weight_bytes, weights)),
        "graph": [node_of(node) for node in graph],
    }


def weight_bytes(weight: dict[str, Any]) -> int:
    """Return the bytes of a described weight."""
    return int(weight["bytes"])


def weight_of(v: ir.Value) -> dict[str, Any]:
    """Describe an initializer."""
    data = v.const_value
    assert data is not None
    shape = [int(n) for n in data.shape.numpy()]
    return {
        "name": v.name or "",
        "type": tensor_string(int(data.dtype)) if int(data.dtype) in BY_CODE else data.dtype.name,
        "shape": shape,
        "numbers": data.size,
        "bytes": data.nbytes,
    }


def value_of(v: ir.Value) -> dict[str, Any]:
    """Describe an input or output; a size without a name is None, an unknown shape too."""
    shape = None if v.shape is None else [n if isinstance(n, int) else n.value for n in v.shape]
    return {"name": v.name or "", "type": type_string(v) or "unknown", "shape": shape}


def dynamic_dimensions(inputs: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return {size: the inputs' axes that have it}, as `--size` names sizes."""
    found: dict[str, list[str]] = {}
    for value in inputs:
        for axis, n in enumerate(value["shape"] or ()):
            if not isinstance(n, int):
                found.setdefault(n or f"{value['name']}:{axis}", []).append(f"{value['name']} axis {axis}")
    return found


def node_of(node: ir.Node) -> dict[str, Any]:
    """Describe a node and its bodies."""
    return {
        "name": node_name(node),
        "operator": node.op_type,
        "domain": node.domain,
        "inputs": [v.name or "" if v is not None else "" for v in node.inputs],
        "outputs": [v.name or "" for v in node.outputs],
        "bodies": {
            body.name or f"body {number}": [node_of(inner) for inner in body] for number, body in enumerate(subgraphs(node))
        },
    }
