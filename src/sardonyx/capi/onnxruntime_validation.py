"""Functions that ONNX Runtime calls when it is imported."""

from sardonyx.capi.build_and_package_info import __version__, package_name


def check_distro_info() -> None:
    """Do nothing: every system with Python is supported."""


def get_package_name_and_version_info() -> tuple[str, str, str]:
    """Return (package, version, CUDA version: none)."""
    return package_name, __version__, ""
