"""Two small pictures of a run: the training loss, and the score as test-time training goes on."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hedge_record.evaluation.bits_per_byte import Score

INK, QUIET = "#1f4e79", "#9aa5b1"


def loss_picture(losses: Sequence[tuple[int, float]]) -> bytes:
    """A PNG of the training loss over steps, nats per token."""
    figure, axes = _axes("step", "training loss (nats per token)")
    steps = [step for step, _ in losses]
    axes.plot(steps, [loss for _, loss in losses], color=INK, linewidth=1.2)
    return png_bytes(figure)


def chunk_picture(per_chunk: Sequence[Score], sliding_bpb: float) -> bytes:
    """A PNG of the bits per byte of each chunk and of all chunks so far.

    `sliding_bpb` is drawn as the level that the same weights reach without adaptation.
    """
    figure, axes = _axes("chunk", "bits per byte")
    numbers = range(1, len(per_chunk) + 1)
    scored = [chunk for chunk in per_chunk if chunk.bytes]
    so_far, running = Score(), []
    for chunk in per_chunk:
        so_far += chunk
        running.append(so_far.bpb if so_far.bytes else float("nan"))
    axes.plot(
        [n for n, chunk in zip(numbers, per_chunk, strict=True) if chunk.bytes],
        [chunk.bpb for chunk in scored],
        "o",
        color=QUIET,
        markersize=3,
        label="this chunk",
    )
    axes.plot(numbers, running, color=INK, linewidth=1.6, label="all chunks so far")
    axes.axhline(sliding_bpb, color=QUIET, linewidth=1, linestyle="--", label="fixed model, all")
    axes.legend(frameon=False, fontsize=8)
    return png_bytes(figure)


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e9ed", linewidth=0.8)
    return figure, axes


def png_bytes(figure: Figure) -> bytes:
    """The picture as a PNG."""
    buffer = io.BytesIO()
    # No software version and no date: the same run gives the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
