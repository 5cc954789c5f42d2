"""Runs programs that are written for ONNX Runtime: `import onnxruntime` gives them this package.

    python -m sardonyx.dropin SCRIPT ...      or -m MODULE ..., or -c CODE ...
    sardonyx.dropin.install()                 at the beginning of a program

`importlib.metadata` reports the distribution `onnxruntime` with the version whose interface this package has. No files are
installed: a finder is put in front of the import system. Packages of an installed ONNX Runtime that are written in Python
over its public interface (quantization, tools, transformers) are still found, and then use this package.
"""

from sardonyx.dropin.finder import VERSION, install, uninstall

__all__ = ["VERSION", "install", "uninstall"]
