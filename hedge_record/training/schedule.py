"""Learning rate and Muon momentum as functions of the step, or of the wall clock."""

from hedge_record.config import TrainingConfig


def lr_scale(step: int, elapsed_seconds: float, config: TrainingConfig) -> float:
    """What the learning rates are multiplied with at `step` (from 0): 1, then linear to 0.

    With a time budget the warmdown takes the last `warmdown_steps` steps' worth of it, at the
    mean time per step so far; without one, the last `warmdown_steps` of `iterations`.
    """
    if config.warmdown_steps <= 0:
        return 1.0
    if config.seconds is None:
        return min(1.0, max(config.iterations - step, 0) / config.warmdown_steps)
    warmdown = config.warmdown_steps * elapsed_seconds / max(step, 1)
    remaining = max(training_seconds(config) - elapsed_seconds, 0.0)
    return 1.0 if remaining > warmdown else remaining / max(warmdown, 1e-9)


def training_seconds(config: TrainingConfig) -> float:
    """The time budget without what is reserved for the Hessians; infinite without a budget."""
    return float("inf") if config.seconds is None else config.seconds - config.reserved_seconds


def muon_momentum(step: int, config: TrainingConfig) -> float:
    """Linear from `muon_momentum_start` to `muon_momentum` over the momentum warm-up."""
    share = min(step / max(config.muon_momentum_warmup_steps, 1), 1.0)
    return (1 - share) * config.muon_momentum_start + share * config.muon_momentum
