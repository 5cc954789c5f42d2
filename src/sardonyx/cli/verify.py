"""`sardonyx verify`: compares compiled code with the reference value by value, or with another runtime output by output."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sardonyx.cli.common import (
    DIFFERS,
    LEVEL_NAMES,
    Feeds,
    Inputs,
    Json,
    Model,
    Seed,
    Sizes,
    counted,
    level_named,
    make_feeds,
    open_session,
    options_for,
    print_json,
    refusals,
    refuse,
)

if TYPE_CHECKING:
    from sardonyx.inspection.compare import Deviation
    from sardonyx.inspection.verify import Difference, LevelResult
    from sardonyx.session.enums import GraphOptimizationLevel

OTHERS = ("onnxruntime",)


def verify(
    model: Model,
    seed: Seed = 0,
    size: Sizes = None,
    feeds: Feeds = None,
    inputs: Inputs = None,
    tolerance: Annotated[float, typer.Option(min=0, help="largest error, as a part of a value's largest number")] = 1e-4,
    level: Annotated[
        list[str] | None, typer.Option(help=f"optimisation level: {', '.join(LEVEL_NAMES)}; all five by default")
    ] = None,
    against: Annotated[str, typer.Option(help="onnxruntime: compare the outputs with its outputs instead")] = "",
    as_json: Json = False,
) -> None:
    """Compare the compiled model with the reference, value by value, and name the first that differs."""
    with refusals():
        levels = [level_named(name) for name in level or LEVEL_NAMES]
        chosen = chosen_feeds(model, feeds, inputs or [], size or [], seed, as_json)
        agrees = (
            verify_outputs(model, chosen, tolerance, levels, against, as_json)
            if against
            else verify_values(model, chosen, tolerance, levels, as_json)
        )
    if not agrees:
        raise typer.Exit(DIFFERS)


def chosen_feeds(model: Path, feeds: Path | None, inputs: list[str], sizes: list[str], seed: int, quiet: bool) -> dict[str, Any]:
    """Return the feeds of the comparison, for inputs that the model declares."""
    from sardonyx.providers import registry
    from sardonyx.session.inference_session import InferenceSession

    session = InferenceSession(model, options_for(level="disabled"), [registry.REFERENCE])
    try:
        return make_feeds(session, feeds, inputs, sizes, seed, quiet)
    finally:
        session.close()


# ---- against the reference ----------------------------------------------------------------------------------------------------


def verify_values(
    model: Path, feeds: dict[str, Any], tolerance: float, levels: list[GraphOptimizationLevel], as_json: bool
) -> bool:
    """Compare all values with the reference at each level and print the results. -> whether all agree"""
    from sardonyx.base.errors import SardonyxError
    from sardonyx.inspection.verify import Verification

    try:
        verification = Verification(model, feeds, tolerance)
    except SardonyxError as error:
        refuse(f"the reference can't run the model on these inputs (other sizes: --size, other inputs: --feeds): {error.detail}")
    agrees, records = True, []
    for level in counted(levels, "comparing"):
        found = verification.check(level)
        agrees = agrees and found.is_agreement
        if as_json:
            records.append(record_of(found))
        else:
            show_result(found)
    if as_json:
        print_json({"agrees": agrees, "levels": records})
    return agrees


def name_of(level: GraphOptimizationLevel) -> str:
    """Return the name of a level."""
    return next(name for name in LEVEL_NAMES if level_named(name) is level)


def record_of(found: LevelResult) -> dict[str, Any]:
    """Return the result at one level as JSON shows it."""
    record: dict[str, Any] = {"level": name_of(found.level), "agrees": found.is_agreement, "compared": found.compared}
    record |= {
        "random": found.random,
        "interpreted": found.interpreted,
        "worst_value": found.worst[0],
        "worst_error": found.worst[1],
    }
    if found.error:
        record["error"] = found.error
    if found.difference is not None:
        origin = found.difference.origin
        record["difference"] = {"value": found.difference.value, "operator": origin.operator, "node": origin.node}
    return record


def show_result(found: LevelResult) -> None:
    """Print the result of the verification at one level."""
    name = name_of(found.level)
    if found.error:
        typer.secho(f"{name:9} failed: {found.error}", fg=typer.colors.RED)
    elif found.difference is not None:
        typer.secho(f"{name:9} differs", fg=typer.colors.RED)
        show_difference(found.difference)
    else:
        value, error = found.worst
        nearest = f", largest relative error {error:.1e} in {value}" if error else ""
        typer.echo(f"{name:9} {found.compared} values agree{nearest}")
    if found.random:
        typer.echo(f"  random         {', '.join(found.random)}: compared by type and shape alone")
    if found.inside:
        typer.echo(f"  in bodies      {found.inside} values, compared through what their nodes give out")
    if found.interpreted:
        typer.echo(f"  not compiled   {', '.join(found.interpreted)}")


def show_difference(difference: Difference) -> None:
    """Print the first value that differs, its node, and by how much."""
    origin, deviation = difference.origin, difference.deviation
    read = ", ".join(f"{name}: {form}" for name, form in difference.inputs)
    typer.echo(f"  first value    {difference.value}: {difference.got}" + shape_note(difference))
    typer.echo(f"  node           {origin.operator} {origin.node!r} of {read or 'nothing'}")
    show_deviation(deviation)
    if difference.only_fused:
        typer.echo("  only in fused loops: with every value as an output, all agree")


def show_deviation(deviation: Deviation) -> None:
    """Print by how much a value differs."""
    import math

    if math.isfinite(deviation.error):
        typer.echo(f"  largest error  {deviation.error:.3g}, allowed {deviation.allowed:.3g}; largest number {deviation.scale:.3g}")
    typer.echo(f"  got            {deviation.reason}")


def shape_note(difference: Difference) -> str:
    return "" if difference.got == difference.expected else f", not {difference.expected}"


# ---- against another runtime --------------------------------------------------------------------------------------------------


def verify_outputs(
    model: Path, feeds: dict[str, Any], tolerance: float, levels: list[GraphOptimizationLevel], other: str, as_json: bool
) -> bool:
    """Compare the model's outputs with those of another runtime at each level and print the results. -> whether all agree"""
    from sardonyx.inspection.compare import compare

    expected = outputs_of(other, model, feeds)
    agrees, records = True, []
    for level in counted(levels, "comparing"):
        session = open_session(model, options_for(level=name_of(level)))
        outputs = session.run(list(expected), feeds)
        session.close()
        found = {name: compare(expected[name], got, tolerance) for name, got in zip(expected, outputs, strict=True)}
        wrong = {name: deviation for name, deviation in found.items() if not deviation.is_agreement}
        agrees = agrees and not wrong
        worst = max((deviation.relative for deviation in found.values()), default=0.0)
        records.append(
            {"level": name_of(level), "agrees": not wrong, "compared": len(found), "worst_error": worst, "differ": list(wrong)}
        )
        if as_json:
            continue
        told = f"{len(found)} outputs agree with {other}, largest relative error {worst:.1e}"
        typer.echo(f"{name_of(level):9} {'differs' if wrong else told}")
        for name, deviation in wrong.items():
            typer.echo(f"  output         {name}")
            show_deviation(deviation)
    if as_json:
        print_json({"against": other, "agrees": agrees, "levels": records})
    return agrees


def outputs_of(other: str, model: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    """Return {name: output} of another runtime. Raises ValueError for an unknown one, or for a model that it can't run; ImportError if it
    is not installed.
    """
    if other not in OTHERS:
        raise ValueError(f"there is nothing called {other!r} to compare with: choose {' or '.join(OTHERS)}")
    if importlib.util.find_spec(other) is None:
        raise ImportError(f"{other} is not installed: `pip install {other}`")
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        return dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds), strict=True))
    except Exception as error:  # of onnxruntime's own classes
        raise ValueError(f"{other} can't run the model: {error}") from error
