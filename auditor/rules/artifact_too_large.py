"""A1: code and compressed model together exceed 16,000,000 bytes."""

from collections.abc import Iterator
from dataclasses import dataclass

from auditor.evidence.packing import packed_bytes
from auditor.finding import Axis, Basis, Confidence, Evidence, Finding, Status
from auditor.rules.base import Context, Rule

CAP = 16_000_000  # bytes, decimal
_MODELS = (".ptz", ".pt.zst", ".safetensors", ".int8.ptz", ".int6.ptz")


@dataclass(frozen=True)
class _Total:
    """One way of counting: what it is called, its bytes, the lines it rests on."""

    convention: str
    bytes: int
    evidence: tuple[Evidence, ...]


class ArtifactTooLarge(Rule):
    """Counts the artifact by the three conventions under which records were merged."""

    id = "A1"
    title = "code and model exceed 16,000,000 bytes"
    axis = Axis.VALIDITY
    what = (
        "The bytes of code and compressed model, counted in three ways: the shipped script with "
        "the model; where that is over the cap, the script as it would be if packed, with the "
        "model; the total that logs or submission.json state. It fails where every known count is "
        "over the cap, and where every total that the submission itself states is over it."
    )
    why = "All submissions are compared at one size; a larger one buys its score with bytes."
    source = "README: 16,000,000 bytes, decimal; PRs 1809 and 1835 judged by the logged total"
    precedents = ("#1809", "#1835")
    legal = (
        "A self-extracting script counts as shipped. Tokenizer files and helpers without data have "
        "not been counted so far. A count that exceeds the cap while a stated total is within it "
        "is a note."
    )
    known_misses = (
        "a lone script without model or log has no total to judge",
        "a stated total within the cap is believed where no log and no file contradicts it",
    )
    version = 3

    def check(self, context: Context) -> Iterator[Finding]:
        """A pass, a note or a failure with every count that is known."""
        stated = _stated(context)
        totals = [*_largest(stated), *_counted(context)]
        if not totals:
            yield self.finding(
                Status.NOT_APPLICABLE, "no log, no submission.json and no model states a size"
            )
            return
        over = [t for t in totals if t.bytes > CAP]
        text = "; ".join(f"{t.convention} {t.bytes:,}" for t in totals)
        evidence = tuple(e for t in (over or totals) for e in t.evidence)
        basis = Basis.CLAIM if all(t.convention == "claimed" for t in totals) else Basis.LOG
        if not over:
            yield self.finding(Status.PASS, f"within {CAP:,} bytes: {text}", evidence, basis=basis)
        elif len(over) == len(totals):
            yield self.finding(
                Status.FAIL, f"over {CAP:,} bytes by every count: {text}", evidence, basis=basis
            )
        elif stated and all(t.bytes > CAP for t in stated):
            yield self.finding(
                Status.FAIL,
                f"over {CAP:,} bytes by every total that the submission states: {text}",
                tuple(e for t in stated for e in t.evidence),
                basis=basis,
                confidence=Confidence.MEDIUM,
            )
        else:
            yield self.finding(
                Status.NOTE,
                f"over {CAP:,} bytes by some counts, not by all: {text}",
                evidence,
                basis=basis,
                confidence=Confidence.MEDIUM,
            )


def _stated(context: Context) -> list[_Total]:
    """The total of each log that prints one, and the largest of submission.json."""
    totals = []
    for log in context.claims.logs:
        named = [s for s in log.sizes_of("total") if s.codec]
        if named:
            size = min(named[-2:], key=lambda s: s.bytes)
            totals.append(_Total("logged", size.bytes, (size.evidence,)))
    claimed = context.claims.submission_json
    if claimed is not None and claimed.bytes_total is not None:
        figure = claimed.bytes_total
        totals.append(_Total("claimed", int(figure.value), (figure.evidence,)))
    return totals


def _largest(totals: list[_Total]) -> Iterator[_Total]:
    """The largest total over the logs (each seed counts), and that of submission.json."""
    for convention in ("logged", "claimed"):
        named = [t for t in totals if t.convention == convention]
        if named:
            yield max(named, key=lambda t: t.bytes)


def _counted(context: Context) -> Iterator[_Total]:
    """The model with the script as shipped and, where that is too large, with the script packed."""
    model = _model(context)
    if model is None:
        return
    size, evidence = model
    main = context.submission.main
    yield _Total("shipped", size + len(main.data), (evidence, Evidence(main.path, 0, "the script")))
    if size + len(main.data) <= CAP:
        return
    packed = packed_bytes(main.data)
    if packed < len(main.data):
        yield _Total("packed", size + packed, (evidence, Evidence(main.path, 0, "packed")))


def _model(context: Context) -> tuple[int, Evidence] | None:
    """Bytes of the compressed model: the largest over the logs, else the file, else the claim."""
    sizes = []
    for log in context.claims.logs:
        named = [s for s in log.sizes_of("model") if s.codec]
        if named:
            sizes.append(named[-1])
    if sizes:
        largest = max(sizes, key=lambda s: s.bytes)
        return largest.bytes, largest.evidence
    for path, file in context.submission.files.items():
        if path.endswith(_MODELS):
            return len(file.data), Evidence(file.path, 0, f"{len(file.data):,} bytes")
    claimed = context.claims.submission_json
    if claimed is not None and claimed.bytes_model is not None:
        return int(claimed.bytes_model.value), claimed.bytes_model.evidence
    return None
