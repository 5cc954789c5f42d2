"""Options of sessions and runs: onnxruntime's names, defaults and errors, and what the compiler is told."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import onnxruntime as ort
import pytest

import sardonyx as sx
from sardonyx.base.options import CompileOptions
from sardonyx.session.options import Option, compile_options, entry, is_set

SESSION = [name for name, value in vars(sx.SessionOptions).items() if isinstance(value, Option)]
RUN = [name for name, value in vars(sx.RunOptions).items() if isinstance(value, Option)]


@pytest.mark.parametrize("name", SESSION)
def test_defaults_are_onnxruntimes(name: str) -> None:
    mine, theirs = getattr(sx.SessionOptions(), name), getattr(ort.SessionOptions(), name)
    assert type(theirs)(mine) == theirs


@pytest.mark.parametrize("name", RUN)
def test_defaults_of_runs_are_onnxruntimes(name: str) -> None:
    assert getattr(sx.RunOptions(), name) == getattr(ort.RunOptions(), name)


def test_every_attribute_of_onnxruntimes_options_is_there() -> None:
    for mine, theirs in ((sx.SessionOptions, ort.SessionOptions), (sx.RunOptions, ort.RunOptions)):
        settable = {n for n, v in vars(theirs).items() if isinstance(v, property)}
        assert settable <= set(dir(mine)), settable - set(dir(mine))


@pytest.mark.parametrize("made", [sx.SessionOptions, ort.SessionOptions])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("intra_op_num_threads", "2"),
        ("intra_op_num_threads", 1.5),
        ("enable_profiling", "yes"),
        ("logid", 3),
        ("graph_optimization_level", 1),
    ],
)
def test_values_of_another_type_are_refused_as_onnxruntime_does(made: type, name: str, value: Any) -> None:
    with pytest.raises(TypeError):
        setattr(made(), name, value)


def test_an_option_that_was_refused_keeps_its_value() -> None:
    options = sx.SessionOptions()
    options.intra_op_num_threads = 3
    with pytest.raises(TypeError, match="intra_op_num_threads must be of type int, not str"):
        options.intra_op_num_threads = "4"  # type: ignore[assignment]
    assert options.intra_op_num_threads == 3


def test_unknown_attributes_are_refused() -> None:
    """A misspelt option that is silently kept helps nobody."""
    with pytest.raises(AttributeError):
        sx.SessionOptions().intra_op_threads = 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("made", [sx.SessionOptions, ort.SessionOptions])
def test_config_entries(made: Any) -> None:
    options = made()
    with pytest.raises(RuntimeError, match="does not have configuration with key: a"):
        options.get_session_config_entry("a")
    options.add_session_config_entry("a", "1")
    options.add_session_config_entry("a", "2")
    assert options.get_session_config_entry("a") == "2"
    with pytest.raises(RuntimeError, match="Config key is empty or longer than maximum length"):
        options.add_session_config_entry("", "1")
    with pytest.raises(TypeError):
        options.add_session_config_entry("a", 1)


@pytest.mark.parametrize("made", [sx.RunOptions, ort.RunOptions])
def test_config_entries_of_runs(made: Any) -> None:
    options = made()
    options.add_run_config_entry("a", "1")
    assert options.get_run_config_entry("a") == "1"
    with pytest.raises(RuntimeError):
        options.get_run_config_entry("b")


def test_options_are_copied_and_pickled_whole() -> None:
    options = sx.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.target", "sse2")
    options.add_free_dimension_override_by_name("n", 4)
    for other in (copy.copy(options), copy.deepcopy(options), pickle.loads(pickle.dumps(options))):
        assert other.intra_op_num_threads == 2
        assert other.get_session_config_entry("session.target") == "sse2"
        assert other._dimensions == {"n": 4}


def test_two_options_share_nothing() -> None:
    one, other = sx.SessionOptions(), sx.SessionOptions()
    one.enable_profiling = True
    one.add_session_config_entry("a", "1")
    assert other.enable_profiling is False
    assert entry(other, "a", "none") == "none"


@pytest.mark.parametrize(
    ("key", "text", "field", "expected"),
    [
        ("session.target", "avx2", "target", "avx2"),
        ("session.disable_winograd", "1", "winograd", False),
        ("session.disable_winograd", "0", "winograd", True),
        ("session.disable_quant_qdq", "1", "integer_sums", False),
        ("session.set_denormal_as_zero", "1", "flush_denormals", True),
        ("session.intra_op.allow_spinning", "0", "spin", False),
        ("session.disable_cache", "1", "cache", False),
        ("optimization.disable_specified_optimizers", "A; B;;", "disabled", frozenset({"A", "B", "given"})),
        ("session.unknown", "1", "level", 99),
    ],
)
def test_what_the_compiler_is_told(key: str, text: str, field: str, expected: object) -> None:
    options = sx.SessionOptions()
    options.add_session_config_entry(key, text)
    assert getattr(compile_options(options, frozenset({"given"})), field) == expected


def test_the_compiler_is_told_attributes_too() -> None:
    options = sx.SessionOptions()
    assert compile_options(options, frozenset()) == CompileOptions()
    options.graph_optimization_level = sx.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = -1
    told = compile_options(options, frozenset())
    assert (told.level, told.threads) == (1, 0)


def test_an_entry_is_set_by_1_alone() -> None:
    options = sx.SessionOptions()
    for text, on in (("1", True), ("0", False), ("true", False), ("", False)):
        options.add_session_config_entry("k", text)
        assert is_set(options, "k") is on
