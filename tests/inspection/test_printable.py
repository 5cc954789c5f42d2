"""Names of a model can't move a terminal's cursor."""

from __future__ import annotations

from sardonyx.inspection.printable import printable


def test_control_characters_are_written_out() -> None:
    assert printable("/layer.0/Größe") == "/layer.0/Größe"
    assert printable("a\x1b[2Jb\n\u202ec\x9b") == "a\\x1b[2Jb\\n\\u202ec\\x9b"
