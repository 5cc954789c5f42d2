"""Random numbers: RandomUniform, RandomNormal, RandomUniformLike, RandomNormalLike, Bernoulli, Multinomial.

Each number is a function of a key and of its position in the tensor: Philox 2x32 with 10 rounds (Salmon and others, "Parallel
random numbers: as easy as 1, 2, 3", 2011). So it does not depend on the number of threads, the target, or other random operators.
The key combines the node's seed with the number of the run, so that each run draws new numbers and a new session repeats the
sequence. If a node has no seed, the key combines its name, the number of the run, and a value that differs between sessions
(expr.draws).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from sardonyx.base.dtypes import DType, f32, f64, u32, u64
from sardonyx.base.symbolic import Dim, strides
from sardonyx.expr import draws, scalar
from sardonyx.expr.index import at
from sardonyx.expr.origin import current_origin
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops.casts import element_type
from sardonyx.ops.record import Meaning, Op, Rule
from sardonyx.ops.reduce import arg_max
from sardonyx.ops.reference import tensors
from sardonyx.ops.scatter import offset

ROUNDS, MULTIPLIER, STEP = 10, 0xD256D193, 0x9E3779B9
WORD = 0xFFFFFFFF


def philox(counter: Expr, key: Expr) -> tuple[Expr, Expr]:
    """Return two random words (u32) for a counter (u64) and a key (u32)."""
    left = scalar.cast(scalar.apply("and", counter, WORD), u32)
    right = scalar.cast(scalar.apply("shr", counter, 32), u32)
    for _ in range(ROUNDS):
        product = scalar.mul(scalar.cast(left, u64), MULTIPLIER)
        high, low = scalar.cast(scalar.apply("shr", product, 32), u32), scalar.cast(scalar.apply("and", product, WORD), u32)
        left, right = scalar.apply("xor", scalar.apply("xor", high, key), right), low
        key = scalar.add(key, STEP)
    return left, right


def key_of(seed: float | None) -> int:
    """Return the bits of the seed, or a checksum of the node's name if it has no seed."""
    if seed is None:
        return zlib.crc32(current_origin().encode())
    return int(struct.unpack("<I", struct.pack("<f", seed))[0])


def words(place: Sequence[Dim], shape: Sequence[Dim], seed: float | None) -> tuple[Expr, Expr]:
    """Return two random words for a position in a tensor of this shape."""
    key = draws.key(key_of(seed), seed is not None)
    return philox(scalar.cast(scalar.index(offset(place, strides(shape))), u64), key)


def fraction(word: Expr, dtype: DType) -> Expr:
    """Convert a random word to a number in [0, 1)."""
    if dtype is f64:
        return scalar.mul(scalar.cast(word, f64), 2.0**-32)
    return scalar.mul(scalar.cast(scalar.apply("shr", word, 8), f32), 2.0**-24)


def uniform_tensor(shape: Sequence[Dim], dtype: DType, low: float, high: float, seed: float | None) -> Tensor:
    """Make a tensor of numbers uniform in [low, high)."""
    compute_dtype = scalar.wide(dtype)

    def body(*i: Dim) -> Expr:
        number = fraction(words(i, shape, seed)[0], compute_dtype)
        return scalar.cast(scalar.add(scalar.mul(number, high - low), low), dtype)

    return compute(dtype, shape, body)


def normal_tensor(shape: Sequence[Dim], dtype: DType, mean: float, scale: float, seed: float | None) -> Tensor:
    """Make a tensor of normal numbers by the method of Box and Muller (1958): sqrt(-2 log u) cos(2 pi v), for u in (0, 1] and v in
    [0, 1).
    """
    compute_dtype = scalar.wide(dtype)

    def body(*i: Dim) -> Expr:
        first, second = words(i, shape, seed)
        radius = scalar.apply("sqrt", scalar.mul(scalar.apply("log", scalar.sub(1, fraction(first, compute_dtype))), -2))
        number = scalar.mul(radius, scalar.apply("cos", scalar.mul(fraction(second, compute_dtype), 2 * math.pi)))
        return scalar.cast(scalar.add(scalar.mul(number, scale), mean), dtype)

    return compute(dtype, shape, body)


