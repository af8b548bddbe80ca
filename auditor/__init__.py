"""Audits a Parameter Golf submission: code, run configuration, logs and claims together."""

__version__ = "0.1.0"
