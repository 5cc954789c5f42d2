"""What a session tells about its model: inputs, outputs, metadata, and which provider runs each node."""

from __future__ import annotations

from dataclasses import dataclass, field

NO_VERSION = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output. `shape` has ints for fixed sizes, names for symbolic ones and None for unknown ones."""

    name: str
    type: str
    shape: list[int | str | None]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What the file says about itself."""

    custom_metadata_map: dict[str, str] = field(default_factory=dict)
    description: str = ""
    domain: str = ""
    graph_description: str = ""
    graph_name: str = ""
    producer_name: str = ""
    version: int = NO_VERSION


@dataclass(frozen=True, slots=True)
class OrtEpAssignedNode:
    """A node as a provider got it."""

    name: str
    domain: str
    op_type: str


@dataclass(frozen=True, slots=True)
class OrtEpAssignedSubgraph:
    """The nodes that one provider runs as one sub-graph."""

    ep_name: str
    nodes: tuple[OrtEpAssignedNode, ...]

    def get_nodes(self) -> list[OrtEpAssignedNode]:
        return list(self.nodes)
