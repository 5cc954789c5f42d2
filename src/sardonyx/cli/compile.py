"""`sardonyx compile`: compiles a model into the cache, so that later sessions start at once, or to a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sardonyx.cli.common import (
    Json,
    Level,
    Model,
    Threads,
    check_output,
    open_session,
    options_for,
    print_json,
    refusals,
    size_text,
    working,
)

Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="write machine code and weights to this .sdx file, and nothing to the cache")
]
Target = Annotated[
    str,
    typer.Option(help="the processor that a file is for: host, avx512, avx2 or sse2 (x86-64), neon (aarch64)", show_default="host"),
]


def compile_model(
    model: Model, level: Level = "all", threads: Threads = 0, output: Output = None, target: Target = "", as_json: Json = False
) -> None:
    """Compile a model and keep the code on disk: later sessions with the same options load it instead of compiling.

    With -o it is written to one file, which sessions open without the model and without the compiler.
    """
    with refusals():
        if output is None:
            if target:
                raise ValueError("--target needs -o FILE: the cache holds code for this processor")
            into_cache(model, level, threads, as_json)
        else:
            to_file(model, level, output, target, as_json)


def into_cache(model: Path, level: str, threads: int, as_json: bool) -> None:
    """Compile a model into the cache, and print what was added."""
    from sardonyx.runtime.cache import shared_cache

    cache = shared_cache()
    if cache.folder is None:
        raise ValueError(f"compiled code can't be kept: {cache.problem}")
    before = {name for name, _, _ in cache.entries()}
    start = time.perf_counter()
    open_session(model, options_for(threads, level)).close()
    taken = time.perf_counter() - start
    added = [size for name, size, _ in cache.entries() if name not in before]
    if not added and cache.problem:
        raise OSError(f"compiled code could not be kept: {cache.problem}")
    if as_json:
        print_json({"seconds": taken, "entries": len(added), "bytes": sum(added), "folder": cache.folder})
    elif added:
        typer.echo(f"compiled in {taken:.2f} s; {len(added)} new entries, {size_text(sum(added))}, in {cache.folder}")
    else:
        typer.echo(f"was compiled before: the session loads in {taken:.2f} s from {cache.folder}")


def to_file(model: Path, level: str, output: Path, target: str, as_json: bool) -> None:
    """Write a compiled file, and print its size."""
    from sardonyx.base.model_format import COMPILED_ENDING
    from sardonyx.session.model_compiler import ModelCompiler
    from sardonyx.session.options import CACHE_OFF, TARGET

    check_output(output)
    if output.suffix != COMPILED_ENDING:
        raise ValueError(f"a compiled file's name ends in {COMPILED_ENDING}, unlike {output.name}")
    options = options_for(0, level)
    options.add_session_config_entry(CACHE_OFF, "1")
    if target:
        options.add_session_config_entry(TARGET, target)
    start = time.perf_counter()
    with working(f"compiling {model.name}"):
        ModelCompiler(options, model).compile_to_file(output)
    taken, size = time.perf_counter() - start, output.stat().st_size
    if as_json:
        print_json({"seconds": taken, "bytes": size, "file": output})
    else:
        typer.echo(f"compiled in {taken:.2f} s to {output}, {size_text(size)}")
