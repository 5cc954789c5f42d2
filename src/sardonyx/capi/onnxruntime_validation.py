"""What ONNX Runtime asks its surroundings when it is imported."""

from sardonyx.capi.build_and_package_info import __version__, package_name


def check_distro_info() -> None:
    """Without effect: any system with Python will do."""


def get_package_name_and_version_info() -> tuple[str, str, str]:
    """(package, version, version of CUDA: none)"""
    return package_name, __version__, ""
