"""`sardonyx compile`: compiles a model into the cache, so that later sessions start at once."""

from __future__ import annotations

import time

import typer

from sardonyx.cli.common import Json, Level, Model, Threads, open_session, options_for, print_json, refusals, size_text


def compile_model(model: Model, level: Level = "all", threads: Threads = 0, as_json: Json = False) -> None:
    """Compile a model and keep the code on disk: later sessions with the same options load it instead of compiling."""
    with refusals():
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
