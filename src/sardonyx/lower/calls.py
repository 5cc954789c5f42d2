"""Make calls of kernels from nests and hand-written kernels. Each kernel is built once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from sardonyx.base import debug
from sardonyx.base.budget import check
from sardonyx.base.errors import running
from sardonyx.base.symbolic import product
from sardonyx.expr.origin import Origin
from sardonyx.expr.require import braced
from sardonyx.expr.tensor import KernelCall, Tensor
from sardonyx.loop.nodes import Kernel
from sardonyx.loop.printer import key
from sardonyx.lower.machine import Machine
from sardonyx.lower.parallel import ensure_parallel_loop, is_single_threaded
from sardonyx.lower.schedule import Call
from sardonyx.lower.sharing import Kernels
from sardonyx.lower.split import Placed
from sardonyx.lower.values import Value


class KernelTable(Struct):
    """The kernels of a program by name. `made` is called with each as soon as it is built, so that it compiles while others
    are built. SARDONYX_VERIFY makes it verify each one."""

    made: Callable[[Kernel], object]
    by_name: dict[str, Kernel] = field(default_factory=dict)
    single_threaded: dict[str, bool] = field(default_factory=dict)

    def keep(self, kernel: Kernel) -> Kernel:
        """Return the kernel of this name; if there is none yet, add this one."""
        if kernel.name not in self.by_name:
            self.by_name[kernel.name] = kernel
            if debug.verifying():
                from sardonyx.loop.verifier import verify  # most sessions do without it

                verify(kernel)
            self.made(kernel)
        return self.by_name[kernel.name]

    def is_single_threaded(self, kernel: Kernel) -> bool:
        """Tell whether one thread computes the whole kernel. The answer is memoised."""
        if kernel.name not in self.single_threaded:
            self.single_threaded[kernel.name] = is_single_threaded(kernel.body)
        return self.single_threaded[kernel.name]


def nest_call(placed: Placed, values: dict[Tensor, Value], machine: Machine, kernels: KernelTable, shared: Kernels) -> Call:
    """Build the nest's kernel, or reuse an equal one, and return the call with its arguments, sizes and error messages."""
    nest = placed.nest
    check(f"making the loops of {nest.root}")
    kernel, arguments, sizes, work = shared.build(nest, values, machine, placed.single_threaded)
    kernel = kernels.keep(kernel)
    origins = tuple(dict.fromkeys(v.tensor.origin for v in nest.statements))
    writes = frozenset((v.into[0] if v.into else v.tensor) for v in [nest.root, *(m for m in nest.members if m.stored)])
    checked = dict.fromkeys(o for v in nest.statements for o in v.checked)
    checks = said_of(checked or origins, ("index {0} is out of bounds for an axis of {1}",))
    return Call(kernel, arguments, sizes, writes, origins, checks, work=work, single_threaded=kernels.is_single_threaded(kernel))


def said_of(origins: Iterable[Origin], messages: Sequence[str]) -> tuple[str, ...]:
    """Return the error messages of a call's checks; each names the nodes in which the check can fail."""
    title = " or ".join(dict.fromkeys(o.full for o in origins if o))
    return tuple(running(braced(title), message) for message in messages)


def hand_written(call: KernelCall, kernels: KernelTable, origin: Origin) -> Call:
    """Return the call of a hand-written kernel. An estimate of its work is made if the operator has given none."""
    kernel = replace(call.kernel, body=ensure_parallel_loop(call.kernel.body))
    kernel = kernels.keep(replace(kernel, name=f"k_{key(kernel)[:20]}"))
    arguments = [*call.inputs, *call.outputs]
    work = sum((product(t.shape) for t in arguments), start=0) * HAND_WRITTEN if call.work is None else call.work
    single_threaded = kernels.is_single_threaded(kernel)
    checks = said_of([origin], call.checks)
    return Call(
        kernel, arguments, list(call.sizes), frozenset(call.outputs), (origin,), checks, work=work, single_threaded=single_threaded
    )


HAND_WRITTEN = 8
"""Operations per element of its arguments that a hand-written kernel is guessed to do: good enough to tell little work from
much."""
