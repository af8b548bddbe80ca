"""What the probes measured, for reports: they draw it, and quote it beside the claim."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from auditor.dossier import Dossier
from auditor.dynamic.probes.result import ScriptResult
from auditor.dynamic.result import MassResult, ScorerMass


@dataclass(frozen=True)
class Honest:
    """A score of a shrunk run, and what it is once divided by its mass; bits per byte."""

    reported: float
    honest: float
    free: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Masses:
    """Sums over the vocabulary at sampled positions of one scorer; `words` say how it was done."""

    name: str
    values: tuple[float, ...]
    words: str
    honest: Honest | None = None


def script(dossier: Dossier) -> ScriptResult | None:
    """What the probes of whole runs say, if any were asked for."""
    found = (r for r in dossier.probed.values() if isinstance(r, ScriptResult))
    return next(found, None)


def masses(dossier: Dossier) -> list[Masses]:
    """Every scorer whose mass was measured."""
    return [*_of_classes(dossier), *_of_runs(dossier)]


def _of_classes(dossier: Dossier) -> Iterator[Masses]:
    for found in dossier.probed.values():
        if isinstance(found, MassResult):
            for scorer in found.scorers:
                if scorer.positions:
                    yield Masses(scorer.name, scorer.masses, _class_words(scorer))


def _class_words(scorer: ScorerMass) -> str:
    return (
        f"sum over the vocabulary at {len(scorer.positions)} positions, 1 is honest; loss "
        f"{scorer.mean_nll:.4f} nats, {scorer.mean_honest_nll:.4f} once divided by its sum, "
        f"{scorer.mean_free_bits:+.4f} bits a token taken without paying; on seeded logits, so no "
        "honest score of the trained model follows"
    )


def _of_runs(dossier: Dossier) -> Iterator[Masses]:
    run = script(dossier)
    for probe in run.probes if run is not None else ():
        values = probe.numbers.get("mass")
        if isinstance(values, list) and values:
            words = f"sum over the vocabulary at {len(values)} positions of a shrunk run"
            yield Masses("the whole script", tuple(values), words, _honest(probe.numbers))


def _honest(numbers: Any) -> Honest | None:
    reported, honest = numbers.get("bpb of this run"), numbers.get("honest bpb of this run")
    if reported is None or honest is None:
        return None
    low, high = numbers["95% interval"]
    return Honest(reported, honest, numbers["free bits a byte"], (low, high))
