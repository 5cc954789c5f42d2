"""Fuzzer of graphs: random graphs, compiled and compared with the reference, and with onnxruntime where it has all their operators.

    python -m fuzz.graphs --executions 5000 --seed 1 --state DIR      draw, run, keep what differs; resumes earlier runs
    python -m fuzz.graphs --replay DIR/graphs-1-77.onnx               run one again

An execution runs one graph, with two sets of feeds of different sizes and one configuration: level, threads, target. It is a
finding if a result differs from the reference's by more than rounding explains (`fuzz/three_arithmetics.py`), if a second run or
another number of threads gives other bits, or if anything is raised.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from fuzz.campaign import main
from fuzz.case_file import Packed
from fuzz.child_process import Outcome
from fuzz.drawing.model import draw
from fuzz.shrink import smaller
from fuzz.three_arithmetics import Array, Evaluated, Known, Undetermined, complaint, exact, widened
from sardonyx import GraphOptimizationLevel, InferenceSession, SessionOptions
from sardonyx.base.dtypes import BY_CODE, from_numpy
from sardonyx.base.errors import SardonyxError
from sardonyx.codegen import features
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.load import load
from sardonyx.graph.reference.interpreter import KERNEL_ERRORS
from sardonyx.providers import registry

Values = dict[str, Known]


@dataclass(frozen=True)
class Difference:
    """An output that differs: the feeds, the expected and the actual value, and the difference as text."""

    name: str
    feeds: Mapping[str, Array]
    known: Known
    got: Any
    text: str


class Graphs:
    """The fuzzer of graphs."""

    name = "graphs"

    def load(self) -> None:
        """Compile and run a graph once, so that children find everything imported."""
        self.run(self.make(random.Random("graphs first")))

    def make(self, random: random.Random) -> bytes:
        return draw(random).bytes()

    def run(self, data: bytes) -> Outcome:
        return check(Packed.parse(data))

    def smaller(self, data: bytes) -> Any:
        return smaller(Packed.parse(data), evaluate)


# ---- what should come out ---------------------------------------------------------------------------------------------------


def evaluate(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> Values:
    """Evaluate every value of the model's main graph in three arithmetics. Raises Undetermined, SardonyxError, or what numpy
    raises.
    """
    graph = load(model.SerializeToString()).graph
    noise = np.random.default_rng(0)
    known = {name: exact(array) for name, array in feeds.items()}
    known.update({str(v.name): exact(v.const_value.numpy()) for v in graph.initializers.values() if v.const_value is not None})
    dtypes = {str(v.name): BY_CODE[int(v.dtype)] for n in graph.all_nodes() for v in n.outputs if v.dtype is not None}
    for node in graph:
        run = Evaluated(ir.serde.serialize_node(node), graph.opset_imports, dtypes)
        results = run(
            [known[name] if name else None for name in run.inputs], [dtypes.get(str(v.name)) for v in node.outputs], noise
        )
        known.update({str(v.name): result for v, result in zip(node.outputs, results, strict=False) if v.name})
    return known


# ---- what comes out ---------------------------------------------------------------------------------------------------------


def check(packed: Packed) -> Outcome:
    """Compile and run the graph, and compare its outputs."""
    data, names = packed.model.SerializeToString(), [value.name for value in packed.model.graph.output]
    try:
        wanted = [evaluate(packed.model, feeds) for feeds in packed.feeds]
    except Undetermined as error:
        return Outcome("not determined", "", str(error))
    except SardonyxError as error:
        return Outcome("refused", f"refused by the reference: {first_line(error)}", str(error))
    except KERNEL_ERRORS as error:
        return Outcome("not determined", "", repr(error))
    try:
        session = InferenceSession(data, options(packed))
        got = [session.run(names, dict(feeds)) for feeds in (*packed.feeds, packed.feeds[0])]
        again = on_other_threads(packed, names)
    except SardonyxError as error:
        return Outcome("refused", f"refused: {first_line(error)}", str(error))
    except Exception as error:
        return Outcome("raised", f"raised: {type(error).__name__}: {first_line(error)}", repr(error))
    if (text := other_bits(got[0], got[-1])) or (text := other_bits(got[0], again)):
        return Outcome("not the same bits", f"not the same bits: {text}", described(packed, session))
    for feeds, values, results in zip(packed.feeds, wanted, got, strict=False):
        for name, result in zip(names, results, strict=True):
            if text := complaint(result, values[name]):
                return differs(packed, session, Difference(name, feeds, values[name], result, text))
    return Outcome("with nodes in numpy" if interpreted(session) else "the same")


def differs(packed: Packed, session: InferenceSession, found: Difference) -> Outcome:
    """Return the outcome of a difference. If onnxruntime agrees with our result, the reference is outvoted and there is no finding."""
    node = next(n for n in packed.model.graph.node if found.name in n.output)
    theirs = peer(packed, found.name, found.feeds)
    if theirs is not None and agree(theirs, found):
        return Outcome("the reference is outvoted", "", f"{node.op_type} {found.text}")
    side = (
        "" if theirs is None else "; onnxruntime agrees with " + ("neither" if complaint(theirs, found.known) else "the reference")
    )
    where = "in numpy" if node.op_type in interpreted(session) else "compiled"
    finding = f"differs: {node.op_type} {found.known.dtype} {where}{side}"
    return Outcome("differs", finding, f"{found.name}: {found.text}\n{described(packed, session)}")


def agree(theirs: Array, found: Difference) -> bool:
    """Return whether onnxruntime has our result; bit by bit if its shape differs from the reference's."""
    if theirs.shape != found.known.native.shape:
        return not isinstance(found.got, list) and np.array_equal(theirs, found.got)
    with_theirs = replace(found.known, native=theirs)
    with_ours = replace(found.known, native=found.got, wide=widened(found.got))
    return not complaint(found.got, with_theirs) and not complaint(theirs, with_ours)


