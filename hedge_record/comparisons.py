"""What the commands do that compare: `ablate`, `bench` and `sweep`."""

import json
from argparse import Namespace

import torch
from rich.table import Table

from hedge_record.ablation import ablation_base, run_ablation
from hedge_record.ablation_report import ablation_table, write_ablation
from hedge_record.bench import (
    QUICK_BENCH_TARGETS,
    Bench,
    bench_settings,
    prepare_bench_data,
    run_pairs,
)
from hedge_record.bench_figures import Pair, bench_report
from hedge_record.bundle import build_bundle
from hedge_record.command_data import bundle_data_paths, prepare_data, run_digest
from hedge_record.console import CONSOLE, console_reporter
from hedge_record.errors import RecordError
from hedge_record.evaluation.bits_per_byte import Score
from hedge_record.files import make_folder
from hedge_record.pipeline import ARTIFACT_NAME, RecordRun
from hedge_record.progress import Reporter, SilentReporter


def ablate_command(options: Namespace) -> int:
    """`hedge-record ablate`: the table of what each part of the record is worth."""
    base, targets = ablation_base(quick=options.quick)
    with console_reporter(CONSOLE) as bars:
        data = prepare_data(options, base, bars)
        script = build_bundle(base, *bundle_data_paths(data))
        rows = run_ablation(
            base,
            data,
            options.seeds,
            work=make_folder(options.work_root / f"ablation_{run_digest(script, data)}"),
            validation_targets=targets,
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            reporter=bars,
        )
    write_ablation(make_folder(options.out), base, data, options.seeds, targets, rows)
    CONSOLE.print(ablation_table(rows), markup=False)
    CONSOLE.print(f"written: {options.out}", soft_wrap=True)
    return 0


def bench_command(options: Namespace) -> int:
    """`hedge-record bench`: our speed, memory and honest score against the original's."""
    if not options.against.is_file():
        raise RecordError(f"{options.against}: no such script; give the original train_gpt.py")
    twin, honest = bench_settings(quick=options.quick)
    as_json = options.format == "json"
    with console_reporter(CONSOLE, quiet=as_json) as bars:
        whole = prepare_data(options, twin, bars)
        size = "quick" if options.quick else "full"
        work = make_folder(options.work_root / f"bench_{size}_{whole.path.name}")
        targets = QUICK_BENCH_TARGETS if options.quick else None
        data = prepare_bench_data(whole, work / "data", targets)
        bench = Bench(twin, honest, data, work)
        pairs = run_pairs(bench, options.against, options.runs, bars)
        ours, neural = _honest_scores(bench, bars)
    report = bench_report(pairs, ours.bpb, neural.bpb)
    if as_json:
        print(json.dumps(report))
        return 0
    CONSOLE.print(_cost_table(pairs))
    for name, figures in report.items():
        CONSOLE.print(f"{name}: {figures}", markup=False, soft_wrap=True)
    return 0


def _honest_scores(bench: Bench, reporter: Reporter) -> tuple[Score, Score]:
    """Our final score, and that of the model alone with a sliding window."""
    log = SilentReporter()
    reporter.start("honest score", 4, "stages")
    run = RecordRun(
        bench.honest,
        bench.data,
        bench.work / ARTIFACT_NAME,
        torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        None,
    )
    run.train(log)
    reporter.advance(1)
    run.export(0, log)
    reporter.advance(1)
    neural = Score(**run.score_quantized(log)["score"])
    reporter.advance(1)
    final = Score(**run.score_adaptive(log)["score"])
    reporter.advance(1, bpb=final.bpb)
    reporter.finish()
    return final, neural


def _cost_table(pairs: list[Pair]) -> Table:
    """CPU seconds, memory and scores of every run."""
    table = Table(title="One thread on the virtual GPU, CPU seconds", title_justify="left")
    for name in ("run", "training", "sliding", "TTT + mixer", "peak MB", "sliding bpb", "TTT bpb"):
        table.add_column(name, justify="right")
    for number, pair in enumerate(pairs, start=1):
        for name, side in (("original", pair.theirs), ("ours", pair.ours)):
            table.add_row(
                f"{number} {name}",
                *(f"{seconds:.1f}" for seconds in (side.training, side.sliding, side.ttt)),
                f"{side.peak_bytes / 1e6:,.0f}",
                f"{side.sliding_bpb:.4f}",
                f"{side.ttt_bpb:.4f}",
            )
    return table


def sweep_command(options: Namespace) -> int:
    """`hedge-record sweep`: a search over hyperparameters, several seeds a candidate."""
    # Optuna is an extra: the other commands do without it.
    from hedge_record.sweep import parse_choices, run_sweep
    from hedge_record.sweep_report import sweep_table, write_sweep

    base, targets = ablation_base(quick=options.quick)
    choices = parse_choices(options.vary, base)
    out = make_folder(options.out)
    with console_reporter(CONSOLE) as bars:
        data = prepare_data(options, base, bars)
        script = build_bundle(base, *bundle_data_paths(data))
        candidates = run_sweep(
            base,
            choices,
            data,
            options.seeds,
            trials=options.trials,
            storage=options.storage or f"sqlite:///{out / 'study.db'}",
            work=make_folder(options.work_root / f"ablation_{run_digest(script, data)}"),
            validation_targets=targets,
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            reporter=bars,
        )
    write_sweep(out, base, choices, options.seeds, candidates)
    CONSOLE.print(sweep_table(candidates), markup=False)
    CONSOLE.print(f"written: {out}", soft_wrap=True)
    return 0
