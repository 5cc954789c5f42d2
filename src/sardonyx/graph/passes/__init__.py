"""The graph passes, as a list in the order in which they run. Each pass has a file of its own that begins with its rewrite rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir
from msgspec import Struct

from sardonyx.base import debug
from sardonyx.base.options import BASIC, DISABLED, CompileOptions
from sardonyx.base.steps import last_optional, run_steps
from sardonyx.graph.passes.batch_normalization_folding import fold_batch_normalizations
from sardonyx.graph.passes.cast_elimination import eliminate_casts
from sardonyx.graph.passes.common_subexpression_elimination import eliminate_common_subexpressions
from sardonyx.graph.passes.constant_folding import fold_constants
from sardonyx.graph.passes.convolution_constant_folding import fold_convolution_constants
from sardonyx.graph.passes.dead_node_elimination import eliminate_dead_nodes
from sardonyx.graph.passes.dropout_elimination import eliminate_dropouts
from sardonyx.graph.passes.identity_elimination import eliminate_identities
from sardonyx.graph.passes.label_separation import separate_labels
from sardonyx.graph.passes.matmul_add_fusion import fuse_matmul_add
from sardonyx.graph.verify import Knows, knows_nothing, verify

if TYPE_CHECKING:
    from sardonyx.base.steps import Step


class Pass(Struct, frozen=True):
    """A step of the pipeline.

    run: modifies the model in place and returns whether it changed anything. level: the least optimisation level at which it runs.
    aliases: ONNX Runtime's names for what the pass does. It can be disabled by any of them, or by its own name.
    """

    run: Callable[[ir.Model], bool]
    level: int
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the pass: that of its file."""
        return self.run.__module__.rpartition(".")[2]


PIPELINE = (
    Pass(separate_labels, DISABLED),
    Pass(eliminate_identities, BASIC, ("EliminateIdentity",)),
    Pass(eliminate_dropouts, BASIC, ("EliminateDropout",)),
    Pass(eliminate_casts, BASIC, ("CastElimination",)),
    Pass(fold_constants, BASIC, ("ConstantFolding",)),
    Pass(eliminate_common_subexpressions, BASIC, ("CommonSubexpressionElimination",)),
    Pass(fold_batch_normalizations, BASIC, ("ConvBNFusion", "MatmulBNFusion")),
    Pass(fold_convolution_constants, BASIC, ("ConvMulFusion", "ConvAddFusion")),
    Pass(fuse_matmul_add, BASIC, ("MatMulAddFusion",)),
    Pass(eliminate_dead_nodes, BASIC),
)
"""The passes in the order in which they run."""


NAMES = tuple(step.name for step in PIPELINE)


def optimise(model: ir.Model, options: CompileOptions, knows: Knows = knows_nothing) -> None:
    """Run the passes that the options and the debug settings select (see base.steps).

    With SARDONYX_VERIFY the model is verified after each pass. At debug level 3 it is printed after each that changed it.
    """
    passes: Iterable[tuple[int, Step[ir.Model]]] = chosen(options)
    if debug.verifying():
        passes = ((number, Verified(step, knows)) for number, step in chosen(options))
    run_steps(passes, model, "graph", graph_text)


def chosen(options: CompileOptions) -> Iterator[tuple[int, Pass]]:
    """Yield the passes of the options' level, numbered from 1, that are neither disabled, filtered nor beyond SARDONYX_STEPS."""
    limit = last_optional(NAMES, more_follow=True)
    for number, step in enumerate(PIPELINE[:limit], 1):
        wanted = step.level <= options.level and options.disabled.isdisjoint((step.name, *step.aliases))
        if wanted and debug.pass_enabled(step.name):
            yield number, step


class Verified(Struct, frozen=True):
    """A pass after which the model is verified. `run` raises what `graph.verify` raises."""

    step: Pass
    knows: Knows

    @property
    def name(self) -> str:
        return self.step.name

    def run(self, model: ir.Model) -> None:
        self.step.run(model)
        verify(model, self.knows)


def graph_text(model: ir.Model) -> str:
    return str(model.graph)
