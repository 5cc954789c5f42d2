import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from benchmarks import weightless
from benchmarks.weightless import Generator, draw


@given(st.sampled_from(["normal", "uniform", "fill", "arange"]), st.integers(-1000, 1000), st.integers(1, 1000))
def test_generator_survives_its_text(kind: str, a: int, b: int) -> None:
    generator = Generator(kind, a / 8, b / 8)
    assert Generator.parse(str(generator)) == generator


def test_streams_depend_on_the_name_alone() -> None:
    generator = Generator("normal", 0.0, 1.0)
    first = draw(generator, "a", (3, 4), np.dtype(np.float32))
    np.testing.assert_array_equal(first, draw(generator, "a", (3, 4), np.dtype(np.float32)))
    assert not np.array_equal(first, draw(generator, "b", (3, 4), np.dtype(np.float32)))


def test_random_kinds_have_the_stated_moments() -> None:
    normal = draw(Generator("normal", 2.0, 0.5), "n", (100_000,), np.dtype(np.float32))
    assert normal.mean() == pytest.approx(2.0, abs=0.01)
    assert normal.std() == pytest.approx(0.5, abs=0.01)
    uniform = draw(Generator("uniform", 0.5, 1.5), "u", (100_000,), np.dtype(np.float32))
    assert uniform.min() >= 0.5
    assert uniform.max() <= 1.5
    assert uniform.mean() == pytest.approx(1.0, abs=0.01)


def test_exact_kinds() -> None:
    np.testing.assert_array_equal(draw(Generator("fill", 7), "f", (2, 2), np.dtype(np.int64)), np.full((2, 2), 7))
    counted = draw(Generator("arange", 3, 2), "r", (2, 3), np.dtype(np.int64))
    np.testing.assert_array_equal(counted, [[3, 5, 7], [9, 11, 13]])


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'w': unknown generator 'zipf'"):
        draw(Generator("zipf", 1), "w", (2,), np.dtype(np.float32))


def test_only_linear_kinds_scale() -> None:
    assert Generator("uniform", -1.0, 3.0).scaled(2.0) == Generator("uniform", -2.0, 6.0)
    with pytest.raises(ValueError, match="fill"):
        Generator("fill", 1.0).scaled(2.0)


def _model() -> onnx.ModelProto:
    """y = x + initializer + constant."""
    constant = numpy_helper.from_array(np.ones(4, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["c"], value=constant),
        helper.make_node("Add", ["x", "w"], ["s"]),
        helper.make_node("Add", ["s", "c"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(np.ones(4, np.float32), "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_records_replace_data_and_fill_draws_them(tmp_path: pytest.TempPathFactory) -> None:
    model = _model()
    for tensor in weightless.tensors(model.graph):
        weightless.set_record(tensor, Generator("normal", 0.0, 1.0))
        assert not tensor.raw_data
    path = tmp_path / "folder" / "model.onnx.xz"
    weightless.write(model, path)
    stored = weightless.read(path)
    assert [str(weightless.record(tensor)) for tensor in weightless.tensors(stored.graph)] == ["normal 0 1"] * 2
    weightless.fill(stored)
    drawn = {tensor.name: numpy_helper.to_array(tensor) for tensor in weightless.tensors(stored.graph)}
    assert set(drawn) == {"w", "c"}, "a constant's tensor is named after the output of its node"
    np.testing.assert_array_equal(drawn["w"], draw(Generator("normal", 0, 1), "w", (4,), np.dtype(np.float32)))
    assert not np.array_equal(drawn["w"], drawn["c"])
    onnx.checker.check_model(stored, full_check=True)
