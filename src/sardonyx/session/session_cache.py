"""The session cache: whole compiled sessions on disk, which are loaded without parsing the model or importing the compiler.

    request  content of the model, options, providers, processor, this package and its libraries  -> key
    key      -> the manifest of the session, and a block with its weights
             or the names of the model's external files: key and their content -> manifest and block

Not cached are sessions that write an optimised model or replace initializers, sessions for inner values, sessions that are
profiled or made while SARDONYX_DEBUG or a related variable is set, and all sessions if the cache is off. An entry that can't
be read or verified is built again. Variants that runs compile (session.late) are stored too; a part that can't be stored is
built again at its first run.
"""

from __future__ import annotations

import json
import os

from msgspec.structs import replace

from sardonyx.base import debug
from sardonyx.base.context import Trace
from sardonyx.base.interpreter_settings import rare_collections
from sardonyx.base.model_format import is_compiled, is_ort
from sardonyx.base.replacements import NOTHING
from sardonyx.providers import registry
from sardonyx.runtime import blocks
from sardonyx.runtime.cache import Cache, shared_cache
from sardonyx.runtime.caches import caches
from sardonyx.runtime.cores import available_cores
from sardonyx.runtime.digests import digest_bytes, digest_file
from sardonyx.runtime.image import ImageError
from sardonyx.runtime.processor import processor
from sardonyx.runtime.safe_open import Identity, open_regular, opened
from sardonyx.session import manifest
from sardonyx.session.installed import installed
from sardonyx.session.late import LateSubgraph
from sardonyx.session.rebuild import Rebuilder
from sardonyx.session.session_parts import Request, SessionParts

KIND = "session"
FILES_KIND = "files"
MOST_FILES = 1000


def obtain(request: Request, trace: Trace | None = None) -> SessionParts:
    """Load the session's parts from a compiled file, or from the cache; else build them, and store them if possible. Raises
    SardonyxError.
    """
    if is_compiled(request.source):
        from sardonyx.session import compiled_file  # most models are ONNX files

        return compiled_file.load(request, trace)
    cache = shared_cache()
    key = request_key(request, cache) if is_cacheable(request, trace) and cache.folder is not None else None
    if key is None:
        return build(request, trace)
    found = load(request, cache, key)
    if found is not None:
        return found
    made = build(request, trace)
    if made.custom:  # what a function computes can't be told from its name
        return made
    if isinstance(request.source, bytes) or key == request_key(request, cache):  # the model hasn't changed meanwhile
        store(request, cache, key, made)
    return made


def build(request: Request, trace: Trace | None = None) -> SessionParts:
    """Build the session from the model, which imports the compiler."""
    with rare_collections():
        from sardonyx.session import pipeline

    return pipeline.build(request, trace)


def is_cacheable(request: Request, trace: Trace | None) -> bool:
    """May the session be loaded from the cache and stored there?"""
    ordinary = trace is None and not request.save_to and not request.extra_outputs and request.given is NOTHING
    plain = all(name in registry.OWN for name, _ in request.providers)
    return ordinary and plain and request.options.cache and not debug.is_set()


# ---- keys -------------------------------------------------------------------------------------------------------------------


def request_key(request: Request, cache: Cache) -> str | None:
    """Return a text of everything that decides what is built, except the model's external files. None if that can't be told."""
    source, machine, packages = request.source, processor(), installed()
    if machine is None or packages is None:
        return None
    content = model_digest(request, cache)
    if content is None:
        return None
    options = replace(request.options, threads=0, disabled=frozenset())  # threads don't influence what is built
    told = (
        *(content, machine, caches(), packages, os.environ.get("SARDONYX_TARGET")),
        *((name, factory.__module__, factory.__qualname__) for name, factory in registry.FACTORIES.items()),
        *(options, sorted(request.options.disabled), request.providers, request.asked),
        *(request.forbid_reference, request.forbid_cpu, request.dimensions, request.denotations, request.distinct),
        is_ort(request.model_format, "", source) if isinstance(source, bytes) else is_ort(request.model_format, os.fspath(source)),
    )
    return repr(told)


