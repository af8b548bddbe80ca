"""The ablation as a table, a plot and plain figures; differences are taken seed by seed."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from hedge_record.ablation import AblationRow
from hedge_record.config import RecordConfig
from hedge_record.data.corpus import data_identity
from hedge_record.data.folder import DataFolder
from hedge_record.files import write_atomically
from hedge_record.pictures import INK, QUIET, png_bytes

COMMAND_OF = {True: "hedge-record ablate", False: "hedge-record ablate --quick"}


def write_ablation(
    folder: Path,
    base: RecordConfig,
    data: DataFolder,
    seeds: Sequence[int],
    validation_targets: int | None,
    rows: Sequence[AblationRow],
) -> None:
    """Writes `ablation.md`, `ablation.json` and `ablation.png`.

    Raises:
        RecordError: the folder cannot be written to.
    """
    command = COMMAND_OF[validation_targets is None]
    scored = "all" if validation_targets is None else f"the first {validation_targets:,}"
    seed_list = ",".join(map(str, seeds))
    head = (
        f"# What each part is worth\n\n"
        f"`{command} --seeds {seed_list}`: preset {base.name} on `{data.path.name}`, "
        f"{scored} validation targets, seeds {seed_list.replace(',', ', ')}. Bits per byte, mean "
        "± standard deviation over seeds; a difference is that of the final score to the base's "
        "with the same seed. Every variant differs from the base in the one thing that its row "
        "names.\n\n"
    )
    tail = "\n\n![difference of the final score to the base](ablation.png)\n"
    write_atomically(folder / "ablation.md", head + ablation_table(rows) + tail)
    write_atomically(folder / "ablation.png", ablation_picture(rows))
    content = {
        "command": f"{command} --seeds {seed_list}",
        "base": base.to_json(),
        "data": {"folder": data.path.name, **data_identity(data.path)},
        "validation_targets": validation_targets,
        "seeds": list(seeds),
        "rows": [
            {
                "part": row.variant.part,
                "name": row.variant.name,
                "scores": [vars(scores) for scores in row.scores],
            }
            for row in rows
        ],
    }
    write_atomically(folder / "ablation.json", json.dumps(content, indent=2) + "\n")


def ablation_table(rows: Sequence[AblationRow]) -> str:
    """A Markdown table, one variant per line."""
    lines = [
        "| part | variant | sliding | adapted | final | difference | model bytes |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row, differences in zip(rows, final_differences(rows), strict=True):
        cells = [
            row.variant.part,
            row.variant.name,
            _spread([scores.sliding for scores in row.scores]),
            _spread([scores.adapted for scores in row.scores]),
            _spread([scores.final for scores in row.scores]),
            _spread(differences, signed=True) if row is not rows[0] else "",
            f"{statistics.fmean(scores.model_bytes for scores in row.scores):,.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ablation_picture(rows: Sequence[AblationRow]) -> bytes:
    """A PNG: each variant's difference to the base, a dot per seed and a bar for the mean."""
    figure = Figure(figsize=(6.4, 0.9 + 0.26 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for height, differences in enumerate(final_differences(rows)):
        axes.barh(height, statistics.fmean(differences), color=INK, height=0.55, alpha=0.8)
        axes.plot(differences, [height] * len(differences), "o", color=QUIET, markersize=3)
    axes.set_yticks(
        range(len(rows)), [f"{row.variant.part}: {row.variant.name}" for row in rows], fontsize=8
    )
    axes.invert_yaxis()
    axes.axvline(0, color=QUIET, linewidth=0.8)
    axes.set_xlabel("final score minus the base's (bits per byte; right is worse)")
    axes.spines[["top", "right"]].set_visible(False)
    return png_bytes(figure)


def final_differences(rows: Sequence[AblationRow]) -> list[list[float]]:
    """Each row's final scores minus those of the first row, seed by seed."""
    base = rows[0].scores
    return [
        [scores.final - of_base.final for scores, of_base in zip(row.scores, base, strict=True)]
        for row in rows
    ]


def _spread(values: Sequence[float], *, signed: bool = False) -> str:
    mean = f"{statistics.fmean(values):{'+' if signed else ''}.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean
