"""What a session is built from (Request), and what it consists of (SessionParts)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from sardonyx.base.options import CompileOptions
from sardonyx.base.replacements import NOTHING, Replacements
from sardonyx.runtime.safe_open import Identity
from sardonyx.session.compiled_model import CompiledModel
from sardonyx.session.feeds import Feeds
from sardonyx.session.metadata import ModelMetadata, NodeArg, OrtEpAssignedSubgraph


class Request(Struct, frozen=True):
    """What to build a session from.

    providers: in the user's order, with their options. asked: the providers that the user named; the others were added.
    extra_outputs: names of intermediate values that become outputs. given: tensors that replace the model's.
    distinct: axes with one name may have different sizes, see session.dimension_names. model_format: see LoadOptions.
    allow_machine_code: may the source be a compiled file, see session.compiled_file?
    """

    source: str | os.PathLike[str] | bytes
    options: CompileOptions
    providers: tuple[tuple[str, dict[str, str]], ...] = ()
    asked: tuple[str, ...] = ()
    forbid_reference: bool = False
    forbid_cpu: bool = False
    data_folder: str | None = None
    dimensions: tuple[tuple[str, int], ...] = ()
    denotations: tuple[tuple[str, int], ...] = ()
    save_to: str = ""
    extra_outputs: tuple[str, ...] = ()
    distinct: bool = False
    given: Replacements = NOTHING
    model_format: str = ""
    allow_machine_code: bool = False


class SessionParts(Struct, frozen=True):
    """The parts of a session. files: {location: identity} of the external files that were read. custom: there are custom
    operators, whose functions can't be stored"""

    program: CompiledModel
    inputs: list[NodeArg]
    overridable: list[NodeArg]
    outputs: list[NodeArg]
    metadata: ModelMetadata
    assignment: list[OrtEpAssignedSubgraph]
    feeds: Feeds
    files: Mapping[str, Identity] = field(default_factory=dict)
    custom: bool = False


def variant(request: Request, names: Sequence[str], distinct: bool) -> Request:
    """Return the request with these additional outputs, and with distinct sizes or not; no model is written again."""
    return replace(request, extra_outputs=tuple(names), distinct=distinct, save_to="")
