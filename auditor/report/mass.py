"""What the mass probe measured, for reports: they draw it, and quote it beside the claim."""

from auditor.dossier import Dossier
from auditor.dynamic.result import MassResult, ScorerMass


def measured(dossier: Dossier) -> list[ScorerMass]:
    """The scorers with positions that were measured, in the probe's order."""
    result = dossier.probed.get("mass")
    if not isinstance(result, MassResult):
        return []
    return [scorer for scorer in result.scorers if scorer.positions]
