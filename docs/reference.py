"""The API reference as a page of Markdown, from the docstrings: a hook of mkdocs, and `python docs/reference.py` prints the page."""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import sardonyx
from sardonyx.base.errors import SardonyxError

PAGE = "reference.md"
ERRORS = "sardonyx.capi.onnxruntime_pybind11_state"
EXCEPTIONS = f"`{ERRORS}` has the exceptions, as ONNX Runtime has them. Their text begins with their code.\n"
MODULES = ("sardonyx.dropin", "sardonyx.backend", "sardonyx.datasets")
HEAD = "# API reference\n\nThe public names of `sardonyx`, from their docstrings. `import sardonyx as sx` gives them all.\n"


def page() -> str:
    """The reference of all public names: classes first, then enumerations, then functions."""
    found = {name: getattr(sardonyx, name) for name in sorted(sardonyx.__all__) if not name.startswith("_")}
    enums = {name: value for name, value in found.items() if is_enum(value)}
    classes = {name: value for name, value in found.items() if inspect.isclass(value) and name not in enums}
    functions = {name: value for name, value in found.items() if inspect.isroutine(value)}
    parts = [HEAD]
    parts += ["## Classes\n", *(text for name, kind in classes.items() for text in of_class(name, kind))]
    parts += ["## Enumerations\n", *(text for name, kind in enums.items() for text in of_enum(name, kind))]
    parts += ["## Exceptions\n", EXCEPTIONS, *(f"- `{kind.__name__}`: code {kind.code}, {kind.label}" for kind in exceptions()), ""]
    parts += ["## Functions\n", *(text for name, function in functions.items() for text in of_function(name, function, "###"))]
    for name in MODULES:
        module = importlib.import_module(name)
        parts += [f"## {name}\n", prose(module)]
        for member in getattr(module, "__all__", [n for n, v in vars(module).items() if getattr(v, "__module__", "") == name]):
            value = getattr(module, member)
            if inspect.isclass(value):
                parts += of_class(member, value)
            elif inspect.isroutine(value):
                parts += of_function(f"{name}.{member}", value, "###")
    return "\n".join(parts)


def exceptions() -> list[type[SardonyxError]]:
    """The exceptions, in the order of their codes."""
    module = importlib.import_module(ERRORS)
    found = [getattr(module, name) for name in module.__all__]
    return sorted((kind for kind in found if inspect.isclass(kind) and issubclass(kind, SardonyxError)), key=lambda kind: kind.code)


def is_enum(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, enum.Enum)


def of_class(name: str, kind: type) -> Iterator[str]:
    """A class: how it is made, its docstring, then its public methods and properties."""
    yield f"### {name}\n\n{code(name, kind)}\n{prose(kind)}"
    for member, value in sorted(inspect.getmembers_static(kind)):
        if member.startswith("_") or getattr(object, member, None) is value:
            continue
        if isinstance(value, property):
            yield f"#### {name}.{member}\n\n{prose(value)}"
        elif inspect.isroutine(inspect.unwrap(getattr(kind, member))) or isinstance(value, classmethod | staticmethod):
            yield from of_function(f"{name}.{member}", getattr(kind, member), "####")


def of_enum(name: str, kind: type[enum.Enum]) -> Iterator[str]:
    """An enumeration: its members and their numbers."""
    members = "\n".join(f"- `{member.name}` = {member.value}" for member in kind)
    yield f"### {name}\n\n{prose(kind)}\n{members}\n"


def of_function(name: str, function: Any, heading: str) -> Iterator[str]:
    """A function: its signature and docstring."""
    yield f"{heading} {name}\n\n{code(name, function)}\n{prose(function)}"


def code(name: str, value: Any) -> str:
    """The signature, as far as there is one."""
    try:
        signature = str(inspect.signature(value))
    except (TypeError, ValueError):
        return ""
    signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", re.sub(r"^[(]self(, )?", "(", signature))
    return f"```\n{name}{signature}\n```\n"


def prose(value: Any) -> str:
    """The docstring, with what Markdown would take for tags or stress written as text; indented lines stay code."""
    lines = (inspect.getdoc(value) or "").splitlines()
    return "\n".join(line if line.startswith("    ") else as_text(line) for line in lines) + "\n"


def as_text(line: str) -> str:
    """Escape stars and angle brackets, except in code between backquotes."""
    parts = line.split("`")
    return "`".join(part if at % 2 else re.sub(r"([<*])", r"\\\1", part) for at, part in enumerate(parts))


def on_files(files: Any, config: Any) -> Any:
    """Add the page to the site (a hook of mkdocs)."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=page()))
    return files


if __name__ == "__main__":
    print(page())
