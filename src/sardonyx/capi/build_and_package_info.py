"""The package's name and version, where ONNX Runtime keeps its own."""

from sardonyx import __version__

__all__ = ["__version__", "package_name"]

package_name = "sardonyx"
