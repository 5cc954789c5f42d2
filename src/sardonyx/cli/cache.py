"""`sardonyx cache`: lists what is kept on disk, or deletes it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import typer

from sardonyx.cli.common import Json, print_json, refusals, size_text

if TYPE_CHECKING:
    from sardonyx.runtime.cache import Cache

app = typer.Typer(help="Show or delete the compiled code that is kept on disk.", no_args_is_help=True)


def opened() -> tuple[Cache, str]:
    """Return the cache and its folder. Raises ValueError, with the reason, if nothing is kept."""
    from sardonyx.runtime.cache import Cache

    cache = Cache.from_environment()
    if cache.folder is None:
        raise ValueError(f"nothing is kept on disk: {cache.problem}")
    return cache, cache.folder


@app.command("list")
def list_entries(as_json: Json = False) -> None:
    """Show how many entries of each kind there are, their size, and when they were last used."""
    with refusals():
        cache, folder = opened()
        kinds: dict[str, list[tuple[int, int]]] = {}
        for name, size, used in cache.entries():
            kinds.setdefault(name.partition("-")[0], []).append((size, used))
        found = [
            {
                "kind": kind,
                "entries": len(entries),
                "bytes": sum(size for size, _ in entries),
                "last_used": datetime.fromtimestamp(max(used for _, used in entries) / 1e9).isoformat(timespec="seconds"),
            }
            for kind, entries in sorted(kinds.items())
        ]
        if as_json:
            print_json({"folder": folder, "capacity": cache.capacity, "kinds": found})
            return
        typer.echo(f"{folder}: {size_text(sum(int(str(row['bytes'])) for row in found))} of {size_text(cache.capacity)}")
        for row in found:
            typer.echo(f"{row['kind']:12} {row['entries']:>6} entries {size_text(int(str(row['bytes']))):>10}   {row['last_used']}")


@app.command()
def clear(as_json: Json = False) -> None:
    """Delete all entries. Sessions that are open keep what they have; others compile again."""
    with refusals():
        cache, folder = opened()
        count, size = cache.clear()
        if as_json:
            print_json({"folder": folder, "deleted": count, "bytes": size})
        else:
            typer.echo(f"deleted {count} entries, {size_text(size)}, from {folder}")
