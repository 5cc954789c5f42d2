"""The package's name and version, at ONNX Runtime's path."""

from sardonyx import __version__

__all__ = ["__version__", "package_name"]

package_name = "sardonyx"
