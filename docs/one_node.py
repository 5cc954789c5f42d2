"""Fills in CONTRIBUTING.md's section on the way of one layer, from what the debug dial prints: `python docs/one_node.py`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- one layer: begin -->\n", "<!-- one layer: end -->"
RUN = "import sys, sardonyx; sardonyx.InferenceSession(sys.argv[1])"
TARGET = "avx2"


def dumped() -> dict[str, str]:
    """{title: text} of all that the dial has to say of the layer; of titles that occur twice the last, which is the program's own."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "layer.onnx"
        texts = Path(folder) / "texts"
        environment = {**os.environ, "SARDONYX_TARGET": TARGET, "SARDONYX_CACHE": "off", "SARDONYX_DUMP": str(texts)}
        subprocess.run([sys.executable, ROOT / "examples" / "layer" / "layer.py", model], check=True)
        subprocess.run([sys.executable, "-c", RUN, model], env=environment, check=True)
        return {path.stem.partition("-")[2]: path.read_text(encoding="utf-8") for path in sorted(texts.iterdir())}


def last(texts: dict[str, str], word: str) -> str:
    """The text of the last title with this word in it."""
    return [text for title, text in texts.items() if word in title][-1].strip()


def block_with(text: str, instruction: str) -> str:
    """The basic block of LLVM IR that contains the instruction."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if instruction in line)
    start = max(i for i in range(at) if lines[i].endswith(":"))
    end = next((i for i in range(at, len(lines)) if lines[i].endswith(":")), len(lines))
    return "\n".join(lines[start:end])


def function(text: str, part: str) -> str:
    """The assembly of the function with this in its name."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if part in line and line.endswith(":") and not line.startswith("\t"))
    end = next(i for i in range(start, len(lines)) if lines[i].strip() == "retq")
    return "\n".join(line for line in lines[start : end + 1] if not line.strip().startswith(".") or line.strip().endswith(":"))


def section(texts: dict[str, str]) -> str:
    """The section, in Markdown."""
    llvm, assembly = last(texts, "llvm"), last(texts, "assembly")
    parts = (
        (
            "Level 3, the graph after the last pass that changed it: MatMul and Add have become one node.",
            last(texts, "graph_after"),
        ),
        (
            "Level 2, the nests: one, over blocks of rows. `relu` is the ROOT, the buffer that is written; the matrix product is its TILE, kept in "
            "registers; the bias was INLINEd into the ROOT's expression and has no line of its own. (A second small program, not shown, packs "
            "the weight into panels once, when the session is made.)",
            last(texts, "nests"),
        ),
        (
            "Level 4, the loop IR. `s0` is the number of rows, known at run time. `i0` runs over blocks of nearly equal height, which the "
            "threads share; `i1` over panels of 16 columns. The tile leaves its sums in `b4`, a small scratch in L1; bias and ReLU are the epilogue.",
            last(texts, "loops"),
        ),
        ("Level 5, LLVM IR, of which this is the epilogue's inner loop:", block_with(llvm, "fadd <8 x float>")),
        (
            "Level 6, assembly, of which this is the tile for two rows and two vectors of eight columns (two steps of k per iteration):",
            function(assembly, ".2x2."),
        ),
    )
    return "\n".join(f"{words}\n\n```\n{text}\n```\n" for words, text in parts)


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{section(dumped())}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