def model_digest(request: Request, cache: Cache) -> str | None:
    """Return the digest of the model's bytes; None if its file can't be read, or is too large to be cached."""
    if isinstance(request.source, bytes):
        return digest_bytes(request.source)
    try:
        with open(open_regular(os.fspath(request.source)), "rb", buffering=0) as file:
            return digest_file(file.fileno(), cache)[0] if os.fstat(file.fileno()).st_size <= cache.capacity else None
    except (OSError, ValueError):
        return None


def files_key(request: Request, cache: Cache, key: str, locations: list[str]) -> tuple[str, list[Identity]] | None:
    """Return the key extended by the content of the model's external files, and their identities. They are opened under the same
    checks as when the model is loaded.
    """
    folder = folder_of(request)
    if folder is None:
        return None
    found = []
    try:
        for location in locations:
            with opened(folder, location) as file:
                found.append(digest_file(file, cache))
    except (OSError, ValueError):
        return None
    return repr((key, locations, [digest for digest, _ in found])), [identity for _, identity in found]


def folder_of(request: Request) -> str | None:
    """Return the folder of the model's external files."""
    if isinstance(request.source, bytes) or request.data_folder is not None:
        return request.data_folder
    return os.path.dirname(os.fspath(request.source))


# ---- reading and writing ----------------------------------------------------------------------------------------------------


def load(request: Request, cache: Cache, key: str) -> SessionParts | None:
    """Load the parts that are stored under this key; None if there are none or they are damaged."""
    first = key
    listed = cache.get(FILES_KIND, key)
    if listed is not None:
        locations = location_list(listed)
        whole = files_key(request, cache, key, locations) if locations is not None else None
        if whole is None:
            return None
        key = whole[0]
    data = cache.get(KIND, key)
    if data is None:
        return None
    threads = request.options.threads or available_cores()
    try:
        rebuilder = rebuilder_for(request, cache, first, key)
        return manifest.decode(data, lambda sizes, checksum: blocks.mapped(cache, key, sizes, checksum), threads, rebuilder)
    except (ValueError, RecursionError, ImageError) as error:
        cache.problem = f"unreadable session: {error}"
        return None


def rebuilder_for(request: Request, cache: Cache, first: str, key: str) -> Rebuilder:
    """Return what builds the parts that are not stored. first: the key without external files; key: the key with them."""

    def build_again() -> SessionParts | None:
        same = isinstance(request.source, bytes) or first == request_key(request, cache)
        return build(request) if same else None

    return Rebuilder(build_again, cache, key, request.options.threads or available_cores())


def location_list(data: bytes) -> list[str] | None:
    """Read a list of file names; None if it is anything else."""
    try:
        found = json.loads(data)
    except ValueError:
        return None
    sound = isinstance(found, list) and 0 < len(found) <= MOST_FILES and all(isinstance(name, str) for name in found)
    return found if sound else None


def store(request: Request, cache: Cache, key: str, built: SessionParts) -> None:
    """Store the parts: first the block, because a manifest without its block counts as missing."""
    encoded = manifest.encode(built, cache.capacity)
    locations = sorted(built.files)
    if encoded is None or len(locations) > MOST_FILES:
        return
    place = files_key(request, cache, key, locations) if locations else (key, [])
    if place is None or place[1] != [built.files[name] for name in locations]:
        return
    if locations:
        cache.put(FILES_KIND, key, json.dumps(locations).encode())
    blocks.put(cache, place[0], encoded[1])
    cache.put(KIND, place[0], encoded[0])
    rebuilder = rebuilder_for(request, cache, key, place[0])
    for number, step in enumerate(built.program.steps):
        if isinstance(step.executable, LateSubgraph):
            step.executable.store_in(rebuilder.store(number))
