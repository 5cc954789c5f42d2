"""`sardonyx inspect`: shows what is in a model's file, as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sardonyx.cli.common import Json, Model, print_json, refusals, size_text, working

if TYPE_CHECKING:
    from rich.tree import Tree


def inspect(
    model: Model,
    nodes: Annotated[bool, typer.Option("--nodes", help="list every node")] = False,
    weights: Annotated[int, typer.Option(min=0, help="how many of the largest weights to list")] = 5,
    as_json: Json = False,
) -> None:
    """Show a model as a tree: opsets, inputs, outputs, dynamic dimensions, operators, weights and their sizes."""
    with refusals():
        from sardonyx.inspection.contents import contents_of

        with working(f"reading {model.name}"):
            found = contents_of(model)
        if as_json:
            print_json(found)
            return
        from rich.console import Console

        Console(soft_wrap=True, highlight=False).print(tree_of(found, nodes, weights))


def escape(text: str) -> str:
    """Return a text of the model as rich prints it: neither markup nor what a terminal would obey."""
    from rich.markup import escape as unmarked

    from sardonyx.inspection.printable import printable

    return unmarked(printable(text))


def tree_of(found: dict[str, Any], nodes: bool, weights: int) -> Tree:
    """Return the tree that is printed; texts of the model are not taken as markup."""
    from rich.tree import Tree

    tree = Tree(escape(str(found["file"])))
    maker = " ".join(filter(None, (found["producer"], found["producer_version"])))
    tree.add(escape(f"ONNX IR {found['ir_version']}, {found['bytes_text']}{f', made by {maker}' if maker else ''}"))
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in found["opsets"].items())
    tree.add(escape(f"opsets: {opsets}"))
    for kind in ("inputs", "outputs"):
        branch = tree.add(f"{kind}: {len(found[kind])}")
        for value in found[kind]:
            branch.add(escape(f"{value['name']}: {value['type']}{value['shape']}"))
    dynamic = found["dynamic_dimensions"]
    tree.add(
        escape("dynamic dimensions: " + (", ".join(f"{name} ({', '.join(where)})" for name, where in dynamic.items()) or "none"))
    )
    total = sum(found["operators"].values())
    branch = tree.add(f"nodes: {total}")
    for name, count in found["operators"].items():
        branch.add(escape(f"{count:5} {name}"))
    stored = found["weights"]
    branch = tree.add(f"weights: {len(stored)}, {found['parameters']:,} numbers, {size_text(found['weight_bytes'])}")
    for weight in stored[:weights]:
        branch.add(escape(f"{size_text(weight['bytes']):>9}  {weight['name']}: {weight['type']}{weight['shape']}"))
    if len(stored) > weights:
        branch.add(f"{len(stored) - weights} smaller ones")
    if nodes:
        add_nodes(tree.add("graph"), found["graph"])
    return tree


def add_nodes(branch: Tree, nodes: list[dict[str, Any]]) -> None:
    """Add the nodes to the tree, those of bodies below the node that has them."""
    for node in nodes:
        title = f"{node['operator']} {node['name']}  {', '.join(node['inputs'])} -> {', '.join(node['outputs'])}"
        below = branch.add(escape(title))
        for name, body in node["bodies"].items():
            add_nodes(below.add(escape(name)), body)
