"""Fills in docs/compiler.md and draws its pictures, from what the compiler makes of its examples: `python -m docs.compiler`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from docs.compiler import pictures
from docs.compiler.c_text import c_text
from docs.compiler.examples import NETWORK, PLACES, Example
from docs.compiler.stages import TARGET, Compiled, Names, buffer_names, compiled, graph_stages
from sardonyx.codegen import compile as code
from sardonyx.expr.tensor import Tensor, operands
from sardonyx.graph.passes import NAMES as PASSES
from sardonyx.loop.nodes import Stmt, Tile
from sardonyx.loop.printer import text
from sardonyx.lower.lowered import PROGRAM, VALUES
from sardonyx.lower.printer import decisions_text, program_text, values_text

PAGE = Path(__file__).parents[1] / "compiler.md"
IMAGES = PAGE.parent / "images" / "compiler"
ON_LLVM = ("llvm", "assembly")
"""Sections that depend on the version of LLVM."""
MEANINGS = {
    "inline_scalars": "constants of one element become literals",
    "expand_bodies": "loops and branches become repeated bodies with double-buffered states",
    "mark_constants": "what depends on weights alone goes to the preparing program",
    "keep_wide": "f16 and bf16 intermediate values are kept in f32",
    "inline_views": "index maps (VIEW) disappear into the indices of their readers",
    "sum_in_integers": "sums of products of dequantised numbers are computed in integers",
    "rewrite_convolutions": "3 x 3 convolutions become Winograd's transforms and products where that is faster",
    "make_strips": "large feature maps between two convolutions are computed a few rows at a time",
    "pack": "the second operand of each contraction is copied into panels",
    "split_long_reductions": "long reductions to few results become partial reductions that threads share",
    "mark_levels": "finds after which sizes that data decide each value can be computed",
    "inline": "allows the place INLINE",
    "tile": "allows the place TILE",
    "row": "allows the place ROW",
    "place": "decides where each value is computed and kept",
    "split_nests": "nests of many tiny statements become one nest per statement",
    "multiply_by_reciprocals": "divisions by literals before a rounding to bytes become multiplications with the same result",
    "share_kernels": "allows equal nests to share a kernel",
    "build_kernels": "builds the loops of each nest",
    "order_calls": "puts the calls in order, a barrier before each",
    "place_barriers": "removes the barriers that nothing needs",
    "share_memory": "allows buffers that are not alive at once to share memory",
    "plan_memory": "gives each buffer its place in the arena",
}
"""What each step of lowering does, in a line."""


def sections() -> dict[str, str]:
    """{name: what stands between its markers}, in Markdown."""
    graph = graph_stages(NETWORK)
    stage = compiled(graph.compiled)
    names, (call,) = Names(stage), stage.calls
    kernel = call.kernel
    passes = [f"| {number} | `{name}` | {'yes' if changed else ''} |" for number, name, changed in graph.passes]
    llvm, assembly = code.ir_text(kernel, TARGET), code.assembly(kernel, TARGET)
    found = {
        "model": block(NETWORK.graph),
        "passes": "\n".join(["| number | pass | changed this graph |", "|---|---|---|", *passes]),
        "steps": "\n".join(
            [
                "| number | step | may be left out | what it does | fields of values that it sets |",
                "|---|---|---|---|---|",
                *step_rows(),
            ]
        ),
        "tensors": block(names.text(values_text(initial_values(stage)))),
        "places": block(names.text(values_text({t: v for t, v in stage.values.items() if v.place}))),
        "reasons": block(names.text(decisions_text(stage.program.decisions))),
        "loops": block(text(kernel).rstrip()),
        "c": block(c_text(kernel, buffer_names(kernel, call, stage, names), NETWORK.name).rstrip(), "c"),
        "llvm": block(block_with(llvm, "fdiv <8 x float>")),
        "assembly": block(function(assembly, ".6x2.")),
        "program": block(names.text(program_text(stage.program.segments)).replace(kernel.name, "kernel")),
        "plans": block("\n".join(plan_lines(stage))),
        "table": block("\n".join(" ".join(f"{n:4}" for n in row) for s in stage.assembly.spec.segments for row in s.steps)),
    }
    return found | {example.name: place_section(example) for example in PLACES}


def drawings() -> dict[str, str]:
    """{name: the picture}"""
    graph = graph_stages(NETWORK)
    stage = compiled(graph.compiled)
    names, kernel = Names(stage), stage.calls[0].kernel
    tile = next(tiles(kernel.body))
    found = {
        "graph": pictures.graph_picture(graph.before),
        "passes": pictures.graph_picture(graph.after),
        "partition": pictures.graph_picture(graph.after, graph.parts, graph.on_host),
        "tensors": pictures.tensors_picture(initial_values(stage), names),
        "places": pictures.places_picture(stage, names),
        "loops": pictures.loops_picture(stage, names),
        "machine": pictures.machine_picture(code.ir_text(kernel, TARGET), tile),
        "run": pictures.run_picture(graph, stage),
    }
    for example in PLACES:
        small = compiled(graph_stages(example).compiled)
        found[example.name] = pictures.places_picture(small, Names(small))
    return found


def initial_values(stage: Compiled) -> dict[Tensor, pictures.Value]:
    """What the outputs are made of, as the operators' records describe it."""
    found: dict[Tensor, pictures.Value] = {}
    waiting = list(stage.imported.outputs)
    while waiting:
        t = waiting.pop()
        if t not in found:
            found[t] = pictures.Value(t)
            waiting += operands(t)
    return found


