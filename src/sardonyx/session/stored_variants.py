"""Encodes variants (session.late) for the cache, and decodes them, each with the questions that it answers.

entry      length of the JSON | JSON | the team's image | the image of each native step
block      constants, as in session.manifest
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.base import dtypes
from sardonyx.base.symbolic import OPERATIONS, Defined, Derived, Dim, Int, Symbol, value
from sardonyx.expr.decide import RELATIONS, Answer, Answers, ValueAnswer
from sardonyx.runtime import blocks
from sardonyx.runtime.cache import Cache
from sardonyx.runtime.image import Image, ImageError
from sardonyx.runtime.records import element_type, fields, listed, text, whole
from sardonyx.runtime.team import configure
from sardonyx.session.cache_entry import pack, unpack
from sardonyx.session.late import Kind, Variant
from sardonyx.session.metadata import assignment_record, read_assignment
from sardonyx.session.stored_models import Reader, Writer
from sardonyx.session.stored_values import Unstorable

KIND = "variant"
MOST = 64
"""The most variants of one sub-graph that are stored."""
KEYS = {"kinds", "symbols", "answers", "outputs", "program", "assignment", "images", "pieces", "checksum"}


class Store(Struct, frozen=True):
    """The stored variants of one sub-graph; an entry's key consists of the session's key, the sub-graph's number and the
    variant's number.
    """

    cache: Cache
    key: str
    number: int
    threads: int

    def entry(self, count: int) -> str:
        return repr((self.key, self.number, count))

    def load(self) -> list[Variant]:
        """Return the undamaged variants, in the order in which they were made."""
        found: list[Variant] = []
        while len(found) < MOST:
            key = self.entry(len(found))
            data = self.cache.get(KIND, key)
            variant = self.read(data, key) if data is not None else None
            if variant is None:
                break
            found.append(variant)
        return found

    def read(self, data: bytes, key: str) -> Variant | None:
        try:
            return decode(data, lambda sizes, checksum: blocks.mapped(self.cache, key, sizes, checksum), self.threads)
        except (ValueError, RecursionError, ImageError) as error:
            self.cache.problem = f"unreadable variant: {error}"
            return None

    def add(self, variant: Variant, count: int) -> None:
        """Store the variant as number `count`, if possible."""
        if count >= MOST:
            return
        try:
            data, pieces = encode(variant)
        except (Unstorable, RecursionError):
            return
        blocks.put(self.cache, self.entry(count), pieces)
        self.cache.put(KIND, self.entry(count), data)


# ---- a variant --------------------------------------------------------------------------------------------------------------


def encode(variant: Variant) -> tuple[bytes, list[Any]]:
    """Return the variant's entry and the arrays of its block. Raises Unstorable for a part that can't be stored."""
    writer = Writer(alone=True)
    answers = variant.answers
    head = {
        "kinds": [kind_record(kind) for kind in variant.kinds],
        "symbols": [[s.name if s is not None else None for s in axes] for axes in variant.symbols],
        "answers": [
            [[dim_record(a.dim), a.relation, a.truth] for a in answers.sizes],
            [[a.name, a.at, a.truth] for a in answers.values],
        ],
        "outputs": variant.outputs,
        "program": writer.program(variant.program),
        "assignment": assignment_record(variant.assignment),
        "pieces": [piece.size for piece in writer.pieces],
        "checksum": blocks.checksum(writer.pieces),
    }
    return pack(head, writer.all_images()), writer.pieces


def decode(data: bytes, find: Callable[[Sequence[int], str], list[Any] | None], threads: int) -> Variant | None:
    """Return the variant that `encode` was given; None without its block. Raises ValueError or ImageError for anything else."""
    head, images = unpack(data, KEYS)
    pieces = find(listed(head["pieces"], lambda size: whole(size, 0)), text(head["checksum"]))
    if pieces is None:
        return None
    team = configure(Image.from_bytes(next(images))) if head["images"] else None
    sizes, values = fields(head["answers"], 2)
    answers = Answers(dict.fromkeys(listed(sizes, answer)), dict.fromkeys(listed(values, value_answer)))
    symbols = listed(head["symbols"], lambda axes: listed(axes, lambda name: None if name is None else Symbol(text(name))))
    program = Reader(images, iter(pieces), team, threads, None).program(head["program"])
    outputs = listed(head["outputs"], text)
    if not program.values().issuperset(outputs):
        raise ValueError("the program does not compute these outputs")
    return Variant.of(listed(head["kinds"], kind), answers, symbols, program, outputs, list(read_assignment(head["assignment"])))


def kind_record(found: Kind) -> list[Any]:
    """Encode dtype and rank of an input. Raises Unstorable if the input is no array."""
    if len(found) != 2 or not isinstance(found[0], np.dtype):
        raise Unstorable(f"a variant for inputs of type {found} can't be stored")
    return [dtypes.from_numpy(found[0]).name, found[1]]


def kind(record: object) -> Kind:
    name, rank = fields(record, 2)
    return element_type(name).numpy, whole(rank, 0)


def answer(record: object) -> Answer:
    found, relation, truth = fields(record, 3)
    if relation not in RELATIONS or not isinstance(truth, bool):
        raise ValueError("not a record of an answer")
    return Answer(dim(found), relation, truth)


def value_answer(record: object) -> ValueAnswer:
    name, at, truth = fields(record, 3)
    return ValueAnswer(text(name), listed(at, lambda index: whole(index, 0)), bool(truth))


# ---- sizes ------------------------------------------------------------------------------------------------------------------


def dim_record(found: Dim) -> Any:
    """Encode a formula over symbols: a number, or a list of [factor, atoms]. Raises Unstorable for a formula that depends on
    data.
    """
    if not isinstance(found, Int):
        return found
    return [[factor, [atom_record(atom) for atom in monomial]] for monomial, factor in found.terms.items()]


def atom_record(atom: Any) -> Any:
    """Encode an atom: a symbol's name, ["=", formula] for a defined symbol, or [operation, left, right]."""
    if isinstance(atom, Derived):
        return [atom.op, dim_record(atom.left), dim_record(atom.right)]
    if isinstance(atom, Defined):
        return ["=", dim_record(atom.definition), 0]
    if type(atom) is Symbol:
        return atom.name
    raise Unstorable(f"a formula with {atom} can't be stored")


def dim(record: object) -> Dim:
    if type(record) is int:
        return record
    total: Dim = 0
    for factor, atoms in listed(record, lambda term: fields(term, 2)):
        product: Dim = whole(factor, -1 << 63)
        for found in listed(atoms, atom_of):
            product = product * found
        total = total + product
    return total


def atom_of(record: object) -> Dim:
    if isinstance(record, str):
        return value(Symbol(record))
    operation, left, right = fields(record, 3)
    if operation == "=":
        return dim(left)
    if operation not in OPERATIONS:
        raise ValueError("not a record of a formula")
    return OPERATIONS[operation](dim(left), dim(right))
