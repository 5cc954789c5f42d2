"""`python -m sardonyx.dropin SCRIPT ...`: runs a program for which `onnxruntime` is this package."""

from __future__ import annotations

import atexit
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sardonyx.dropin.finder import FOLDER, METADATA, NAME, VERSION, install

STUB = "from sardonyx.dropin.finder import adopt\n\nadopt()\n"

USAGE = "usage: python -m sardonyx.dropin SCRIPT ... | -m MODULE ... | -c CODE ..."


def reach_children() -> None:
    """Let child processes of the program find this package as `onnxruntime` too, by a temporary folder in their PYTHONPATH."""
    folder = Path(tempfile.mkdtemp(prefix=FOLDER))
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    for name, text in ((f"{NAME}/__init__.py", STUB), (f"{NAME}-{VERSION}.dist-info/METADATA", METADATA)):
        (folder / name).parent.mkdir()
        (folder / name).write_text(text, encoding="utf-8")
    sys.path.insert(1, str(folder))  # multiprocessing passes sys.path to child processes
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))


def main(arguments: Sequence[str]) -> int:
    """Run the program with the arguments after it, as Python would. Return 2 if the arguments name no program."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, file=sys.stderr if not arguments else sys.stdout)
        return 0 if arguments else 2
    if arguments[0] in ("-m", "-c") and len(arguments) < 2:
        print(f"{arguments[0]} needs an argument\n{USAGE}", file=sys.stderr)
        return 2
    install()
    reach_children()
    if arguments[0] == "-m":
        sys.argv = list(arguments[1:])
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    else:
        if not os.path.exists(arguments[0]):
            print(f"can't open file {arguments[0]!r}: No such file or directory", file=sys.stderr)
            return 2
        sys.argv = list(arguments)
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
