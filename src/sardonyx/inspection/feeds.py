"""Random feeds from a seed, for any model, chosen by the types and shapes of its inputs."""

from __future__ import annotations

import ast
import operator
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from sardonyx.base import dtypes
from sardonyx.runtime.safe_open import open_regular
from sardonyx.session.metadata import NodeArg

SMALLEST = 2  # the first symbolic size; each further one is larger by 1, so that different axes have different sizes
WORDS = ("a", "the", "Onyx", "stone", "", "7")
_TENSORS = {f"tensor({dtype.onnx_name})": dtype for dtype in dtypes.ALL}
_ARITHMETIC: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def symbolic_sizes(inputs: Sequence[NodeArg], given: Mapping[str, int]) -> dict[str, int]:
    """Return {name: size} for every symbolic dimension of the inputs: the given size, else a small number.

    A dimension without a name is called `input:axis`. If its name is an expression of other names, such as `past + 1`, it is
    computed from them. Raises ValueError for a given name that no input has.
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
    """Return the input's sizes, with `input:axis` for those without a name."""
    return [f"{argument.name}:{axis}" if size is None else size for axis, size in enumerate(argument.shape)]


def _terms(name: str) -> bool:
    """Return whether the name is an expression of other names."""
    try:
        return isinstance(ast.parse(name, mode="eval").body, ast.BinOp)
    except (SyntaxError, ValueError):
        return False


def _evaluate(node: ast.expr, sizes: Mapping[str, int]) -> int | None:
    """Evaluate sums, products and quotients of known sizes. Returns None for anything else."""
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
    """Return {name: value} for all inputs. The value depends on the seed and the input's name only.

    Floats are normal; integers of at most 8 bits take any value; wider integers are 0 or 1, because they are mostly indices and
    masks; optional values are present. Raises ValueError for maps and other types that are not made of tensors.
    """
    feeds = {}
    for argument in inputs:
        shape = [n if isinstance(n, int) else sizes[n] for n in shape_of(argument)]
        feeds[argument.name] = _value(argument, argument.type, shape, np.random.default_rng([seed, *argument.name.encode()]))
    return feeds


def _value(argument: NodeArg, kind: str, shape: Sequence[int], generator: np.random.Generator) -> Any:
    """Return a random value of a type; lists have two elements, whose sizes differ."""
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
    """Return a random array, see `random_feeds`."""
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
    """Load the arrays of an .npz file. Raises ValueError if it is not such a file, OSError if it can't be read."""
    with open(open_regular(str(path)), "rb") as source:
        try:
            found = np.load(source, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise ValueError("it holds one array instead of named arrays")
            return dict(found)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not an .npz file of arrays: {error}") from error


def load_inputs(inputs: Sequence[NodeArg], given: Sequence[str]) -> dict[str, Any]:
    """Load inputs from files: `name=file` each, or a file alone for a model's only input, or an .npz file with several.

    A .npy file holds an array. Another file is an image, see `load_image`. Raises ValueError, naming the file, if it can't be used, OSError
    if it can't be read.
    """
    by_name = {argument.name: argument for argument in inputs}
    found: dict[str, Any] = {}
    for text in given:
        name, separator, file = text.partition("=")
        if name not in by_name and Path(text).exists():
            name, separator, file = text, "", ""  # a file with "=" in its name
        if separator and not file:
            raise ValueError(f"no file is given for input {name!r}: write {name}=FILE")
        if not separator and text.endswith(".npz"):
            found |= load_feeds(Path(text))
            continue
        if not separator:
            if len(inputs) != 1:
                raise ValueError(f"the model has {len(inputs)} inputs ({', '.join(by_name)}): write NAME={text}")
            name, file = inputs[0].name, text
        if name not in by_name:
            raise ValueError(f"the model has no input {name!r}; there are {', '.join(by_name) or 'none'}")
        found[name] = load_array(Path(file), by_name[name])
    return found


def load_array(path: Path, argument: NodeArg) -> Any:
    """Load one input from a .npy file, an .npz file with one array, or an image. Raises ValueError or OSError."""
    with open(open_regular(str(path)), "rb") as source:
        if path.suffix not in (".npy", ".npz"):
            return load_image(source, path, argument)
        try:
            loaded = np.load(source, allow_pickle=False)
            arrays = [loaded] if isinstance(loaded, np.ndarray) else list(loaded.values())
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} holds no array that numpy can read: {error}") from error
    if len(arrays) != 1:
        raise ValueError(f"{path} holds {len(arrays)} arrays, not one: give it without a name, and the arrays the inputs' names")
    return arrays[0]


def load_image(source: IO[bytes], path: Path, argument: NodeArg) -> np.ndarray[Any, Any]:
    """Load an image as an input [n, c, h, w], [n, h, w, c], or without n; it is resized to the input's sizes where they are fixed.

    Floats are from 0 to 1, integers from 0 to 255. Raises ValueError if it is no image, or if the input has another form; ImportError without
    pillow.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(f"reading {path} needs pillow: `pip install pillow`") from None
    if argument.type not in _TENSORS:
        raise ValueError(f"an image can't be an input of type {argument.type}")
    sizes = [size if isinstance(size, int) else None for size in argument.shape]
    sizes = sizes[1:] if len(sizes) == 4 else sizes
    channels_last = len(sizes) == 3 and sizes[-1] in (1, 3, 4) and sizes[0] not in (1, 3, 4)
    if len(sizes) not in (2, 3):
        raise ValueError(f"input {argument.name} has the shape {argument.shape}, which is no image's: give it an .npy file")
    channels = None if len(sizes) == 2 else sizes[-1 if channels_last else 0]
    height, width = sizes[:2] if channels_last else sizes[-2:]
    modes = {None: "L" if len(sizes) == 2 else "RGB", 1: "L", 3: "RGB", 4: "RGBA"}
    if channels not in modes:
        raise ValueError(f"input {argument.name} has {channels} channels, which no image has: give it an .npy file")
    try:
        image = Image.open(source).convert(modes[channels])
        image = image.resize((width or image.width, height or image.height))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no image that can be read: {error}") from error
    pixels = np.asarray(image)
    if len(sizes) == 3:
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        pixels = pixels if channels_last else pixels.transpose(2, 0, 1)
    dtype = _TENSORS[argument.type]
    pixels = (pixels / 255).astype(dtype.numpy) if dtype.is_float else pixels.astype(dtype.numpy)
    return np.ascontiguousarray(pixels if len(argument.shape) < 4 else pixels[np.newaxis])


def sizes_of(inputs: Sequence[NodeArg], found: Mapping[str, Any]) -> dict[str, int]:
    """Return {name: size} of symbolic dimensions whose size an array gives."""
    sizes: dict[str, int] = {}
    for argument in inputs:
        for name, size in zip(shape_of(argument), getattr(found.get(argument.name), "shape", ()), strict=False):
            if isinstance(name, str):
                sizes.setdefault(name, size)
    return sizes


def parse_sizes(texts: Sequence[str]) -> dict[str, int]:
    """Parse texts like `batch=4` into {name: size}. Raises ValueError for other texts."""
    return dict(_parse_sizes(texts))


def _parse_sizes(texts: Sequence[str]) -> Iterator[tuple[str, int]]:
    for text in texts:
        name, separator, number = text.rpartition("=")
        if not separator or not name or not number.isdecimal():
            raise ValueError(f"a size is given as name=number, not {text!r}")
        yield name, int(number)
