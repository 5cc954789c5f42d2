"""Runs programs that are written for ONNX Runtime: `import onnxruntime` gives them this package.

    python -m sardonyx.dropin SCRIPT ...      or -m MODULE ..., or -c CODE ...
    sardonyx.dropin.install()                 at the beginning of a program

What programs ask about the distribution `onnxruntime` (`importlib.metadata`) is answered with the version of ONNX Runtime whose interface this
is. Nothing is written: the import system is asked to look here first. Parts of an installed ONNX Runtime that are Python over its public
interface (quantization, tools, transformers) are still found, and then work with this package.
"""

from sardonyx.dropin.finder import VERSION, install, uninstall

__all__ = ["VERSION", "install", "uninstall"]
