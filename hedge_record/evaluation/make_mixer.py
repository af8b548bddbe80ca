"""The mixer that a configuration asks for."""

import torch
from torch import Tensor

from hedge_record.config import EvaluationConfig
from hedge_record.errors import RecordError
from hedge_record.evaluation.hedge_mixer import HedgeMixer
from hedge_record.evaluation.mixture import CompliantMixer
from hedge_record.evaluation.ttt import Mixer


def make_mixer(
    config: EvaluationConfig, tokens: Tensor, vocab_size: int, device: torch.device
) -> Mixer | None:
    """A fresh mixer for one pass over the validation `tokens`, or None where none is wanted.

    As submitted, its vocabulary is read off the validation tokens before they are scored; the
    compliant one takes the tokenizer's `vocab_size`.

    Raises:
        RecordError: the compliant mixer together with `score_tail_repeatedly`.
    """
    if config.mixer == "as-submitted":
        return HedgeMixer(
            int(tokens.max()) + 1,
            buckets=config.ngram_buckets,
            eta=config.mixer_eta,
            gate_tokens=config.mixer_gate_tokens,
            temperature=config.temperature,
            device=device,
        )
    if config.mixer == "compliant":
        if config.score_tail_repeatedly:
            raise RecordError(
                "evaluation: the compliant mixer scores each target once; "
                "set score_tail_repeatedly to false or the mixer to as-submitted"
            )
        return CompliantMixer(
            vocab_size,
            buckets=config.ngram_buckets,
            block_tokens=config.mixer_block_tokens,
            experts=config.mixer_experts,
            device=device,
        )
    return None
