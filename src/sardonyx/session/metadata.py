"""What a session tells about its model: inputs, outputs, metadata, and which provider runs each node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from sardonyx.runtime.records import fields, listed, text

NO_VERSION = (1 << 63) - 1


class NodeArg(Struct, frozen=True):
    """An input or output. shape: an int for each fixed size, a name for a symbolic size, None for an unknown one."""

    name: str
    type: str
    shape: list[int | str | None]


class ModelMetadata(Struct, frozen=True):
    """The metadata in the model's file."""

    custom_metadata_map: dict[str, str] = field(default_factory=dict)
    description: str = ""
    domain: str = ""
    graph_description: str = ""
    graph_name: str = ""
    producer_name: str = ""
    version: int = NO_VERSION


class OrtEpAssignedNode(Struct, frozen=True):
    """A node as it was assigned to a provider."""

    name: str
    domain: str
    op_type: str


class OrtEpAssignedSubgraph(Struct, frozen=True):
    """The nodes that one provider runs as one sub-graph."""

    ep_name: str
    nodes: tuple[OrtEpAssignedNode, ...]

    def get_nodes(self) -> list[OrtEpAssignedNode]:
        return list(self.nodes)


def assignment_record(assignment: Sequence[OrtEpAssignedSubgraph]) -> list[Any]:
    """Encode the sub-graphs for JSON."""
    return [[part.ep_name, [[n.name, n.domain, n.op_type] for n in part.nodes]] for part in assignment]


def read_assignment(record: object) -> tuple[OrtEpAssignedSubgraph, ...]:
    """Decode what `assignment_record` wrote. Raises ValueError for anything else."""

    def part(item: object) -> OrtEpAssignedSubgraph:
        name, nodes = fields(item, 2)
        return OrtEpAssignedSubgraph(text(name), listed(nodes, lambda node: OrtEpAssignedNode(*map(text, fields(node, 3)))))

    return listed(record, part)
