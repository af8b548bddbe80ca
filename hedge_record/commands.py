"""What the commands of `hedge-record` do; with `console`, the part of the package that prints."""

import datetime
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from hedge_record.audit import audit_folder
from hedge_record.bundle import build_bundle, pack_source
from hedge_record.command_data import bundle_data_paths, prepare_data, run_digest
from hedge_record.comparisons import ablate_command, bench_command, sweep_command
from hedge_record.config import PRESETS, RecordConfig
from hedge_record.console import CONSOLE, console_reporter, score_table, size_table
from hedge_record.data.corpus import data_identity
from hedge_record.data.embedded import prepare_embedded
from hedge_record.data.fineweb import FineWebSource, download_fineweb
from hedge_record.data.folder import DataFolder, open_data_folder
from hedge_record.errors import RecordError
from hedge_record.event_log import JsonReporter, tracked
from hedge_record.files import make_folder, write_atomically
from hedge_record.pipeline import (
    ARTIFACT_NAME,
    describe_hardware,
    evaluate_artifact,
    run_record,
)
from hedge_record.progress import Reporter, SilentReporter
from hedge_record.record_folder import (
    SCRIPT_NAME,
    Submitter,
    config_of,
    read_submission,
    seeds_to_join,
    write_record_folder,
)
from hedge_record.result import RecordResult
from hedge_record.run_plan import plan_of
from hedge_record.stages import FreshStages
from hedge_record.training.distributed import (
    Ranks,
    connected_ranks,
    sum_over_ranks,
    torchrun_variable,
)
from hedge_record.work_folder import WorkFolder

__all__ = [
    "ablate_command",
    "bench_command",
    "bundle_data_paths",
    "sweep_command",
]  # found here by the parser

EMBEDDED_PREFIX = "embedded_sp"


def run_command(options: Namespace) -> int:
    """`hedge-record run`: from data to a record folder, and its audit where that is asked for."""
    if options.dry_run:
        return _dry_run(options)
    base = PRESETS[options.preset]()
    date = datetime.date.today().isoformat()
    folder: Path = options.out or Path("submissions") / f"{date}_{base.name}"
    results = []
    with (
        connected_ranks() as (ranks, device),
        run_reporter(options, folder.name, active=ranks.is_first) as reporter,
    ):
        data = _shared_data(options, base, ranks, device, reporter)
        # What would fail at the end had better fail before training.
        data.check_validation_size(base.evaluation.sequence_length)
        for seed in options.seeds:
            seeds_to_join(make_folder(folder), replace(base, seed=seed), data)
        # The same script for every seed: the log's size of the code is that of the file.
        script = build_bundle(base, *bundle_data_paths(data))
        for seed in options.seeds:
            config = replace(base, seed=seed)
            results.append(
                _run_seed(options, config, data, script, folder, ranks, device, reporter)
            )
    if not ranks.is_first:
        return 0
    if options.log_format == "json":
        submission = read_submission(folder)
        audit = list(audit_folder(folder)) if options.audit else []
        keys = ("val_bpb", "val_bpb_std", "val_loss", "bytes_total", "seeds")
        figures = {key: submission[key] for key in keys}
        JsonReporter().event("result", folder=str(folder), audit=audit, **figures)
        return 0
    for result in results:
        CONSOLE.print(score_table(result), size_table(result))
    CONSOLE.print(f"record folder: {folder}", soft_wrap=True)
    if options.audit:
        for line in audit_folder(folder):
            CONSOLE.print(line, markup=False, soft_wrap=True)
    return 0


