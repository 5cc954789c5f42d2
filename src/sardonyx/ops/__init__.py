"""The operators: one record each, in one file per family.

`OPERATORS` says which family defines which operators. A family's module is imported when one of its operators is looked up, because
a model uses few of the families, and importing all of them is a tenth of what a small model's first session costs.

Docstrings describe tensors as dtype[shape]. T, S, U and V are any dtypes, `*d` is any number of sizes: x: T[n, c, *d] -> T[n, c,
*o] takes a tensor of rank 2 or more and returns one of the same dtype and the same first two sizes.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING

from sardonyx.ops import registered

if TYPE_CHECKING:
    from sardonyx.ops.record import Op

OPERATORS = {
    "activation": (
        "Celu Dropout Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Relu Selu Shrink Sigmoid Softplus Softsign SwiGLU "
        "Swish ThresholdedRelu"
    ),
    "attention": "Attention RotaryEmbedding",
    "casts": "BitCast Cast CastLike",
    "contrib": (
        "BiasGelu CDist FastGelu FusedConv FusedGemm FusedMatMul Gelu MatMulNBits QuickGelu SimplifiedLayerNormalization "
        "SkipLayerNormalization SkipSimplifiedLayerNormalization Tokenizer"
    ),
    "contrib_attention": "Attention MultiHeadAttention",
    "contrib_blocks": "GatherBlockQuantized MoE QMoE",
    "contrib_codes": "MatMulBnb4 MatMulFpQ4",
    "contrib_decoding": "DecoderMaskedMultiHeadAttention QAttention SparseAttention",
    "contrib_delta": "GatedDeltaNet",
    "contrib_embedding": (
        "BifurcationDetector DynamicTimeWarping EmbedLayerNormalization MurmurHash3 NGramRepeatBlock QEmbedLayerNormalization "
        "WordConvEmbedding"
    ),
    "contrib_gates": (
        "BranchwiseRMSNorm EngramGate GatedAdd GatedRMSNorm HyperConnectionPostMix HyperConnectionPreMix LinearAttentionGate "
        "MoEGroupRouter ScaledSiLU"
    ),
    "contrib_grouped": "GroupQueryAttention",
    "contrib_ngrams": "NGramHashMapping VarlenNGramHashMapping",
    "contrib_quantized": (
        "DequantizeLinear DynamicQuantizeMatMul MatMulInteger16 MatMulIntegerToFloat NhwcMaxPool QGemm QLinearAdd "
        "QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearSigmoid "
        "QLinearSoftmax QLinearWhere QuantizeLinear"
    ),
    "contrib_recurrent": "CausalConvWithState LinearAttention VarlenCausalConvWithState",
    "contrib_rotary": "MRotaryEmbedding RotaryEmbedding",
    "contrib_tensors": (
        "ConvTransposeWithDynamicPads CropAndResize ExpandDims GatherND GridSample Inverse MaxpoolWithMask Pad Range SampleOp "
        "TransposeMatMul Trilu UnfoldTensor Unique"
    ),
    "conv": "Conv",
    "conv_transpose": "ConvTranspose",
    "cumulative": "CumProd CumSum",
    "detection": "MaxRoiPool NonMaxSuppression RoiAlign",
    "einsum": "Einsum",
    "experimental": "Affine Crop DynamicSlice ImageScaler ParametricSoftplus Scale ScaledTanh",
    "gather": "Compress Gather GatherElements GatherND OneHot",
    "host_operators": (
        "ConcatFromSequence ImageDecoder Optional OptionalGetElement OptionalHasElement RegexFullMatch SequenceAt "
        "SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence StringConcat "
        "StringNormalizer StringSplit TfIdfVectorizer"
    ),
    "integer_products": "ConvInteger MatMulInteger QLinearConv QLinearMatMul",
    "linalg": "Det Gemm MatMul Transpose",
    "logic": (
        "And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Equal Greater GreaterOrEqual Less LessOrEqual Not Or Where Xor"
    ),
    "loss": "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "math": (
        "Abs Acos Acosh Add Asin Asinh Atan Atanh Ceil Clip Cos Cosh Div Erf Exp Floor IsInf IsNaN Log Max Mean Min Mod Mul Neg "
        "Pow Reciprocal Round Sign Sin Sinh Sqrt Sub Sum Tan Tanh"
    ),
    "ml": (
        "ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer LabelEncoder "
        "LinearClassifier LinearRegressor Normalizer OneHotEncoder Scaler ZipMap"
    ),
    "movement": "CenterCropPad Concat DepthToSpace Pad ReverseSequence Slice SpaceToDepth Split Trilu",
    "norm": (
        "BatchNormalization GroupNormalization InstanceNormalization LRN LayerNormalization LpNormalization "
        "MeanVarianceNormalization RMSNormalization"
    ),
    "opset_1": "Add And Div Equal Greater Less Mul Or Pow Split Sub Upsample Xor",
    "pool": "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool MaxUnpool",
    "quantize": "DequantizeLinear DynamicQuantizeLinear QuantizeLinear",
    "quantized_rnn": "DynamicQuantizeLSTM",
    "random": "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
    "recurrent_attention": "CausalConvWithState LinearAttention",
    "reduce": (
        "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
        "ReduceSumSquare"
    ),
    "resize": "Resize Upsample",
    "rnn": "GRU LSTM RNN",
    "sample": "AffineGrid DeformConv GridSample",
    "scatter": "Col2Im Scatter ScatterElements ScatterND TensorScatter",
    "shape": "Constant ConstantOfShape Expand EyeLike Flatten Identity Range Reshape Shape Size Squeeze Tile Unsqueeze",
    "signal": "BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT",
    "softmax": "Hardmax LogSoftmax Softmax",
    "sort": "NonZero TopK Unique",
    "svm": "SVMClassifier SVMRegressor",
    "tree": "TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor",
}
"""Names of the operators, of any domain, that each family's module defines in its tuple `OPS`."""


def find(domain: str, name: str, version: int) -> Op | None:
    """Return the record of an operator that applies to this opset version of its domain, or None if there is none."""
    found = (*records(domain, name), *registered.find(domain, name))
    return max((op for op in found if op.since <= version), key=lambda op: op.since, default=None)


@functools.cache
def records(domain: str, name: str) -> tuple[Op, ...]:
    """Return the records of an operator of this package, of all versions. Imports the families that define them."""
    found = (op for family in _families().get(name, ()) for op in operators_of(family))
    return tuple(op for op in found if (op.domain, op.name) == (domain, name))


def operators_of(family: str) -> tuple[Op, ...]:
    """Return the records of a family. Imports it."""
    made: tuple[Op, ...] = importlib.import_module(f"sardonyx.ops.{family}").OPS
    return made


def every() -> list[Op]:
    """Return all records, family by family. Imports all of them."""
    return [op for family in OPERATORS for op in operators_of(family)]


@functools.cache
def _families() -> dict[str, list[str]]:
    """Return the families that define operators of each name."""
    found: dict[str, list[str]] = {}
    for family, names in OPERATORS.items():
        for name in names.split():
            found.setdefault(name, []).append(family)
    return found