def random_uniform(shape: Sequence[int], dtype: int = 1, low: float = 0.0, high: float = 1.0, seed: float | None = None) -> Tensor:
    """Compute RandomUniform: numbers in [low, high). -> T[*shape]"""
    return uniform_tensor(shape, element_type(dtype), low, high, seed)


def random_uniform_like(x: Tensor, dtype: int = 0, low: float = 0.0, high: float = 1.0, seed: float | None = None) -> Tensor:
    """Compute RandomUniformLike: numbers in [low, high) in the shape of x. x: S[*d] -> T[*d]; without a dtype T is S."""
    return uniform_tensor(x.shape, element_type(dtype) if dtype else x.dtype, low, high, seed)


def random_normal(shape: Sequence[int], dtype: int = 1, mean: float = 0.0, scale: float = 1.0, seed: float | None = None) -> Tensor:
    """Compute RandomNormal: numbers with this mean and standard deviation. -> T[*shape]"""
    return normal_tensor(shape, element_type(dtype), mean, scale, seed)


def random_normal_like(x: Tensor, dtype: int = 0, mean: float = 0.0, scale: float = 1.0, seed: float | None = None) -> Tensor:
    """Compute RandomNormalLike: numbers with this mean and standard deviation in the shape of x. x: S[*d] -> T[*d]; without a dtype
    T is S.
    """
    return normal_tensor(x.shape, element_type(dtype) if dtype else x.dtype, mean, scale, seed)


def bernoulli(p: Tensor, dtype: int = 0, seed: float | None = None) -> Tensor:
    """Compute Bernoulli: 1 with probability p, else 0. p: S[*d] -> T[*d]; without a dtype T is S."""
    out, compute_dtype = element_type(dtype) if dtype else p.dtype, scalar.wide(p.dtype)

    def body(*i: Dim) -> Expr:
        number = fraction(words(i, p.shape, seed)[0], compute_dtype)
        drawn = scalar.apply("lt", number, scalar.cast(at(p, i), compute_dtype))
        return scalar.select(drawn, scalar.literal(1, out), scalar.literal(0, out))

    return compute(out, p.shape, body)


def multinomial(logits: Tensor, dtype: int = 6, sample_size: int = 1, seed: float | None = None) -> Tensor:
    """Compute Multinomial: draw classes by their unnormalised log-probabilities. logits: S[batch, classes] -> T[batch, sample_size]

    Each sample is the class with the greatest logit + noise, where noise = -log(-log(u)) for u uniform in (0, 1) (the Gumbel-max
    method).
    """
    batch, classes = logits.shape
    shape = (batch, sample_size, classes)
    compute_dtype = scalar.wide(logits.dtype)

    def body(*i: Dim) -> Expr:
        open_fraction = scalar.add(fraction(words(i, shape, seed)[0], compute_dtype), 2.0**-25)
        noise = scalar.negate(scalar.apply("log", scalar.negate(scalar.apply("log", open_fraction))))
        return scalar.add(scalar.cast(at(logits, (i[0], i[2])), compute_dtype), noise)

    place = arg_max(compute(compute_dtype, shape, body), axis=2, keepdims=0)
    out = element_type(dtype)
    return compute(out, (batch, sample_size), lambda *i: scalar.cast(at(place, i), out))


def drawing(name: str, since: int, meaning: Meaning, reference: Callable[..., Any] | None = None) -> Op:
    """Make the record of an operator that draws random numbers."""
    return Op(name, since=since, lower=meaning, gradient=Rule.NONE, quantised=Rule.NONE, reference=reference)


OPS = (
    drawing("RandomUniform", 1, random_uniform),
    drawing("RandomUniformLike", 1, random_uniform_like),
    drawing("RandomNormal", 1, random_normal),
    drawing("RandomNormalLike", 1, random_normal_like),
    drawing("Bernoulli", 15, bernoulli),
    drawing("Multinomial", 7, multinomial, tensors.multinomial),
)
