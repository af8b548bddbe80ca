"""C2, measured: the scored probabilities sum to more than one over the vocabulary."""

from collections.abc import Iterator
from dataclasses import replace

from auditor.dynamic.result import TOLERANCE, MassResult, ScorerMass
from auditor.finding import Axis, Basis, Evidence, Finding, Status
from auditor.program.dataflow.marks import Place
from auditor.rules.base import Context, Rule


class MassNotOne(Rule):
    """Reads the mass probe: what a scorer of the script sums to when every target is tried."""

    id = "C2"
    title = "the scored probabilities sum to more than one"
    axis = Axis.VALIDITY
    what = (
        "The script's own scorer was run in a sandbox past its warm-up; at several positions the "
        "loss of every possible token was taken from the same state, and exp(-loss) summed over "
        "the vocabulary."
    )
    why = (
        "A score is a code length. A code exists exactly if the probabilities sum to at most one "
        "(Kraft). What they sum to beyond that are bits which the score takes without paying: "
        "log2 of the sum at every token."
    )
    source = (
        "condition 2 of issue 1017: a full normalised distribution before the token is revealed"
    )
    precedents = ("#700", "#779", "#982")
    legal = (
        "Any mixture of distributions with weights that are fixed before the token is known; a "
        "sum below one, which only gives bits away."
    )
    known_misses = (
        "scoring inside the evaluation loop, or from other things than logits: not audited",
        "a script that recognises the probe",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One finding for each scorer that was measured or could not be."""
        result = context.dynamic.get("mass")
        if not isinstance(result, MassResult):
            yield self._dynamic(Status.NOT_APPLICABLE, "not measured: no probe was run")
            return
        if result.problem is not None:
            yield self._dynamic(Status.UNKNOWN, f"not audited: {result.problem}")
        worst = max((s.highest for s in result.scorers if s.exceeds), default=None)
        for scorer in result.scorers:
            finding = self._of_scorer(context, scorer)
            if finding.status is Status.FAIL and scorer.highest == worst and scorer.witness:
                yield replace(finding, witness=scorer.witness.to_json())
                worst = None  # one witness proves it
            else:
                yield finding

    def _of_scorer(self, context: Context, scorer: ScorerMass) -> Finding:
        evidence = (context.evidence(Place(scorer.path, scorer.line)), *_shrunk(scorer))
        called = f"{scorer.name}.{scorer.method}"
        if scorer.problem is not None:
            return self._dynamic(Status.UNKNOWN, f"not audited: {scorer.problem}", evidence)
        idle = _idle(context, scorer)
        if scorer.exceeds:
            reason = (
                f"what {called} scores sums to up to {scorer.highest:.4g} over the vocabulary: it "
                f"takes {scorer.mean_free_bits:.2f} bits a token without paying (mean of "
                f"{len(scorer.positions)} positions on a seeded stream; its loss of "
                f"{scorer.mean_nll:.2f} nats is {scorer.mean_honest_nll:.2f} once renormalised, "
                f"and the model alone has {scorer.mean_neural_nll:.2f})"
            )
            if idle:
                return self._dynamic(Status.NOTE, f"{reason}; but the run does not use it: {idle}")
            return self._dynamic(Status.FAIL, reason, evidence)
        if scorer.falls_short:
            reason = (
                f"what {called} scores sums to as little as {scorer.lowest:.4g}: bits given away"
            )
            return self._dynamic(Status.NOTE, reason, evidence)
        reason = (
            f"what {called} scores sums to one within {TOLERANCE:g} at all "
            f"{len(scorer.positions)} positions"
        )
        if idle:
            return self._dynamic(Status.NOTE, f"{reason}; but the run does not use it: {idle}")
        return self._dynamic(Status.PASS, reason, evidence)

    def _dynamic(self, status: Status, reason: str, evidence: tuple[Evidence, ...] = ()) -> Finding:
        return self.finding(status, reason, evidence, basis=Basis.DYNAMIC)


def _idle(context: Context, scorer: ScorerMass) -> str | None:
    """Why the configured run never scores with it, as far as settings and data flow tell."""
    if scorer.off is not None:
        return scorer.off
    trace = context.trace
    if trace.problem is None and scorer.method not in trace.called:
        return f"nothing that runs calls {scorer.method}"
    return None


def _shrunk(scorer: ScorerMass) -> Iterator[Evidence]:
    for line, written, used in scorer.shrunk:
        text = f"{written:,} here was run as {used:,}, to keep the real run's tokens per bucket"
        yield Evidence(scorer.path, line, text)
