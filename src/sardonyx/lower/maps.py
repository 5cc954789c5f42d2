"""Kernels of nests with a single pointwise statement: merge its loops where memory allows that, and vectorise one of them.

    parallel for the outer loops: for the inner ones: vector for the most contiguous one: one store

If the statement only copies elements or fills with a constant, extents and strides become sizes that the kernel is called
with. A few kernels then fill all borders and make all plain copies of a network.
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
    """Tell whether the nest is a single pointwise statement."""
    return not nest.members and nest.root.fn is None and nest.root.tile is None


def map_kernel(builder: Builder) -> Stmt:
    """Build the loops of a pointwise statement: parallel outside, serial within, the vector loop innermost."""
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
    """Split a long vector loop into chunks for threads to share. -> ([the loop over chunks], the vector loop of one chunk)"""
    length = extent(vector)
    c = Symbol(f"{vector.name}.chunk", ceil_divide(length, chunk))
    return [c], For(vector, value(c) * chunk, minimum(length, value(c) * chunk + chunk), "vector", store)


def generalised(loops: Sequence[Symbol], store: Store) -> tuple[list[Symbol], Store, dict[Symbol, Dim]] | None:
    """Turn the extents, strides and offsets of a plain copy or fill into sizes of the kernel. -> (loops, store, {size symbol:
    value})

    The vector loop is the last. None for any other statement, or if an offset depends on more than its loops and sizes.
    """
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
            return None  # plans evaluate sizes, not counters of iterations
        moved = [value(i) * size(f"{name}.step{k}", s) for k, (i, s) in enumerate(zip(own, steps, strict=True)) if s is not None]
        offsets.append(sum(moved, start=size(name, substitute(offset, dict.fromkeys(loops, 0)))))
    moved_value = Load(x.buffer, offsets[1]) if isinstance(x, Load) else x
    return own, Store(store.buffer, offsets[0], moved_value), sizes


def vector_loop(loops: Sequence[Symbol], store: Store, machine: Machine) -> Symbol:
    """Choose the loop to vectorise: a long one, then one along which the store is contiguous, then the most contiguous loads."""
    spots = [store.offset] + [n.offset for n in walk(store.value) if isinstance(n, Load)]

    def score(s: Symbol) -> tuple[bool, bool, int]:
        long = machine.guess(extent(s)) >= min(machine.lanes, 8)
        return long, coefficient(store.offset, s) == 1, sum(coefficient(o, s) == 1 for o in spots)

    return max(reversed(list(loops)), key=score)


def fold(loops: list[Symbol], store: Store) -> tuple[list[Symbol], Store]:
    """Merge neighbouring loops, outermost first, where every address allows it: i < m and j < n become one loop of m n
    iterations."""
    out: list[Symbol] = []
    for s in loops:
        if out and (merged := merge(out[-1], s, store)) is not None:
            out[-1], store = merged
        else:
            out.append(s)
    return out, store


def merge(outer: Symbol, inner: Symbol, store: Store) -> tuple[Symbol, Store] | None:
    """Merge two loops into one, and rewrite the store for it. None where an address or a guard does not allow that."""
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
    """Tell whether the offset moves by n times as much per iteration of the outer loop as per iteration of the inner one."""
    x, y = coefficient(offset, outer), coefficient(offset, inner)
    return x is not None and y is not None and x == y * n
