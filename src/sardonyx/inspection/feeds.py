"""Seeded random feeds for any model, from what it says of its inputs."""

from __future__ import annotations

import ast
import operator
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.base import dtypes
from sardonyx.session.metadata import NodeArg

SMALLEST = 2  # the first symbolic size; each further one is one larger, so that no two axes are alike by chance
WORDS = ("a", "the", "Onyx", "stone", "", "7")
_TENSORS = {f"tensor({dtype.onnx_name})": dtype for dtype in dtypes.ALL}
_ARITHMETIC: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def symbolic_sizes(inputs: Sequence[NodeArg], given: Mapping[str, int]) -> dict[str, int]:
    """{name: size} for every symbolic dimension of the inputs: as given, else a small number of its own.

    A dimension without a name is called `input:axis`. One whose name is an expression of others, such as `past + 1`, follows
    from them. Raises ValueError for a given name that no input has.
    """
    names = list(dict.fromkeys(size for argument in inputs for size in shape_of(argument) if isinstance(size, str)))
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"no input has a symbolic size {unknown[0]!r}; there are {', '.join(map(repr, names)) or 'none'}")
    plain = [name for name in names if name not in given and not _terms(name)]
    sizes = {**given, **{name: SMALLEST + index for index, name in enumerate(plain)}}
    for name in names:
        if name not in sizes:
            derived = _evaluate(ast.parse(name, mode="eval").body, sizes)
            sizes[name] = SMALLEST + len(sizes) if derived is None or derived < 0 else derived
    return sizes


def shape_of(argument: NodeArg) -> list[int | str]:
    """The input's sizes, with `input:axis` for those that have no name."""
    return [f"{argument.name}:{axis}" if size is None else size for axis, size in enumerate(argument.shape)]


def _terms(name: str) -> bool:
    """Is the name an expression of other names?"""
    try:
        return isinstance(ast.parse(name, mode="eval").body, ast.BinOp)
    except (SyntaxError, ValueError):
        return False


def _evaluate(node: ast.expr, sizes: Mapping[str, int]) -> int | None:
    """The number that sums and products of known sizes come to; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int else None
    if isinstance(node, ast.Name):
        return sizes.get(node.id)
    if not isinstance(node, ast.BinOp) or type(node.op) not in _ARITHMETIC:
        return None
    left, right = _evaluate(node.left, sizes), _evaluate(node.right, sizes)
    if left is None or right is None or (isinstance(node.op, ast.FloorDiv) and right == 0):
        return None
    return _ARITHMETIC[type(node.op)](left, right)


def random_feeds(inputs: Sequence[NodeArg], sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
    """{name: value} for all inputs; the same for the same seed, whatever other inputs there are.

    Floats are normal, integers of 8 bits and fewer anything, wider ones 0 or 1 (they are mostly indices and masks); optional values
    are there. Raises ValueError for maps and other types that are not made of tensors.
    """
    feeds = {}
    for argument in inputs:
        shape = [n if isinstance(n, int) else sizes[n] for n in shape_of(argument)]
        feeds[argument.name] = _value(argument, argument.type, shape, np.random.default_rng([seed, *argument.name.encode()]))
    return feeds


def _value(argument: NodeArg, kind: str, shape: Sequence[int], generator: np.random.Generator) -> Any:
    outer, _, rest = kind.partition("(")
    inner = rest.removesuffix(")")
    if outer == "optional":
        return _value(argument, inner, shape, generator)
    if outer == "seq":
        return [_value(argument, inner, (2, 3 + index), generator) for index in range(2)]
    if kind not in _TENSORS:
        raise ValueError(f"no random value for input {argument.name!r} of type {argument.type}")
    return random_array(_TENSORS[kind], shape, generator)


def random_array(dtype: dtypes.DType, shape: Sequence[int], generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """An array of the dtype, as `random_feeds` says."""
    if dtype is dtypes.string:
        return generator.choice(np.array(WORDS, object), shape)
    if dtype.kind == "complex":
        return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)).astype(dtype.numpy)
    if dtype.is_float:
        return generator.standard_normal(shape).astype(dtype.numpy)
    if dtype.is_integer and dtype.bits <= 8:
        low = -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0
        return generator.integers(low, low + (1 << dtype.bits), shape).astype(dtype.numpy)
    return generator.integers(0, 2, shape).astype(dtype.numpy)


def load_feeds(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file. Raises ValueError if it is none, OSError if it can't be read."""
    with path.open("rb") as source:
        try:
            found = np.load(source, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise ValueError("one array, not arrays by name")
            return dict(found)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is no .npz file of arrays: {error}") from error


def parse_sizes(texts: Sequence[str]) -> dict[str, int]:
    """{name: size} of texts like `batch=4`. Raises ValueError for others."""
    return dict(_parse_sizes(texts))


def _parse_sizes(texts: Sequence[str]) -> Iterator[tuple[str, int]]:
    for text in texts:
        name, separator, number = text.rpartition("=")
        if not separator or not name or not number.isdecimal():
            raise ValueError(f"a size is given as name=number, not {text!r}")
        yield name, int(number)
