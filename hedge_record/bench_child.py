"""What our side of `hedge-record bench` runs: it trains from given weights, then scores others.

Both sets come from the script that is measured against, so that every loss can be compared. Beside
this file lie `initial.pt` and `scored.pt`, state dicts of the configured model; `scored.pt` may be
absent, and training alone is measured then.
"""

from pathlib import Path

import torch

from hedge_record.config import RecordConfig
from hedge_record.data.folder import DataFolder
from hedge_record.evaluation.bits_per_byte import Score
from hedge_record.evaluation.make_mixer import make_mixer
from hedge_record.evaluation.sliding import score_sliding
from hedge_record.evaluation.ttt import score_first_ttt
from hedge_record.model.gpt import GPT
from hedge_record.model.precision import set_precision
from hedge_record.progress import SilentReporter
from hedge_record.training.distributed import connected_ranks
from hedge_record.training.loop import train

INITIAL_NAME, SCORED_NAME = "initial.pt", "scored.pt"
TRAINING_MARK, SLIDING_MARK, TTT_MARK = "bench:training", "bench:sliding", "bench:ttt"


class PrintingReporter(SilentReporter):
    """Prints log lines and nothing else."""

    def log(self, line: str) -> None:
        """Prints one line."""
        print(line, flush=True)


def bench_main(config: RecordConfig, script: str, data_path: str, tokenizer_path: str) -> None:
    """Trains and scores, with a mark printed at the start and a score at the end of each part."""
    folder = Path(script).parent
    data = DataFolder(Path(data_path), Path(tokenizer_path))
    reporter = PrintingReporter()
    with connected_ranks() as (_, device):

        def model_of(name: str) -> GPT:
            model = set_precision(GPT(config.model).to(device), config.training.precision)
            weights = torch.load(folder / name, map_location="cpu", weights_only=True)
            model.load_state_dict(weights)
            return model

        model = model_of(INITIAL_NAME)
        print(TRAINING_MARK, flush=True)
        stream = data.training_stream(config.model.vocab_size)
        train(model, stream, config, device=device, reporter=reporter)
        del model
        if not (folder / SCORED_NAME).exists():
            return
        model = model_of(SCORED_NAME)
        evaluation = config.evaluation
        tokens = data.validation_tokens(config.model.vocab_size, evaluation.sequence_length)
        table = data.byte_table(config.model.vocab_size)
        print(SLIDING_MARK, flush=True)
        _print_score(
            SLIDING_MARK,
            score_sliding(model, tokens, table, evaluation, device=device, reporter=reporter),
        )
        mixer = make_mixer(evaluation, tokens, config.model.vocab_size, device)
        print(TTT_MARK, flush=True)
        result = score_first_ttt(
            model, tokens, table, evaluation, device=device, reporter=reporter, mixer=mixer
        )
        _print_score(TTT_MARK, result.score)
        for name, figure in result.mixer_figures.items():
            print(f"mixer:{name}:{figure:.8f}", flush=True)


def _print_score(mark: str, score: Score) -> None:
    print(f"{mark}_exact val_loss:{score.loss:.8f} val_bpb:{score.bpb:.8f}", flush=True)
