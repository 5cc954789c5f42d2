"""Runs ONNX's own backend cases on the compiler and counts, per family of operators, what is computed natively.

`python -m benchmarks.conformance [PATTERN ...]` takes the cases whose names match any of the regular expressions. Cases run in a
process of their own, one after the other; a crash or a case that takes too long ends that process and the next one goes on. Outcomes:

    native   right, every node compiled             helped   right, some nodes on the reference provider
    wrong    wrong numbers                          error    an exception          crash    the process died, or took too long
"""

import collections
import contextlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated
from unittest import mock

import typer

OUTCOMES = ("native", "helped", "wrong", "error", "crash")
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")


@dataclass(frozen=True)
class CaseResult:
    """One case. reason: the exception, the numbers that differ, or why a node was not compiled."""

    name: str
    family: str
    outcome: str
    reason: str = ""


def case_names(patterns: Sequence[str]) -> list[str]:
    """Return the names of the cases that match any pattern; all without patterns."""
    return [n for n in load_cases() if not patterns or any(re.search(p, n) for p in patterns)]


def load_cases() -> dict:
    """Return {name: `onnx.backend.test.case.test_case.TestCase`}. Warnings are off, because making some cases overflows on purpose."""
    import warnings

    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        return {case.name: case for kind in KINDS for case in load_model_tests(kind=kind)}


# ---- in the process that runs cases ---------------------------------------------------------------------------------------------


def work() -> None:
    """Read names of cases from standard input, one per line, and answer each with a line of JSON."""
    cases = load_cases()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(asdict(run_case(cases[line.strip()]))), file=answers)


def run_case(case) -> CaseResult:
    """Run a `onnx.backend.test.case.test_case.TestCase` and compare its outputs."""
    import onnx

    from benchmarks.onnx_cases import TOLERANCES, CaseRunner
    from sardonyx import backend
    from sardonyx.base import debug
    from sardonyx.providers import registry

    said: list[str] = []
    model = case.model if case.model is not None else onnx.load(Path(case.model_dir) / "model.onnx")
    family = family_of(case.name, model)
    data = case.data_sets if case.data_sets is not None else list(stored_data(case.model_dir, model))
    allowed = {"rtol": case.rtol, "atol": case.atol, **TOLERANCES.get(case.name, {})}
    prepared = None

    def outcome(error: str) -> str:
        on_reference = prepared is not None and any(
            part.ep_name == registry.REFERENCE for part in prepared.session.get_provider_graph_assignment_info()
        )
        return f"{error} {'helped' if on_reference else 'native'}".strip()

    try:
        with mock.patch.object(debug, "show", lambda at, name, text: said.append(text) if name == "refused" else None):
            prepared = backend.prepare(model)
        for inputs, expected in data:
            expected = list(map(as_array, expected))
            got = list(prepared.run(list(map(as_array, inputs))))
            CaseRunner.assert_similar_outputs(expected, got, **allowed)
    except AssertionError as error:
        text = " ".join(str(error).split())
        if "Not equal" in text or "not equal" in text or "Unexpected type" in text or "incorrect" in text:
            return CaseResult(case.name, family, "wrong", f"{outcome('')}: {text[:300]}")
        return CaseResult(case.name, family, "error", location(error))
    except Exception as error:
        return CaseResult(case.name, family, "error", f"{type(error).__name__}: {error} {location(error)}")
    return CaseResult(case.name, family, outcome(""), "; ".join(said))


