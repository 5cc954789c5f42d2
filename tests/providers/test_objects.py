"""Kernels that call the same tiles share their objects, and what is linked has all that is called."""

from __future__ import annotations

from sardonyx.base.background import Background
from sardonyx.base.dtypes import f32
from sardonyx.codegen.compile import compile_module
from sardonyx.codegen.features import host
from sardonyx.codegen.tile import libraries, library
from sardonyx.providers.objects import Objects
from sardonyx.runtime.linker import link
from tests.codegen.test_tile import matmul

F32 = (f32, f32, f32)


def test_a_tile_is_compiled_once() -> None:
    with Background("test") as background:
        objects = Objects(background, None)
        first, second, other = (matmul(k, panels, 1, host(), F32, False)[0] for k, panels in ((64, 2), (64, 2), (32, 2)))
        (one, *tiles), (two, *same), (three, *others) = (objects.kernel(kernel, host()) for kernel in (first, second, other))
        assert tiles == same
        assert not set(tiles) & set(others)
        assert len({one, two, three}) == 3
        image = link([found.result() for found in (one, *tiles)])
    assert "matmul" in image.symbols
    assert sum(name.startswith("tile.") for name in image.symbols) > 1


def test_libraries_that_overlap_are_linked() -> None:
    (shapes,) = libraries(matmul(64, 2, 1, host(), F32, False)[0], host()).values()
    first, second = (compile_module(library(found, host()), host()) for found in (shapes[:2], shapes[1:]))
    assert set(link([first, second]).symbols) == {s.name for s in shapes}
