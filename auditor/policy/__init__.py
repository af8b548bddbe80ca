"""Dated policies: what each rule weighed, at which time, and on whose word.

`README_2026_03` is the text of the challenge alone; `FRONTIER_2026_04` adds the rulings and the
practice by which the leaderboard was closed.
"""

from auditor.policy.tables import (
    FRONTIER_2026_04,
    POLICIES,
    README_2026_03,
    Margin,
    Policy,
    Row,
    Weight,
    policy,
)

__all__ = [
    "FRONTIER_2026_04",
    "POLICIES",
    "README_2026_03",
    "Margin",
    "Policy",
    "Row",
    "Weight",
    "policy",
]