def peer(packed: Packed, name: str, feeds: Mapping[str, Array]) -> Any:
    """Return onnxruntime's result, None if it lacks an operator or might crash."""
    if not packed.configuration.peers or any(from_numpy(x.dtype).name == "bf16" for x in feeds.values()):
        return None
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level, quiet.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(packed.model.SerializeToString(), quiet, providers=["CPUExecutionProvider"])
        return session.run([name], dict(feeds))[0]
    except Exception:  # whatever it can't do is no finding about us
        return None


def other_bits(a: Sequence[Any], b: Sequence[Any] | None) -> str:
    """Return which output differs between two runs that must give equal bits, empty if none."""
    if b is None:
        return ""
    return next((f"output {k}" for k, (x, y) in enumerate(zip(a, b, strict=True)) if bits(x) != bits(y)), "")


def bits(x: Any) -> Any:
    return x.tobytes() if isinstance(x, np.ndarray) else repr(x)


def on_other_threads(packed: Packed, names: Sequence[str]) -> list[Any] | None:
    """Return the results of the first feeds with one thread, if the configuration has two."""
    if packed.configuration.threads == 1:
        return None
    session = InferenceSession(packed.model.SerializeToString(), options(packed.configured(threads=1)))
    return list(session.run(list(names), dict(packed.feeds[0])))


def options(packed: Packed) -> SessionOptions:
    chosen = packed.configuration
    out = SessionOptions()
    out.graph_optimization_level = GraphOptimizationLevel(chosen.level)
    out.intra_op_num_threads = chosen.threads
    runs_here = chosen.target in ("host", "sse2") or features.host().vector_bits >= features.select(chosen.target).vector_bits
    out.add_session_config_entry("session.target", chosen.target if runs_here else "host")
    out.add_session_config_entry("session.disable_winograd", "0" if chosen.winograd else "1")
    out.add_session_config_entry("session.disable_cache", "1")
    return out


def interpreted(session: InferenceSession) -> list[str]:
    """Return the operators of nodes that the reference ran."""
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name == registry.REFERENCE]
    return [node.op_type for part in parts for node in part.nodes]


def described(packed: Packed, session: InferenceSession) -> str:
    """Describe a case for whoever fixes it."""
    shapes = [{name: f"{x.dtype}{list(x.shape)}" for name, x in feeds.items()} for feeds in packed.feeds]
    return f"{packed.configuration}\nfeeds {shapes}\nin numpy {interpreted(session)}\n{onnx.printer.to_text(packed.model)}"


def first_line(error: BaseException) -> str:
    """Return the error's first line without the numbers and names of this graph, so that equal faults have equal texts."""
    line = (str(error).splitlines() or [""])[0].replace("[ONNXRuntimeError] : ", "")
    return re.sub(r"\b(node|v|c|x|s|i|e)?\d+\b", "_", line)[:140]


if __name__ == "__main__":
    sys.exit(main(Graphs()))
