"""Audits a Parameter Golf submission: code, run configuration, logs and claims together."""

from auditor import compiled

__version__ = "0.1.0"
compiled.use()
