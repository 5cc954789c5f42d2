"""session/dimension_names.py: a name that stands at two axes says that they are alike, mostly; a run is right where they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import sardonyx
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, Symbol
from sardonyx.runtime.cache import Cache
from sardonyx.session import session_cache
from sardonyx.session.dimension_names import agree, shared_names
from sardonyx.session.metadata import NodeArg
from sardonyx.session.session_parts import Request, SessionParts

HEAD = '<ir_version: 10, opset_import: ["" : 21]> '
Array = np.ndarray


def session(text: str, **options: object) -> sardonyx.InferenceSession:
    return sardonyx.InferenceSession(onnx.parser.parse_model(HEAD + text).SerializeToString(), **options)


def reals(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What is built."""
    found: list[Request] = []

    def build(request: Request, trace: object = None) -> SessionParts:
        found.append(request)
        return original(request, trace)

    original = session_cache.build
    monkeypatch.setattr(session_cache, "build", build)
    return found


TWO = "(float[N] x, float[N] y) => (float[M] z) "
CASES: dict[str, tuple[str, Callable[..., Array], list[tuple[tuple[int, ...], ...]]]] = {
    "two axes of one input": ("g (float[s, s] x) => (float[s, s] z) { z = Relu(x) }", lambda x: np.maximum(x, 0), [((2, 3),), ((3, 3),)]),
    "transposed": ("g (float[s, s] x) => (float[s, s] z) { z = Transpose(x) }", lambda x: x.T, [((2, 3),), ((2, 2),)]),
    "broadcast": (f"g {TWO}{{ z = Add(x, y) }}", np.add, [((3,), (1,)), ((1,), (4,)), ((3,), (3,)), ((0,), (1,))]),
    "product": (
        "g (float[n, n] x, float[n, n] y) => (float[n, n] z) { z = MatMul(x, y) }",
        np.matmul,
        [((2, 3), (3, 5)), ((4, 4), (4, 4)), ((1, 7), (7, 1))],
    ),
    "concatenated": (f"g {TWO}{{ z = Concat<axis = 0>(x, y) }}", lambda x, y: np.concatenate([x, y]), [((2,), (5,)), ((2,), (2,))]),
    "expanded to a shape that looks the same": (
        f"g {TWO}{{ s = Shape(y) z = Expand(x, s) }}",
        lambda x, y: np.broadcast_to(x, y.shape),
        [((1,), (4,)), ((4,), (4,))],
    ),
    "the size of another": (
        "g (float[N, 2] x, float[N] y) => (float[M] z) { s = Shape(y) t = Cast<to = 1>(s) u = ReduceSum<keepdims = 0>(x) z = Add(t, u) }",
        lambda x, y: np.float32([y.size]) + x.sum(),
        [((3, 2), (5,)), ((3, 2), (3,))],
    ),
    "sums beside each other": (
        "g (float[B, S] x, float[B, S] y) => (float[B] z) { a = ReduceSum<keepdims = 0>(x) b = ReduceMax<keepdims = 0>(y) z = Mul(a, b) }",
        lambda x, y: np.float32(x.sum() * y.max()),
        [((2, 3), (4, 5)), ((2, 3), (2, 3))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("disabled", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_sizes_are_those_of_the_feeds(name: str, disabled: bool) -> None:
    text, expected, shapes = CASES[name]
    options = sardonyx.SessionOptions()
    if disabled:
        options.graph_optimization_level = sardonyx.GraphOptimizationLevel.ORT_DISABLE_ALL
    made = session(text, sess_options=options)
    for given in [*shapes, *shapes[::-1]]:
        arrays = [reals(*shape) for shape in given]
        feeds = dict(zip([i.name for i in made.get_inputs()], arrays, strict=True))
        for _ in range(2):  # the second time it is repeated
            np.testing.assert_allclose(made.run(None, feeds)[0], expected(*arrays), rtol=1e-5, atol=1e-6)


def test_what_an_operator_needs_is_checked_where_it_stands() -> None:
    made = session(f"g {TWO}{{ [sum] z = Add(x, y) }}")
    for _ in range(2):
        with pytest.raises(Fail, match=r"Add node 'sum': 3 by 4 cannot be broadcast"):
            made.run(None, {"x": reals(3), "y": reals(4)})
    np.testing.assert_array_equal(made.run(None, {"x": reals(3), "y": reals(3)})[0], reals(3) * 2)


def test_nothing_more_is_compiled_while_names_hold(built: list[Request]) -> None:
    made = session(f"g {TWO}{{ z = Add(x, y) }}")
    made.run(None, {"x": reals(3), "y": reals(3)})
    made.run(["z"], {"x": reals(4), "y": reals(4)})
    assert len(built) == 1
    for n in (1, 5, 1):
        made.run(None, {"x": reals(3) if n == 1 else reals(1), "y": reals(n)})
    assert [request.distinct for request in built] == [False, True]


def test_the_model_keeps_its_names() -> None:
    made = session("g (float[s, s] x) => (float[s, s] z) { z = Relu(x) }")
    made.run(None, {"x": reals(2, 3)})
    assert [(i.name, i.shape) for i in (*made.get_inputs(), *made.get_outputs())] == [("x", ["s", "s"]), ("z", ["s", "s"])]


def test_inner_values_traces_and_run_options(tmp_path: Path) -> None:
    options = sardonyx.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "trace")
    made = session(f"g {TWO}{{ a = Neg(x) z = Add(a, y) }}", sess_options=options)
    feeds = {"x": reals(3), "y": reals(1)}
    a, z = made.run(["a", "z"], feeds, sardonyx.RunOptions())
    np.testing.assert_array_equal(a, -feeds["x"])
    np.testing.assert_array_equal(z, -feeds["x"] + feeds["y"])
    assert Path(made.end_profiling()).exists()


def test_a_claim_about_an_inner_value_is_none_about_an_input() -> None:
    """n is said to have the size of y, and is the input of a native part behind one that is none."""
    made = session(
        "g (string[N] x, float[M] y) => (float[K] z, int64[M] n) "
        '{ t, n = StringSplit<delimiter = " ">(x) f = Cast<to = 1>(n) z = Add(f, y) }'
    )
    x = np.array(["a", "b c", "d e f"], object)
    for y in (reals(1), reals(3)):
        z, n = made.run(None, {"x": x, "y": y})
        np.testing.assert_array_equal(n, [1, 2, 3])
        np.testing.assert_allclose(z, np.float32([1, 2, 3]) + y, rtol=1e-6)


def test_both_programs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: list[Request]) -> None:
    cache = Cache(tmp_path)
    monkeypatch.setattr(session_cache, "shared_cache", lambda: cache)
    feeds = {"x": reals(3), "y": reals(1)}
    for _ in range(2):
        made = session(f"g {TWO}{{ z = Add(x, y) }}")
        np.testing.assert_array_equal(made.run(None, feeds)[0], feeds["x"] + feeds["y"])
    assert len(built) == 2


def test_pairs_of_axes() -> None:
    inputs = [
        NodeArg("a", "tensor(float)", ["n", 3, "m"]),
        NodeArg("b", "seq(tensor(float))", []),
        NodeArg("c", "tensor(float)", ["m", None, "n", "n"]),
    ]
    pairs = shared_names(inputs)
    assert pairs == [((0, 2), (2, 0)), ((0, 0), (2, 2)), ((0, 0), (2, 3))]
    assert agree(pairs, [reals(2, 3, 4), [], reals(4, 1, 2, 2)])
    assert not agree(pairs, [reals(2, 3, 4), [], reals(4, 1, 2, 3)])
    assert not agree(pairs, [reals(2, 3, 4), [], reals(5, 1, 2, 2)])


NAMED = """g (float[N, M, 8] x, float[8, 4] w, float[M, 4] c) => (float[a, b, d] z, int64[e, f] k) <int64[2] axes = {1, 2}> {
    u = MatMul(x, w)  v = Add(u, c)  s = Softmax<axis = 1>(v)  n = NonZero(s)  k = Transpose(n)
    t = ReduceSum<keepdims = 1>(s, axes)  r = Mul(s, t)  z = Concat<axis = 1>(r, v) }"""


def named(first: str, second: str) -> sardonyx.InferenceSession:
    """A session whose dimensions have these names."""
    made = onnx.parser.parse_model(HEAD + NAMED)
    for i in made.graph.input:
        for d in i.type.tensor_type.shape.dim:
            d.dim_param = {"N": first, "M": second}.get(d.dim_param, d.dim_param)
    return sardonyx.InferenceSession(made.SerializeToString())


def test_sizes_may_have_the_names_of_the_compilers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name of a symbol without an extent that the compiler makes for this model."""
    found: list[str] = []
    original = Symbol.__new__

    def make(cls: type[Symbol], name: str, extent: Dim | None = None) -> Symbol:
        if extent is None:
            found.append(name)
        return original(cls, name, extent)

    feeds = {"x": reals(3, 5, 8), "w": reals(8, 4), "c": reals(5, 4)}
    monkeypatch.setattr(session_cache, "shared_cache", lambda: Cache.from_environment({"SARDONYX_CACHE": "off"}))
    with monkeypatch.context() as recording:
        recording.setattr(Symbol, "__new__", staticmethod(make))
        expected = named("N", "M").run(None, feeds)
    names = [*dict.fromkeys(found), "once", "b0", '"N"']
    assert "@arena0" in names
    for name in names:
        for sizes in ((name, "M"), ("N", name)):
            for result, wanted in zip(named(*sizes).run(None, feeds), expected, strict=True):
                np.testing.assert_array_equal(result, wanted, err_msg=name)
