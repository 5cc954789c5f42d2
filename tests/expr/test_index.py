"""Broadcasting of sizes that are known only at run time."""

from sardonyx.base.symbolic import Symbol, minimum, symbol, value
from sardonyx.expr import require
from sardonyx.expr.index import broadcast, broadcast_index

N, W = symbol("n"), symbol("w")


def test_the_last_element_of_an_axis_stands_beside_all_of_it() -> None:
    """x[:, -1:] has min(1, w) columns: one, or none where x has none."""
    last = minimum(1, W)
    with require.collect() as requirements:
        assert broadcast([N, W], [N, last]) == [N, W]
        assert broadcast([N, last], [N, W]) == [N, W]
    assert not list(requirements)
    assert broadcast_index(value(Symbol("i", W)), last) == 0


def test_a_longer_part_of_an_axis_must_be_all_of_it() -> None:
    part = minimum(3, W)
    with require.collect() as requirements:
        broadcast([N, W], [N, part])
    assert [r.relation for r in requirements] == ["zero"]


def test_unknown_sizes_are_equal_or_one() -> None:
    with require.collect() as requirements:
        shape = broadcast([N], [W])
    assert len(shape) == 1
    assert len(list(requirements)) == 1
    i = value(Symbol("i", shape[0]))
    assert broadcast_index(i, W) != i
    assert broadcast_index(i, 1) == 0