def step_rows() -> Iterator[str]:
    """A row for each step of lowering, numbered after the graph's passes."""
    for number, step in enumerate((*VALUES, *PROGRAM), len(PASSES) + 1):
        yield f"| {number} | `{step.name}` | {'yes' if step.optional else ''} | {MEANINGS[step.name]} | {', '.join(step.sets.split())} |"


def plan_lines(stage: Compiled) -> Iterator[str]:
    """What the plans compute: each slot's number and formula."""
    slots = {slot: s.name for s, slot in stage.assembly.slots.items()}
    for name, assignments in stage.assembly.plans.items():
        yield f"{name}:"
        for slot, formula in assignments:
            known = f" ({slots[slot]})" if slot in slots and not slots[slot].startswith("<") else ""
            yield f"    slot {slot}{known} = {with_slots(str(formula), stage)}"


def with_slots(formula: str, stage: Compiled) -> str:
    """The formula with sizes that have no readable name as their slots."""
    for s, slot in stage.assembly.slots.items():
        if s.name.startswith("<"):
            formula = formula.replace(s.name, f"slot {slot}")
    return formula


def place_section(example: Example) -> str:
    """The graph, and its kernels as C."""
    stage = compiled(graph_stages(example).compiled)
    names = Names(stage)
    loops = [c_text(c.kernel, buffer_names(c.kernel, c, stage, names), f"{example.name}_{i}") for i, c in enumerate(stage.calls)]
    return f"{block(example.graph)}\n\n{block(chr(10).join(loops).rstrip(), 'c')}"


def tiles(s: Stmt) -> Iterator[Tile]:
    """The tiles of a statement."""
    if isinstance(s, Tile):
        yield s
    inner = getattr(s, "body", ())
    for part in inner if isinstance(inner, tuple) else (inner,):
        yield from tiles(part)


def block(words: str, language: str = "") -> str:
    return f"```{language}\n{words}\n```"


def block_with(llvm: str, instruction: str) -> str:
    """The basic block of LLVM IR that contains the instruction."""
    lines = llvm.splitlines()
    at = next(i for i, line in enumerate(lines) if instruction in line)
    start = max(i for i in range(at) if lines[i].endswith(":"))
    end = next((i for i in range(at, len(lines)) if lines[i].endswith(":")), len(lines))
    return "\n".join(lines[start:end])


def function(assembly: str, part: str) -> str:
    """The inner loop of the function with this in its name: from its label to the jump back."""
    lines = assembly.splitlines()
    start = next(i for i, line in enumerate(lines) if part in line and line.endswith(":") and not line.startswith("\t"))
    end = next(i for i in range(start, len(lines)) if re.match(r"\tj\w+\t\.L", lines[i]))
    label = lines[end].split()[1]
    begin = next((i for i in range(start, end) if lines[i].startswith(f"{label}:")), start)
    return "\n".join([lines[start], *lines[begin : end + 1]])


def filled(page: str, found: dict[str, str]) -> str:
    """The page with each section between its markers. Raises ValueError for a section that the page has no place for."""
    for name, words in found.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        before, there, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not there or not closed:
            raise ValueError(f"{PAGE.name} has no place for {name}")
        page = f"{before}{begin}\n{words}\n\n{end}{after}"
    return page


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), sections()), encoding="utf-8")
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, picture in drawings().items():
        (IMAGES / f"{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