def _dry_run(options: Namespace) -> int:
    """`hedge-record run --dry-run`: prints what would be done, and about what it would take."""
    base = PRESETS[options.preset]()
    ranks = torchrun_variable("WORLD_SIZE", 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    as_json = options.log_format == "json"
    with console_reporter(CONSOLE, quiet=as_json) as bars:
        data = prepare_data(options, base, bars)
        plan = plan_of(replace(base, seed=options.seeds[0]), data, device, ranks)
    if torchrun_variable("RANK", 0) > 0:
        return 0
    if as_json:
        JsonReporter().event("plan", seeds=options.seeds, **vars(plan))
        return 0
    CONSOLE.print(f"{describe_hardware(device, ranks)}; data {data.path}", soft_wrap=True)
    for line in plan.lines(base):
        CONSOLE.print(line, markup=False, soft_wrap=True)
    if len(options.seeds) > 1:
        CONSOLE.print(f"that {len(options.seeds)} times, once a seed")
    return 0


@contextmanager
def run_reporter(options: Namespace, name: str, *, active: bool) -> Iterator[Reporter]:
    """What shows a run as its options ask; silent on ranks that are not the first."""
    with ExitStack() as stack:
        reporter: Reporter = SilentReporter()
        if active:
            reporter = JsonReporter()
            if options.log_format != "json":
                reporter = stack.enter_context(console_reporter(CONSOLE))
            tracker = tracked(reporter, options.track, name, options.work_root / "tensorboard")
            reporter = stack.enter_context(tracker)
        yield reporter


def _run_seed(
    options: Namespace,
    config: RecordConfig,
    data: DataFolder,
    script: str,
    folder: Path,
    ranks: Ranks,
    device: torch.device,
    reporter: Reporter,
) -> RecordResult:
    """Runs one seed and adds it to the record folder."""
    name = f"{config.name}_seed{config.seed}_{run_digest(script, data)}"
    work = WorkFolder(options.work_root / name, reuse=ranks.world_size == 1)
    result = run_record(
        config,
        data,
        work.path / ARTIFACT_NAME,
        code_bytes=len(script.encode("utf-8")),
        device=device,
        reporter=reporter,
        stages=work if ranks.is_first else FreshStages(),
        checkpoints=work.path,
    )
    if ranks.is_first:
        write_record_folder(
            folder,
            config,
            result,
            artifact=work.path / ARTIFACT_NAME,
            script=script,
            log_lines=work.log_lines(),
            data=data,
            submitter=Submitter(options.author, options.github_id),
        )
        work.remove()
    return result


def evaluate_command(options: Namespace) -> int:
    """`hedge-record evaluate`: scores a record folder's artifact again, beside its claim."""
    submission = read_submission(options.folder)
    config = config_of(submission)
    with connected_ranks() as (ranks, device), console_reporter(CONSOLE) as bars:
        reporter = bars if ranks.is_first else SilentReporter()
        data = _data_of_submission(options, submission, config, reporter)
        quantized, adaptive = evaluate_artifact(
            config, data, options.folder / ARTIFACT_NAME, device=device, reporter=reporter
        )
    if ranks.is_first:
        claimed = submission["seed_results"][str(config.seed)]["val_bpb"]
        CONSOLE.print(f"sliding window      {quantized.bpb:.6f} bpb")
        CONSOLE.print(f"adapted model alone {adaptive.neural.bpb:.6f} bpb")
        CONSOLE.print(f"final score         {adaptive.score.bpb:.6f} bpb")
        CONSOLE.print(f"claimed             {claimed:.6f} bpb")
        CONSOLE.print(f"difference          {adaptive.score.bpb - claimed:+.1e} bpb")
    return 0


def bundle_command(options: Namespace) -> int:
    """`hedge-record bundle`: writes a preset as one self-contained file."""
    config = PRESETS[options.preset]()
    if options.data is None:
        name = f"fineweb10B_sp{config.model.vocab_size}"
        tokenizer = f"fineweb_{config.model.vocab_size}_bpe.model"
        paths = (f"./data/{name}", f"./data/{name}/{tokenizer}")
    else:
        paths = bundle_data_paths(open_data_folder(options.data))
    path = make_folder(options.folder) / SCRIPT_NAME
    source = build_bundle(config, *paths)
    packed = pack_source(source)
    write_atomically(path, packed if options.packed else source)
    sizes = f"{len(source.encode('utf-8')):,} bytes, {len(packed):,} packed"
    CONSOLE.print(f"{path}: {sizes}", soft_wrap=True)
    return 0


def embedded_command(options: Namespace) -> int:
    """`hedge-record data embedded`."""
    with console_reporter(CONSOLE) as reporter:
        data = prepare_embedded(
            options.data_root,
            options.vocab_size,
            reporter=reporter,
            development=options.development,
        )
    return _report_data(data)


def fineweb_command(options: Namespace) -> int:
    """`hedge-record data fineweb`."""
    source = FineWebSource.from_environment()
    if options.endpoint:
        source = replace(source, endpoint=options.endpoint)
    with console_reporter(CONSOLE) as reporter:
        data = download_fineweb(
            options.data_root,
            vocab_size=options.vocab_size,
            training_shards=options.shards,
            source=source,
            reporter=reporter,
        )
    return _report_data(data)


def _report_data(data: DataFolder) -> int:
    identity = data_identity(data.path)
    for split, counts in identity.get("counts", {}).items():
        CONSOLE.print(
            f"{split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens, "
            f"{counts['bytes']:,} bytes"
        )
    CONSOLE.print(f"data folder: {data.path}")
    return 0


def _shared_data(
    options: Namespace,
    config: RecordConfig,
    ranks: Ranks,
    device: torch.device,
    reporter: Reporter,
) -> DataFolder:
    """The data of a run; the first rank prepares it while the others wait."""
    if ranks.is_first:
        data = prepare_data(options, config, reporter)
    sum_over_ranks(torch.zeros(1, device=device))
    return data if ranks.is_first else prepare_data(options, config, reporter)


def _data_of_submission(
    options: Namespace, submission: dict[str, object], config: RecordConfig, reporter: Reporter
) -> DataFolder:
    claimed = submission["data"]
    assert isinstance(claimed, dict)
    name = str(claimed["folder"])
    if options.data is None and name.startswith(EMBEDDED_PREFIX):
        data = prepare_embedded(options.data_root, config.model.vocab_size, reporter=reporter)
    else:
        data = open_data_folder(options.data or options.data_root / Path(name).name)
    if data_identity(data.path)["files"] != claimed["files"]:
        raise RecordError(
            f"{data.path}: not the data that {options.folder} was scored on; give it with --data"
        )
    return data
