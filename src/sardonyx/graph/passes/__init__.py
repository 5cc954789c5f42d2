"""The graph passes, as a list in the order in which they run. Each pass has a file of its own that begins with its rewrite rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx_ir as ir
from msgspec import Struct

from sardonyx.base import debug
from sardonyx.base.options import BASIC, DISABLED, CompileOptions
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


def optimise(model: ir.Model, options: CompileOptions, knows: Knows = knows_nothing) -> None:
    """Run the passes that the options and the debug settings select.

    At debug level 3 the model is verified and printed after each pass that changed it.
    """
    for number, step in enumerate(chosen(options)):
        changed = step.run(model)
        if changed and debug.wants(debug.GRAPH):
            verify(model, knows)
            debug.show(debug.GRAPH, f"graph after pass {number} ({step.name})", str(model.graph))


def chosen(options: CompileOptions) -> Iterator[Pass]:
    """Yield the passes of the options' level that are neither disabled, filtered nor beyond the step limit."""
    limit = debug.step_limit()
    for number, step in enumerate(PIPELINE):
        wanted = step.level <= options.level and options.disabled.isdisjoint((step.name, *step.aliases))
        if wanted and debug.pass_enabled(step.name) and (limit is None or number < limit):
            yield step
