"""Providers by name. What a session does with them is in tests/session/test_pipeline.py."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sardonyx as sx
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.providers import registry
from sardonyx.providers.base import ExecutionProvider
from sardonyx.providers.cpu import CPUExecutionProvider
from sardonyx.providers.reference import ReferenceExecutionProvider
from tests.session.models import relu


def test_each_name_has_its_provider() -> None:
    assert isinstance(registry.create(registry.CPU, {}), CPUExecutionProvider)
    assert isinstance(registry.create(registry.REFERENCE, {}), ReferenceExecutionProvider)
    assert registry.create(registry.CPU, {"a": "b"}).options == {"a": "b"}
    assert [registry.create(name, {}).name for name in registry.names()] == registry.names()
    with pytest.raises(KeyError):
        registry.create("Nobody", {})


WITHOUT = """
import sys
sys.modules[{module!r}] = None
import onnx, sardonyx as sx
model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) {{ y = Relu(x) }}')
try:
    sx.InferenceSession(model.SerializeToString())
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("module", ["llvmlite", "llvmlite.binding", "sardonyx.codegen.emit"])
def test_without_the_compiler_there_is_no_session(module: str, tmp_path) -> None:
    """Nothing stands in for it without a word."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(module=module)],
        env={"PYTHONPATH": ":".join(sys.path), "SARDONYX_CACHE": "off"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Fail [ONNXRuntimeError] : 1 : FAIL : CPUExecutionProvider cannot be imported"), done.stdout
    assert module in done.stdout


class Toy(ExecutionProvider):
    """A provider that claims nothing. It takes one option, and has a default for it."""

    name = "ToyExecutionProvider"

    def __init__(self, options: Any = None) -> None:
        super().__init__({"size": "1", **(options or {})})
        for key in self.options:
            if key != "size":
                raise InvalidArgument(f"{self.name} has no option {key}")

    def get_capability(self, graph: Any, nodes: Any, options: Any) -> list[Any]:
        return []

    def compile(self, graph: Any, options: Any) -> Any:
        raise AssertionError("it has claimed nothing")


@pytest.fixture
def toy() -> Iterator[str]:
    sx.register_execution_provider(Toy.name, Toy)
    yield Toy.name
    sx.unregister_execution_provider(Toy.name)


def test_a_registered_provider_is_listed_and_gone_when_it_is_removed(toy: str) -> None:
    assert sx.get_available_providers()[:2] == [registry.CPU, registry.REFERENCE]
    assert sx.get_available_providers().count(toy) == sx.get_all_providers().count(toy) == 1
    sx.register_execution_provider(toy, Toy)  # once more is no mistake
    sx.unregister_execution_provider(toy)
    assert toy not in sx.get_available_providers()
    with pytest.warns(UserWarning, match=toy), pytest.raises(InvalidArgument, match=f"None of the providers .* is here: {toy}"):
        sx.InferenceSession(relu(), providers=[toy])
    sx.register_execution_provider(toy, Toy)


def test_options_are_completed_and_given_back(toy: str) -> None:
    """Given in the call, or in config entries with the provider's name; the call counts more."""
    assert sx.InferenceSession(relu(), providers=[toy]).get_provider_options() == {toy: {"size": "1"}, registry.CPU: {}}
    options = sx.SessionOptions()
    options.add_session_config_entry("ep.toyexecutionprovider.size", "5")
    for given, size in ((toy, "5"), ((toy, {"size": 7}), "7")):
        session = pickle.loads(pickle.dumps(sx.InferenceSession(relu(), options, [given])))
        assert session.get_provider_options()[toy] == {"size": size}
    with pytest.raises(InvalidArgument, match="ToyExecutionProvider has no option colour"):
        sx.InferenceSession(relu(), providers=[(toy, {"colour": "red"})])


@pytest.mark.parametrize(
    ("name", "factory", "kind", "text"),
    [
        (registry.CPU, Toy, InvalidArgument, "There is a provider CPUExecutionProvider already"),
        (7, Toy, TypeError, "a provider's name must be a text, not 7"),
        ("", Toy, TypeError, "a provider's name must be a text"),
        ("Other", "Toy", TypeError, "a provider's factory must be callable, not a str"),
    ],
)
def test_registrations_that_are_refused(name: Any, factory: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        sx.register_execution_provider(name, factory)
    assert len(sx.get_available_providers()) == len(set(sx.get_available_providers()))


@pytest.mark.parametrize("name", [registry.CPU, "Nobody"])
def test_what_was_not_registered_cannot_be_removed(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"Execution provider {name} was not registered"):
        sx.unregister_execution_provider(name)
    assert registry.CPU in sx.get_available_providers()


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        (lambda options: object(), "the factory of Wrong returned a object, which is no ExecutionProvider"),
        (lambda options: 1 // 0, r"Wrong can't be made with the options \{'a': 'b'\}: ZeroDivisionError"),
    ],
)
def test_factories_that_fail(factory: Any, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.FACTORIES, "Wrong", factory)
    with pytest.raises(Fail, match=text):
        sx.InferenceSession(relu(), providers=[("Wrong", {"a": "b"})])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with three providers: one is there, one cannot be imported, one is no provider's factory."""
    folder = tmp_path / "toys-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    lines = ("Packaged = tests.providers.test_registry:Toy", "Absent = no_such_module:Toy", "Odd = sys:path")
    (folder / "entry_points.txt").write_text("\n".join((f"[{registry.GROUP}]", *lines)))
    monkeypatch.syspath_prepend(tmp_path)
    registry.discovered.cache_clear()
    yield
    registry.discovered.cache_clear()


@pytest.mark.usefixtures("package")
def test_providers_of_installed_packages() -> None:
    assert sx.get_available_providers()[-3:] == ["Packaged", "Absent", "Odd"]
    assert sx.InferenceSession(relu(), providers=["Packaged"]).get_providers() == ["Packaged", registry.CPU]
    with pytest.raises(Fail, match="Absent of the package toys cannot be imported .no_such_module:Toy.: ModuleNotFoundError"):
        sx.InferenceSession(relu(), providers=["Absent", registry.CPU])
    with pytest.raises(Fail, match="sys:path is no factory of Odd, but a list"):
        sx.InferenceSession(relu(), providers=["Odd"])


def test_packages_are_not_searched_for_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be a part of each process's start."""
    monkeypatch.setattr(registry, "discovered", lambda: pytest.fail("searched"))
    sx.InferenceSession(relu(), providers=[registry.CPU])
