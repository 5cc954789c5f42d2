"""Models without their large tensors: together they are what protobuf reads, whatever the bytes."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError

from sardonyx.base.background import Background
from sardonyx.base.errors import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf
from sardonyx.graph import initializer_reader
from sardonyx.graph.initializer_reader import File, Memory, Source, split_large_tensors
from sardonyx.graph.load import LoadOptions, load

ERRORS = (InvalidProtobuf, InvalidArgument, Fail, InvalidGraph)


def model(*tensors: onnx.TensorProto) -> onnx.ModelProto:
    """y is the first tensor."""
    node = onnx.helper.make_node("Identity", [tensors[0].name], ["y"])
    y = onnx.helper.make_tensor_value_info("y", tensors[0].data_type, list(tensors[0].dims))
    return onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [y], list(tensors)))


def tensor(name: str, count: int, dtype: type = np.float32) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.arange(count).astype(dtype), name)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight bytes are large, and a file is read four at a time."""
    monkeypatch.setattr(initializer_reader, "LARGE", 8)
    monkeypatch.setattr(initializer_reader, "CHUNK", 4)


def sources(data: bytes, folder: Path) -> list[Source]:
    path = folder / "model.onnx"
    path.write_bytes(data)
    with open(path, "rb") as file:
        return [Memory(data), File(file.fileno(), len(data))]


def put_back(source: Source) -> onnx.ModelProto:
    """What protobuf makes of the rest, with the tensors in it."""
    split = split_large_tensors(source)
    proto = onnx.ModelProto()
    proto.ParseFromString(split.model)
    for number, piece in split.tensors.items():
        assert piece.read().size == piece.size
        proto.graph.initializer[number].raw_data = piece.read().tobytes()
    return proto


@pytest.mark.usefixtures("small")
def test_rest_and_tensors_are_the_model(tmp_path: Path):
    whole = model(tensor("a", 4), tensor("b", 1), tensor("c", 9, np.int64), tensor("d", 5, np.bool_))
    for source in sources(whole.SerializeToString(), tmp_path):
        assert split_large_tensors(source).tensors.keys() == {0, 2}
        assert put_back(source) == whole


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("change", ["cut", "flip"])
def test_no_bytes_read_otherwise_than_by_protobuf(change: str):
    data = model(tensor("a", 4), tensor("b", 1), tensor("c", 9, np.int64)).SerializeToString()
    for at in range(len(data)):
        changed = data[:at] if change == "cut" else data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        expected = onnx.ModelProto()
        try:
            expected.ParseFromString(changed)
        except DecodeError:
            with pytest.raises(DecodeError):
                put_back(Memory(changed))
            continue
        assert put_back(Memory(changed)) == expected


@pytest.mark.usefixtures("small")
def test_no_changed_byte_crashes_loading():
    data = model(tensor("a", 4)).SerializeToString()
    for at in range(len(data)):
        for mask in (0xFF, 0x01, 0x80):
            changed = bytearray(data)
            changed[at] ^= mask
            try:
                load(bytes(changed))
            except ERRORS:
                continue


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("twice", ["graph", "raw_data"])
def test_what_stands_twice_is_left_to_protobuf(twice: str):
    data = model(tensor("a", 4)).SerializeToString()
    if twice == "graph":
        data += model(tensor("b", 4)).SerializeToString()
    else:
        inner = tensor("a", 4).SerializeToString() + onnx.TensorProto(raw_data=bytes(16)).SerializeToString()
        graph = b"\x2a" + bytes([len(inner)]) + inner
        data = b"\x3a" + bytes([len(graph)]) + graph
    assert split_large_tensors(Memory(data)).tensors == {}
    assert split_large_tensors(Memory(data)).model == data


def test_large_weights_arrive(tmp_path: Path):
    numbers = np.random.default_rng(0).standard_normal(50_001).astype(np.float32)
    path = tmp_path / "model.onnx"
    onnx.save(model(onnx.numpy_helper.from_array(numbers, "w"), tensor("pad", 3, np.int8)), path)
    for source in (path, path.read_bytes()):
        found = load(source).graph.initializers["w"].const_value
        assert found is not None
        np.testing.assert_array_equal(found.numpy(), numbers)
        assert found.numpy().ctypes.data % 64 == 0


@pytest.mark.parametrize("dtype", [np.bool_, np.float16, np.float64, np.uint8, np.complex64])
def test_every_dtype(dtype: type):
    numbers = (np.arange(70_000) % 100).astype(dtype)
    whole = model(onnx.numpy_helper.from_array(numbers, "w"))
    found = load(whole.SerializeToString()).graph.initializers["w"].const_value
    assert found is not None
    np.testing.assert_array_equal(found.numpy(), numbers)


def test_a_size_that_does_not_fit_is_named():
    wrong = tensor("w", 70_000)
    wrong.dims[0] = 70_001
    with pytest.raises(InvalidGraph, match="'w'.* has 280000 bytes of data, not 280004"):
        load(model(wrong).SerializeToString())


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path):
    path = tmp_path / "model.onnx"
    onnx.save(model(tensor("w", 70_000)), path)
    go_on = threading.Event()
    with Background("read") as reader:
        reader.submit(lambda: go_on.wait(10))
        loaded = load(path, LoadOptions(reader=reader))
        with open(path, "r+b") as file:
            file.truncate(1000)
        go_on.set()
        found = loaded.graph.initializers["w"].const_value
        assert found is not None
        with pytest.raises(Fail, match="Initializer 'w' cannot be read: the file ended after"):
            found.numpy()


def test_many_small_fields_are_left_to_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initializer_reader, "MOST_FIELDS", 10)
    data = b"\x08\x01" * 11
    assert split_large_tensors(Memory(data)).model == data


def test_a_file_larger_than_protobuf_takes_is_not_read(tmp_path: Path) -> None:
    """Its blocks are not even there."""
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Fail, match=r"Load model from .*large.onnx failed:a model of 1099511627776 bytes is too large for protobuf"):
        load(path)
