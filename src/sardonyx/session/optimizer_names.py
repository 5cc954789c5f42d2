"""The names of optimisers that a session may be told to leave out: this package's passes, and ONNX Runtime's transformers.

ONNX Runtime's names are those of version 1.32 (onnxruntime/core/optimizer/graph_transformer_utils.cc, by level). Some of them are
aliases of passes here (graph.passes). The others name what the compiler does while it lowers a graph, or does not do at all; leaving
those out changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

PASSES = frozenset(
    (
        *("batch_normalization_folding", "cast_elimination", "common_subexpression_elimination", "constant_folding"),
        *("convolution_constant_folding", "dead_node_elimination", "dropout_elimination", "identity_elimination"),
        *("label_separation", "matmul_add_fusion"),
    )
)
"""The names of this package's passes, which are those of their files; the passes themselves are imported when a model is compiled."""
BASIC = frozenset(
    (
        *(
            "EliminateIdentity",
            "EliminateSlice",
            "UnsqueezeElimination",
            "EliminateDropout",
            "ExpandElimination",
            "CastElimination",
        ),
        *("PreShapeNodeElimination", "NoopElimination", "DivMulFusion", "FuseReluClip", "GemmSumFusion", "GemmTransposeFusion"),
        *("NotWhereFusion", "ConvAddFusion", "ConvMulFusion", "ConvBNFusion", "PadFusion", "MatmulBNFusion", "LabelEncoderFusion"),
        *("DoubleQDQPairsRemover", "ConstantSharing", "CommonSubexpressionElimination", "ConstantFolding", "MatMulAddFusion"),
        *("ReshapeFusion", "FreeDimensionOverrideTransformer", "SliceConcatToSpaceToDepthFusion", "GeluFusion", "LayerNormFusion"),
        *("QDQPropagationTransformer", "WeightBiasQuantization", "EnsureUniqueDQForNodeUnit", "TransposeOptimizer"),
    )
)
EXTENDED = frozenset(
    (
        *("ClipQuantFusion", "ReluQuantFusion", "QDQS8ToU8Transformer", "QDQSelectorActionTransformer", "GemmActivationFusion"),
        *("ConvActivationFusion", "MatMulIntegerToFloatFusion", "DynamicQuantizeMatMulFusion", "SimplifiedLayerNormFusion"),
        *("AttentionFusion", "EmbedLayerNormFusion", "GatherSliceToSplitFusion", "GatherToSliceFusion", "MatmulTransposeFusion"),
        *("MatMulScaleFusion", "BiasGeluFusion", "FastGeluFusion", "QuickGeluFusion", "SkipLayerNormFusion"),
        *("BiasSkipLayerNormFusion", "BiasSoftmaxFusion", "QDQFinalCleanupTransformer"),
    )
)
LAYOUT = frozenset(("NchwcTransformer", "NhwcTransformer", "ConvAddActivationFusion"))
KNOWN = PASSES | BASIC | EXTENDED | LAYOUT


def unknown(names: Iterable[str]) -> str:
    """Return a warning that lists the names which no optimiser has; "" if all are known."""
    wrong = sorted(set(names) - KNOWN)
    return f"There is no optimizer to disable of the name {', '.join(map(repr, wrong))}." if wrong else ""
