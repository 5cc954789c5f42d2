"""`sardonyx profile`: shows where a model's time goes, node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sardonyx.cli.common import (
    Feeds,
    Inputs,
    Json,
    Model,
    Seed,
    Sizes,
    Threads,
    Warmup,
    check_output,
    make_feeds,
    open_session,
    options_for,
    print_json,
    refusals,
    working,
    write_text,
)

ORDERS = ("time", "model")


def profile(
    model: Model,
    seed: Seed = 0,
    size: Sizes = None,
    feeds: Feeds = None,
    inputs: Inputs = None,
    threads: Threads = 0,
    warmup: Warmup = 2,
    iterations: Annotated[int, typer.Option(min=1, help="runs that are measured")] = 10,
    top: Annotated[int, typer.Option(min=0, help="rows of the table; 0 for all")] = 0,
    sort: Annotated[str, typer.Option(help="order of the rows: time, or model for the order of the file")] = "time",
    html: Annotated[Path | None, typer.Option(help="a web page to write, complete in one file")] = None,
    trace: Annotated[Path | None, typer.Option(help="a trace to write for Perfetto, in ONNX Runtime's format")] = None,
    as_json: Json = False,
) -> None:
    """Show the time of each node, its share, its rate as a part of this machine's peak, and what it is fused with."""
    opened: list[Any] = []
    with refusals(opened):
        if sort not in ORDERS:
            raise ValueError(f"there is no order {sort!r}: choose {' or '.join(ORDERS)}")
        check_output(html)
        check_output(trace)
        from sardonyx.inspection.machine_peak import measured_peak
        from sardonyx.inspection.profile import as_record, measure, print_table

        options = options_for(threads)
        session = open_session(model, options)
        opened.append(session)
        chosen = make_feeds(session, feeds, inputs or [], size or [], seed, as_json)
        with working("profiling"):
            found = measure(model, chosen, options, iterations, warmup, trace)
        with working("measuring this machine's peak"):
            peak = measured_peak(threads)
        if html is not None:
            from sardonyx.inspection.profile_page import page_of

            write_text(html, page_of(found, peak))
        if as_json:
            print_json(as_record(found, peak))
            return
        print_table(found, peak, sort == "time", top)
        for path in filter(None, (html, trace)):
            typer.echo(f"written: {path}")
