"""A sweep as a table, a plot and plain figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from hedge_record.config import RecordConfig
from hedge_record.files import write_atomically
from hedge_record.pictures import INK, QUIET, png_bytes
from hedge_record.sweep import Against, Candidate, Number, against_base, base_of


def write_sweep(
    folder: Path,
    base: RecordConfig,
    choices: Mapping[str, tuple[Number, ...]],
    seeds: Sequence[int],
    candidates: Sequence[Candidate],
) -> None:
    """Writes `sweep.md`, `sweep.json` and `sweep.png`.

    Raises:
        RecordError: the folder cannot be written to.
    """
    searched = "; ".join(f"{name} {', '.join(map(str, v))}" for name, v in choices.items())
    head = (
        f"# Sweep\n\nBase: {base.name}. Searched: {searched}. Seeds {', '.join(map(str, seeds))}. "
        "Final score in bits per byte, mean ± standard deviation; differences to the base are "
        "taken seed by seed, and p is that of a two-sided paired t-test, not corrected for the "
        "number of candidates. A candidate that was given up has fewer seeds.\n\n"
    )
    tail = "\n\n![difference of each candidate to the base](sweep.png)\n"
    write_atomically(folder / "sweep.md", head + sweep_table(candidates) + tail)
    write_atomically(folder / "sweep.png", sweep_picture(candidates))
    content = {
        "base": base.to_json(),
        "choices": {name: list(values) for name, values in choices.items()},
        "seeds": list(seeds),
        "candidates": [
            {"values": dict(c.values), "scores": dict(c.scores), "pruned": c.pruned}
            | vars(against_base(c, base_of(candidates)))
            for c in candidates
        ],
    }
    write_atomically(folder / "sweep.json", json.dumps(content, indent=2) + "\n")


def sweep_table(candidates: Sequence[Candidate]) -> str:
    """A Markdown table, the best first."""
    base = base_of(candidates)
    names = list(base.values)
    lines = [
        f"| {' | '.join(names)} | seeds | final | difference | p |",
        f"|{'---:|' * (len(names) + 4)}",
    ]
    for candidate in _best_first(candidates):
        against = against_base(candidate, base)
        cells = [
            *(f"{candidate.values[name]:g}" for name in names),
            f"{len(candidate.scores)}{' (given up)' if candidate.pruned else ''}",
            f"{candidate.mean:.4f}",
            "base" if candidate.is_base else _difference(against),
            "" if against.p_value is None or candidate.is_base else f"{against.p_value:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def sweep_picture(candidates: Sequence[Candidate]) -> bytes:
    """A PNG: each candidate's difference to the base with its deviation, the best on top."""
    base = base_of(candidates)
    ordered = _best_first(candidates)
    figure = Figure(figsize=(7.2, 0.9 + 0.26 * len(ordered)), layout="constrained")
    axes = figure.add_subplot()
    for height, candidate in enumerate(ordered):
        against = against_base(candidate, base)
        axes.errorbar(
            against.mean,
            height,
            xerr=against.deviation,
            fmt="o",
            color=QUIET if candidate.pruned else INK,
            markersize=4,
            capsize=3,
        )
    labels = [" ".join(f"{name} {v:g}" for name, v in c.values.items()) for c in ordered]
    axes.set_yticks(range(len(ordered)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.axvline(0, color=QUIET, linewidth=0.8)
    axes.set_xlabel("final score minus the base's (bits per byte; right is worse)")
    axes.spines[["top", "right"]].set_visible(False)
    return png_bytes(figure)


def _best_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """One of each; a candidate that was drawn again has the same scores."""
    distinct = {tuple(sorted(c.values.items())): c for c in reversed(candidates)}
    return sorted(distinct.values(), key=lambda candidate: candidate.mean)


def _difference(against: Against) -> str:
    mean = f"{against.mean:+.4f}"
    return mean if against.deviation is None else f"{mean} ± {against.deviation:.4f}"
