"""The rulebook: one rule a file, named after what is wrong."""

from auditor.rules.base import Context, Rule
from auditor.rules.catalogue import all_rules, axis_of

__all__ = ["Context", "Rule", "all_rules", "axis_of"]