def location(error: BaseException) -> str:
    """Return where the error was raised: the innermost frame of this package."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno, trace.tb_frame.f_code.co_name))
        trace = trace.tb_next
    own = [f"{Path(file).name}:{line} {name}" for file, line, name in frames if "sardonyx" in file]
    return f"({type(error).__name__} at {own[-1] if own else frames[-1]})"


def as_array(value):
    import onnx

    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def stored_data(folder: str, model) -> Iterator[tuple[list, list]]:
    """Yield the inputs and outputs stored beside a model in a folder."""
    import onnx
    from onnx.backend.test.runner import Runner

    reader = Runner._load_proto
    for data in sorted(Path(folder).glob("test_data_set*")):
        both: list[list] = []
        for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
            found: list = []
            for i in range(len(list(data.glob(f"{kind}_*.pb")))):
                reader(None, str(data / f"{kind}_{i}.pb"), found, values[i].type)  # type: ignore[arg-type]
            both.append(found)
        yield both[0], both[1]
    assert onnx


def family_of(name: str, model) -> str:
    """Return the file of the records of the model's operators; for an expanded case or a rare operator its name."""
    from sardonyx import ops

    kinds = {node.op_type for node in model.graph.node} - {"Constant"}
    if name.endswith("_expanded"):
        return "(expanded)"
    if len(kinds) != 1:
        return "(several operators)"
    kind = kinds.pop()
    for module_name in ops.__dict__:
        module = getattr(ops, module_name)
        if hasattr(module, "OPS") and any(op.name == kind for op in module.OPS):
            return module_name
    return kind


# ---- in the process that counts -------------------------------------------------------------------------------------------------


def findings(names: Sequence[str], seconds: float) -> Iterator[CaseResult]:
    """Yield the result of each case, whatever happens to the process that runs it."""
    left = list(names)
    while left:
        for finding in one_process(tuple(left), seconds):
            left.pop(0)
            yield finding


def one_process(names: Sequence[str], seconds: float) -> Iterator[CaseResult]:
    """Yield the results of one process until it ends; if it crashes, the last result is that crash."""
    command = [sys.executable, "-c", "from benchmarks.conformance import work; work()"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdin is not None
        assert process.stdout is not None
        started = 120.0
        for name in names:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(f"{name}\n".encode())
                process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], seconds + started)
            line = process.stdout.readline() if ready else b""
            started = 0.0
            if not line:
                process.kill()
                code = process.wait()
                errors.seek(0)
                last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
                why = f"signal {-code}" if ready else f"more than {seconds:.0f} s"
                yield CaseResult(name, "?", "crash", " ".join([why, *last]))
                return
            yield CaseResult(**json.loads(line))
        process.stdin.close()
        process.wait()


def table(found: Iterable[CaseResult]) -> str:
    """Return the counts per family as text."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for f in found:
        counts[f.family][f.outcome] += 1
        counts["all"][f.outcome] += 1
        if not f.name.endswith("_expanded"):
            counts["all but expanded"][f.outcome] += 1
    rows = [f"{'':24}" + "".join(f"{o:>8}" for o in OUTCOMES)]
    order = sorted(counts, key=lambda name: (name.startswith("all"), name))
    rows += [f"{name:24}" + "".join(f"{counts[name][o] or '-':>8}" for o in OUTCOMES) for name in order]
    return "\n".join(rows)


def reasons(found: Iterable[CaseResult], outcome: str) -> str:
    """Return the cases with one outcome, grouped by reason, the most frequent first."""
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for f in found:
        if f.outcome == outcome:
            groups[re.sub(r"test_\w+|#?\b\d+\b", "_", f.reason)].append(f"{f.name}: {f.reason}")
    ordered = sorted(groups.values(), key=lambda g: -len(g))
    return "\n".join(f"  {len(g):4} {g[0]}" + "".join(f"\n         {other.split(':')[0]}" for other in g[1:]) for g in ordered)


def main(
    patterns: Annotated[list[str] | None, typer.Argument()] = None,
    seconds: Annotated[float, typer.Option(help="the longest a case may take")] = 60,
    output: Annotated[Path | None, typer.Option(help="a file for the findings, a line of JSON each")] = None,
) -> None:
    """Print the counts per family, then the reasons of all cases that are not computed natively."""
    found = []
    for finding in findings(case_names(patterns or []), seconds):
        found.append(finding)
        if output is not None:
            with output.open("a") as file:
                file.write(json.dumps(asdict(finding)) + "\n")
    for outcome in OUTCOMES[:0:-1]:
        if text := reasons(found, outcome):
            print(f"{outcome}\n{text}")
    print(table(found))


if __name__ == "__main__":
    typer.run(main)
