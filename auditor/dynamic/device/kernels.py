"""Packages of GPU kernels: Triton by its own interpreter, others by their public definitions."""


def install() -> None:
    """Puts small stand-ins in the place of packages that are not installed."""
