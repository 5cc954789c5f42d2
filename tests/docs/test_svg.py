"""Pictures are well formed, stay inside their paper, and can be read on light and on dark pages."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from docs.compiler.__main__ import drawings
from docs.compiler.svg import DARK, LETTER, LIGHT, WIDTH, Node, draw_graph, style

WORDS = {"light": ("#1f2328", "#57606a"), "dark": ("#e6edf3", "#8b949e")}
READABLE = 4.5
"""Least contrast of words, by the Web Content Accessibility Guidelines."""


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_words_can_be_read_on_every_box(colours: str) -> None:
    boxes = LIGHT if colours == "light" else DARK
    assert all(word in style() for word in WORDS[colours])
    for name, (fill, _) in boxes.items():
        assert contrast(WORDS[colours][0], fill) >= READABLE, name
    assert contrast(WORDS[colours][1], boxes["paper"][0]) >= READABLE


def test_both_sets_have_the_same_boxes() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert "@media(prefers-color-scheme:dark)" in style()


def test_pictures_stay_inside_their_paper() -> None:
    for name, picture in drawings().items():
        root = ElementTree.fromstring(picture)
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        assert width == WIDTH
        for e in root.iter():
            if e.tag.endswith("rect"):
                x, y, w, h = (float(e.attrib[k]) for k in ("x", "y", "width", "height"))
                assert x >= 0, name
                assert y >= 0, name
                assert x + w <= width, name
                assert y + h <= height, name
            if e.tag.endswith("text"):
                assert float(e.attrib["x"]) + LETTER * len(e.text or "") <= width, f"{name}: {e.text}"


def test_a_box_stands_below_all_that_it_reads() -> None:
    nodes = {"a": Node(("a",), "input"), "b": Node(("b",), "row", ("a",)), "c": Node(("c < d",), "root", ("a", "b"))}
    picture = draw_graph(nodes)
    at = {m[2]: float(m[1]) for m in re.finditer(r'<text x="\d+" y="(\d+)" class="title">([^<]*)</text>', picture)}
    assert at["a"] < at["b"] < at["c &lt; d"]
    assert picture.count('class="arrow"') == 3
