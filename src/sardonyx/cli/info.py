"""`sardonyx info`: shows what models are compiled for on this machine."""

from __future__ import annotations

import typer

from sardonyx.cli.common import Json, print_json, refusals


def info(as_json: Json = False) -> None:
    """Show the processor that models are compiled for, the threads, and where compiled code is kept."""
    with refusals():
        from sardonyx.inspection.system import facts

        try:
            found = facts()
        except RuntimeError as error:  # a processor that is not known
            raise ValueError(str(error)) from error
        if as_json:
            print_json(found)
            return
        for name, value in found.items():
            typer.echo(f"{name:10} {value}")
