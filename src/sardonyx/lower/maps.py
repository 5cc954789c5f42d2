"""A nest of one pointwise statement: its loops are folded where memory allows it, the innermost is the vector's.

parallel for the outer loops: for the inner ones: vector for the one along which memory is read and written: one store

Where one element is only moved, or filled with a number, extents and strides become sizes that the kernel is called with: all borders
of a network are filled by few kernels, and its plain copies made by few.
"""

from __future__ import annotations

from collections.abc import Sequence

from sardonyx.base.symbolic import Dim, Int, Symbol, ceil_divide, coefficient, minimum, product, substitute, symbols, value
from sardonyx.loop.nodes import Const, For, Load, Reduce, Stmt, Store, dim_elements, replace, sequence, walk
from sardonyx.lower.builder import Builder
from sardonyx.lower.machine import Machine
from sardonyx.lower.parallel import parallel
from sardonyx.lower.place import Nest
from sardonyx.lower.values import extent


def is_map(nest: Nest) -> bool:
    return not nest.members and nest.root.fn is None and nest.root.tile is None


def map_kernel(builder: Builder) -> Stmt:
    v, machine = builder.nest.root, builder.machine
    assert v.body is not None
    if 0 in map(extent, v.variables):
        return sequence([])
    store = builder.store(v, builder.expression(v.body))
    order = sorted(v.variables, key=lambda s: -machine.guess(coefficient(store.offset, s)))
    loops, store = fold(order, store)
    if not loops:
        return store
    vector = vector_loop(loops, store, machine)
    outer = [s for s in loops if s is not vector]
    ahead = 0
    while ahead < len(outer) and machine.guess(product(extent(s) for s in outer[:ahead])) < 64:
        ahead += 1
    chunked = machine.guess(product(extent(s) for s in outer)) < 8 and machine.guess(extent(vector)) > machine.chunk // 4
    found = generalised([*outer, vector], store)
    if found is not None:
        (*outer, vector), store, builder.sizes = found
    chunks, body = in_chunks(vector, store, machine.chunk) if chunked else ([], For(vector, 0, extent(vector), "vector", store))
    for s in reversed(outer[ahead:]):
        body = For(s, 0, extent(s), "serial", body)
    return parallel([*outer[:ahead], *chunks], body)


def in_chunks(vector: Symbol, store: Store, chunk: int) -> tuple[list[Symbol], Stmt]:
    """A long vector loop beside which there is little to deal out, in chunks, which the loop that comes with it counts."""
    length = extent(vector)
    c = Symbol(f"{vector.name}.chunk", ceil_divide(length, chunk))
    return [c], For(vector, value(c) * chunk, minimum(length, value(c) * chunk + chunk), "vector", store)


def generalised(loops: Sequence[Symbol], store: Store) -> tuple[list[Symbol], Store, dict[Symbol, Dim]] | None:
    """(loops, the vector's last; store; sizes) of a plain move or fill with all that is known of it as sizes; None for anything else."""
    x = store.value
    if store.guard is not None or store.combine is not None or not isinstance(x, Const | Load) or x.args:
        return None
    sizes: dict[Symbol, Dim] = {}

    def size(name: str, d: Dim) -> Dim:
        if not isinstance(d, Int) and d in (0, 1):
            return d
        s = Symbol(f"#{name}")
        sizes[s] = d
        return value(s)

    own = [Symbol(f"i{k}", size(f"extent{k}", extent(s))) for k, s in enumerate(loops)]
    offsets: list[Dim] = []
    for name, offset in (("to", store.offset), *((("from", x.offset),) if isinstance(x, Load) else ())):
        steps = [coefficient(offset, s) for s in loops]
        if any(s.extent is not None and s not in loops for s in symbols(offset)) or dim_elements(offset) or None in steps:
            return None  # a counter of turns is no size that is planned
        moved = [value(i) * size(f"{name}.step{k}", s) for k, (i, s) in enumerate(zip(own, steps, strict=True)) if s is not None]
        offsets.append(sum(moved, start=size(name, substitute(offset, dict.fromkeys(loops, 0)))))
    moved_value = Load(x.buffer, offsets[1]) if isinstance(x, Load) else x
    return own, Store(store.buffer, offsets[0], moved_value), sizes


def vector_loop(loops: Sequence[Symbol], store: Store, machine: Machine) -> Symbol:
    spots = [store.offset] + [n.offset for n in walk(store.value) if isinstance(n, Load)]

    def score(s: Symbol) -> tuple[bool, bool, int]:
        long = machine.guess(extent(s)) >= min(machine.lanes, 8)
        return long, coefficient(store.offset, s) == 1, sum(coefficient(o, s) == 1 for o in spots)

    return max(reversed(list(loops)), key=score)


def fold(loops: list[Symbol], store: Store) -> tuple[list[Symbol], Store]:
    """Merges neighbouring loops, outermost first, wherever every address allows it: i, j of extents m, n as one of m n."""
    out: list[Symbol] = []
    for s in loops:
        if out and (merged := merge(out[-1], s, store)) is not None:
            out[-1], store = merged
        else:
            out.append(s)
    return out, store


def merge(outer: Symbol, inner: Symbol, store: Store) -> tuple[Symbol, Store] | None:
    n = extent(inner)
    pair = {outer, inner}
    if store.guard is not None and pair & store.guard.symbols:
        return None
    for node in walk(store.value):
        if isinstance(node, Load):
            if not folds(node.offset, outer, inner, n):
                return None
        elif any(pair & symbols(d) for d in node.dims) or (isinstance(node, Reduce) and pair & node.symbols):
            return None
    if not folds(store.offset, outer, inner, n):
        return None
    both = Symbol(f"{outer.name}.{inner.name}", extent(outer) * n)
    env: dict[Symbol, Dim] = {outer: 0, inner: value(both)}
    return both, Store(store.buffer, substitute(store.offset, env), replace(store.value, env), guard=store.guard)


def folds(offset: Dim, outer: Symbol, inner: Symbol, n: Dim) -> bool:
    x, y = coefficient(offset, outer), coefficient(offset, inner)
    return x is not None and y is not None and x == y * n
