"""Kernels that call the same tiles share their objects, and what is linked has all that is called."""

from __future__ import annotations

import gc
import weakref

from msgspec.structs import replace

from sardonyx.base.background import Background
from sardonyx.base.dtypes import f32
from sardonyx.codegen.compile import compile_module, print_module
from sardonyx.codegen.emit import emit
from sardonyx.codegen.features import host
from sardonyx.codegen.tile import library, tile_functions
from sardonyx.loop.nodes import For, Kernel, Seq, Stmt, Tile
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


def functions(objects: Objects, *kernels: Kernel) -> list[str]:
    """Compile the kernels. -> the names of the tile functions in all objects, repeated as often as they are compiled"""
    made = [objects.kernel(kernel, host()) for kernel in kernels]
    for whole in made:
        link([found.result() for found in whole])  # has all that is called
    tiles = dict.fromkeys(found for _, *rest in made for found in rest)
    return [name for found in tiles for name in link([found.result()]).symbols]


def test_a_function_is_compiled_once_though_tiles_have_other_heights() -> None:
    """The rows of one kernel are a size, those of the others one number: a function of its own for each height."""
    kernel = matmul(64, 2, 1, host(), F32, False)[0]
    ((shapes,),) = (tile_functions(kernel, host()),)
    low = with_rows(kernel, shapes[-1].rows), with_rows(kernel, shapes[-2].rows)
    with Background("test") as background:
        names = functions(Objects(background, None), *low, kernel)
    assert sorted(names) == sorted(s.name for s in shapes)


def test_products_that_differ_in_the_width_of_their_result_share_functions() -> None:
    kernel = matmul(64, 2, 1, host(), F32, False)[0]
    wide = with_tile(kernel, c_row=4096)
    assert tile_functions(kernel, host()) == tile_functions(wide, host())
    with Background("test") as background:
        names = functions(Objects(background, None), kernel, wide)
    assert len(names) == len(set(names)) > 1


def with_rows(kernel: Kernel, rows: int) -> Kernel:
    return with_tile(kernel, rows=rows)


def with_tile(kernel: Kernel, **fields: object) -> Kernel:
    """Change the fields of the kernel's tile, and its name by what they are."""

    def changed(stmt: Stmt) -> Stmt:
        if isinstance(stmt, Tile):
            return replace(stmt, **fields)  # type: ignore[arg-type]
        if isinstance(stmt, Seq):
            return replace(stmt, body=tuple(map(changed, stmt.body)))
        return replace(stmt, body=changed(stmt.body)) if isinstance(stmt, For) else stmt

    return replace(kernel, name=f"{kernel.name}_{'_'.join(map(str, fields.values()))}", body=changed(kernel.body))


def test_libraries_that_overlap_are_linked() -> None:
    (shapes,) = tile_functions(matmul(64, 2, 1, host(), F32, False)[0], host())
    first, second = (compile_module(library(found, host()), host()) for found in (shapes[:2], shapes[1:]))
    assert set(link([first, second]).symbols) == {s.name for s in shapes}


def test_a_printed_kernel_is_freed_without_a_collection() -> None:
    module = emit(matmul(64, 2, 1, host(), F32, False)[0], host(), True)
    blocks = [weakref.ref(block) for function in module.functions for block in function.blocks]
    gc.collect()
    gc.disable()
    try:
        assert "define void" in print_module(module)
        del module
        assert blocks
        assert not any(block() for block in blocks)
    finally:
        gc.enable()
