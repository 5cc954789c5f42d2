from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sardonyx.inspection.feeds import load_feeds, parse_sizes, random_feeds, symbolic_sizes
from sardonyx.session.metadata import NodeArg

X = NodeArg("x", "tensor(float)", ["batch", 3, "length", None])


def test_symbolic_sizes_differ_from_each_other() -> None:
    assert symbolic_sizes([X], {}) == {"batch": 2, "length": 3, "x:3": 4}


def test_given_sizes_are_kept() -> None:
    assert symbolic_sizes([X], {"length": 9, "x:3": 1}) == {"length": 9, "x:3": 1, "batch": 2}


def test_sizes_that_are_expressions_follow() -> None:
    mask = NodeArg("mask", "tensor(int64)", ["batch", "past + 2*length", "past//0"])
    past = NodeArg("past", "tensor(float)", ["past"])
    sizes = symbolic_sizes([X, mask, past], {"past": 10})
    assert sizes["past + 2*length"] == 10 + 2 * sizes["length"]
    assert sizes["past//0"] > 0


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match="no input has a symbolic size 'width'; there are 'batch', 'length'"):
        symbolic_sizes([X], {"width": 1})


@pytest.mark.parametrize("text", ["batch", "=3", "batch=", "batch=-1", "batch=x"])
def test_malformed_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="name=number"):
        parse_sizes([text])


def test_sizes_are_parsed() -> None:
    assert parse_sizes(["batch=3", "x:1=4", "a=b=5"]) == {"batch": 3, "x:1": 4, "a=b": 5}


@pytest.mark.parametrize(
    "kind", ["float", "double", "float16", "bfloat16", "float8e4m3fn", "int8", "uint4", "int64", "bool", "complex64", "string"]
)
def test_feeds_have_their_dtype_and_vary(kind: str) -> None:
    (feed,) = random_feeds([NodeArg("x", f"tensor({kind})", [40])], {}, 0).values()
    assert feed.shape == (40,)
    assert feed.dtype.name.startswith({"double": "float64", "string": "object", "float8e4m3fn": "float8_e4m3fn"}.get(kind, kind))
    assert len(set(feed.tolist())) > 1


def test_feeds_follow_the_seed_and_the_name_alone() -> None:
    sizes = symbolic_sizes([X], {})
    other = NodeArg("y", "tensor(float)", [3])
    first = random_feeds([X], sizes, 1)["x"]
    assert np.array_equal(first, random_feeds([other, X], sizes, 1)["x"])
    assert not np.array_equal(first, random_feeds([X], sizes, 2)["x"])


def test_sequences_and_optionals() -> None:
    feeds = random_feeds([NodeArg("s", "seq(tensor(float))", []), NodeArg("o", "optional(seq(tensor(int64)))", [])], {}, 0)
    assert [e.dtype for e in feeds["s"]] == [np.float32, np.float32]
    assert [e.dtype for e in feeds["o"]] == [np.int64, np.int64]


def test_maps_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'m' of type map"):
        random_feeds([NodeArg("m", "map(int64,tensor(float))", [])], {}, 0)


def test_feeds_from_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "feeds.npz", x=np.arange(3))
    assert load_feeds(tmp_path / "feeds.npz")["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04garbage"])
def test_a_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "feeds.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"feeds\.npz is not an \.npz file"):
        load_feeds(path)


def test_a_file_of_one_array(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.arange(3))
    with pytest.raises(ValueError, match="instead of named arrays"):
        load_feeds(tmp_path / "one.npy")
