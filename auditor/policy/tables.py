"""The policies as tables: rule to weight, each with its source."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from auditor.errors import AuditError


class Weight(StrEnum):
    """What a rule's failure does to the verdict."""

    BREAKS = "breaks"  # the score does not stand, or the record is not ready
    WAITS = "waits"  # no ruling yet: pending
    NOTED = "noted"  # reported, without effect


@dataclass(frozen=True)
class Row:
    """One rule's weight and the word it rests on."""

    weight: Weight
    source: str


@dataclass(frozen=True)
class Margin:
    """By how much a record must beat the row before it, in nats, at which p-value."""

    nats: float
    p: float
    source: str


@dataclass(frozen=True)
class Policy:
    """A dated reading of the rules. A rule that it does not name breaks."""

    name: str
    date: str
    rows: Mapping[str, Row]
    margin: Margin

    def weight(self, rule: str) -> Weight:
        """The weight of a rule; a sub-rule (`C2b`) falls back on its rule (`C2`)."""
        row = self.rows.get(rule) or self.rows.get(rule[:2])
        return row.weight if row is not None else Weight.BREAKS


_BREAKS, _WAITS, _NOTED = Weight.BREAKS, Weight.WAITS, Weight.NOTED

README_2026_03 = Policy(
    "readme-2026-03",
    "2026-03-18",
    {
        "C1": Row(_NOTED, "not in the README of that date; asked for in issue 1017 later"),
        "C2": Row(_NOTED, "not in the README of that date; ruled on PR 779 on 2026-03-27"),
        "C3": Row(_BREAKS, "README: adapt only on tokens already evaluated"),
        "C4": Row(_NOTED, "two-pass scoring was ruled out on 2026-03-27"),
        "C5": Row(_NOTED, "ruled on PR 1797 on 2026-04-26"),
        "C6": Row(_NOTED, "ruled on PR 659 on 2026-03-25"),
        "C7": Row(_WAITS, "issue 1336 was never ruled on"),
        "D1": Row(_BREAKS, "README: no validation data during training"),
        "D2": Row(_BREAKS, "README: no training data at evaluation"),
        "D3": Row(_BREAKS, "README: the fixed validation set, all of it"),
        "T1": Row(_BREAKS, "README: training in 10 minutes; a run that is over is made again"),
        "T2": Row(_BREAKS, "README: evaluation in 10 minutes; beyond them there is no score"),
        "B1": Row(_BREAKS, "README: a changed tokenizer must be shown to count right"),
        "A1": Row(_BREAKS, "README: code and compressed model within 16,000,000 bytes"),
        "N1": Row(_BREAKS, "README: no network calls during evaluation"),
        "L1": Row(_BREAKS, "README: packages may not smuggle in computation"),
        "A2": Row(_BREAKS, "README: the artifact is all that evaluation has"),
        "S2": Row(_NOTED, "README: most often an average over 3 runs is sufficient"),
        "F1": Row(_BREAKS, "README: files of a submission"),
        "F2": Row(_BREAKS, "README: records run on 8xH100 SXM"),
        "R1": Row(_NOTED, "how low a fair score can be was not known at that date"),
    },
    Margin(0.005, 0.01, "README: at least 0.005 nats better than the best, at p < 0.01"),
)

FRONTIER_2026_04 = Policy(
    "frontier-2026-04",
    "2026-05-02",
    {
        "C1": Row(_BREAKS, "issue 1017, applied by the maintainers"),
        "C2": Row(_BREAKS, "issue 1017; rulings on PRs 779 and 982 of 2026-03-27"),
        "C2c": Row(_BREAKS, "byte mixtures excluded in PR 1902 of 2026-04-28"),
        "C3": Row(_BREAKS, "issue 1017; rulings on PRs 568, 1376 and 1972"),
        "C4": Row(_BREAKS, "two-pass rescoring disallowed on 2026-03-27; PR 991"),
        "C5": Row(_NOTED, "ruled on PR 1797, disputed in issue 1988; rows with it stayed"),
        "C6": Row(_BREAKS, "ruling on PR 659 of 2026-03-25: one mixture before scoring"),
        "C7": Row(_BREAKS, "condition 1 of issue 1017; PR 1240; causal fits wait for issue 1336"),
        "D1": Row(_BREAKS, "README; PRs 44, 168, 728"),
        "D2": Row(_BREAKS, "README; rulings on PRs 535, 569 and 639 in issue 677"),
        "D3": Row(_BREAKS, "README; issue 2127 and PR 2146"),
        "T1": Row(_BREAKS, "README; readiness: PR 1908 was over and was run again as PR 1956"),
        "T2": Row(_BREAKS, "README; PR 1972: the score itself needs more than the budget"),
        "B1": Row(_BREAKS, "README; PR 1806 removed the row of PR 1184"),
        "A1": Row(_BREAKS, "README; PRs 1809 and 1835"),
        "N1": Row(_BREAKS, "README: no network calls during evaluation"),
        "L1": Row(_BREAKS, "README: packages may not smuggle in computation; PR 1856"),
        "A2": Row(_BREAKS, "README; the maintainers' word of 2026-03-25: only 16 MB cross"),
        "S2": Row(_BREAKS, "README; readiness: audit notes on PRs 1963, 2020 and 2124"),
        "F1": Row(_BREAKS, "README; audit notes on PRs 2013 and 2103"),
        "F2": Row(_BREAKS, "README: records run on 8xH100 SXM"),
        "R1": Row(_BREAKS, "README: reproducible; no reviewed score below one bit a byte stood"),
    },
    Margin(0.0, 0.25, "PRs 1900 and 1902: better than the row before it, at p < 0.25"),
)

POLICIES: Mapping[str, Policy] = {p.name: p for p in (FRONTIER_2026_04, README_2026_03)}


def policy(name: str) -> Policy:
    """A policy by name; `AuditError` where there is none."""
    if name not in POLICIES:
        raise AuditError(f"no policy is called {name!r}; there are {', '.join(POLICIES)}")
    return POLICIES[name]
