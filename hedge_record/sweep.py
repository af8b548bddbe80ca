"""A search over named hyperparameters, every candidate with several seeds.

Optuna keeps the study in a storage of its own: a second machine that is given the same storage
takes part in it, and a study that was interrupted goes on. A candidate that does worse after a seed
than the median of the others did is given up. Trainings, artifacts and scores are shared as in an
ablation.
"""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import torch
from optuna.trial import FrozenTrial, Trial, TrialState
from scipy.stats import t as student

from hedge_record.ablation import scores_of
from hedge_record.config import RecordConfig
from hedge_record.data.folder import DataFolder
from hedge_record.errors import RecordError
from hedge_record.progress import Reporter

STUDY_NAME = "hedge-record"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
Number = int | float


@dataclass(frozen=True)
class Hyperparameter:
    """One that can be searched over: how it is set, read, and which values are tried."""

    section: str
    field: str
    kind: type[int] | type[float]
    choices: Callable[[Number], tuple[Number, ...]]  # from the base's value

    def of(self, config: RecordConfig) -> Number:
        """Its value in a configuration."""
        value: Number = getattr(getattr(config, self.section), self.field)
        return value

    def set(self, config: RecordConfig, value: Number) -> RecordConfig:
        """The configuration with another value."""
        section = replace(getattr(config, self.section), **{self.field: self.kind(value)})
        return replace(config, **{self.section: section})


HYPERPARAMETERS = {
    "xsa-layers": Hyperparameter("model", "xsa_layers", int, lambda n: (0, int(n) // 2, n)),
    "bigram-buckets": Hyperparameter(
        "model", "bigram_buckets", int, lambda n: (int(n) // 2, n, 2 * n)
    ),
    "stride": Hyperparameter("evaluation", "stride", int, lambda n: (n, int(n) // 2, int(n) // 4)),
    "ttt-epochs": Hyperparameter("evaluation", "ttt_epochs", int, lambda _: (0, 1, 2, 4)),
    "crown-q": Hyperparameter(
        "training", "crown_q_lambda", float, lambda _: (0.0, 0.003, 0.01, 0.03)
    ),
}


@dataclass(frozen=True)
class Candidate:
    """Values that were tried; `scores` are final bits per byte by seed, fewer if given up."""

    values: Mapping[str, Number]
    scores: Mapping[int, float]
    pruned: bool
    is_base: bool = False

    @property
    def mean(self) -> float:
        """Bits per byte over its seeds."""
        return statistics.fmean(self.scores.values())


@dataclass(frozen=True)
class Against:
    """A candidate's difference to the base over the seeds that both have, in bits per byte."""

    mean: float
    deviation: float | None  # with two seeds or more
    p_value: float | None  # two-sided paired t-test


def parse_choices(settings: Sequence[str], base: RecordConfig) -> dict[str, tuple[Number, ...]]:
    """What is searched: `NAME` or `NAME=V,V,...` each; all of them by their own choices if empty.

    The base's own value is always among them.

    Raises:
        RecordError: a name that there is not, or a value that is no number.
    """
    found = {}
    for setting in settings or tuple(HYPERPARAMETERS):
        name, _, text = setting.partition("=")
        if name not in HYPERPARAMETERS:
            known = ", ".join(HYPERPARAMETERS)
            raise RecordError(f"--vary {setting}: no such hyperparameter; choose from {known}")
        parameter = HYPERPARAMETERS[name]
        own = parameter.of(base)
        try:
            values = tuple(map(parameter.kind, text.split(","))) if text else parameter.choices(own)
        except ValueError as error:
            raise RecordError(f"--vary {setting}: {error}") from error
        found[name] = tuple(dict.fromkeys((own, *values)))
    return found


def run_sweep(
    base: RecordConfig,
    choices: Mapping[str, tuple[Number, ...]],
    data: DataFolder,
    seeds: Sequence[int],
    *,
    trials: int,
    storage: str,
    work: Path,
    validation_targets: int | None,
    device: torch.device,
    reporter: Reporter,
) -> list[Candidate]:
    """Tries candidates until the study holds `trials` of them, the base first; all of them.

    Raises:
        RecordError: bad data, a diverging candidate, or a storage of another study.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    identity = {
        "base": base.to_json(),
        "choices": {name: list(values) for name, values in choices.items()},
        "seeds": list(seeds),
        "validation_targets": validation_targets,
    }
    study = _open_study(storage, base.seed, identity)

    def objective(trial: Trial) -> float:
        config = base
        for name, values in choices.items():
            chosen = trial.suggest_categorical(name, values)
            config = HYPERPARAMETERS[name].set(config, chosen)
        scores: dict[str, float] = {}
        for step, seed in enumerate(seeds):
            one = scores_of(replace(config, seed=seed), data, work, validation_targets, device)
            scores[str(seed)] = one.final
            trial.set_user_attr("scores", scores)
            mean = statistics.fmean(scores.values())
            trial.report(mean, step)
            reporter.log(f"trial {trial.number} {trial.params} seed {seed}: {one.final:.4f}")
            if step + 1 < len(seeds) and trial.should_prune():
                raise optuna.TrialPruned
        return mean

    own = {name: HYPERPARAMETERS[name].of(base) for name in choices}
    # A base that was interrupted is tried again: everything is compared with it.
    if not any(t.params == own and t.state in ENDED for t in study.trials):
        study.enqueue_trial(own, skip_if_exists=True)
    reporter.start("sweep", trials, "trials")
    reporter.advance(_ended(study))
    while _ended(study) < trials:
        study.optimize(objective, n_trials=1, catch=())
        reporter.advance(1)
    reporter.finish()
    return [_candidate(trial, own) for trial in study.get_trials(deepcopy=False, states=ENDED)]


def against_base(candidate: Candidate, base: Candidate) -> Against:
    """The difference seed by seed, and how likely chance alone makes one as large."""
    shared = [seed for seed in candidate.scores if seed in base.scores]
    differences = [candidate.scores[seed] - base.scores[seed] for seed in shared]
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return Against(mean, None, None)
    deviation = statistics.stdev(differences)
    if deviation == 0:
        return Against(mean, deviation, 1.0 if mean == 0 else 0.0)
    statistic = abs(mean) / (deviation / len(differences) ** 0.5)
    return Against(mean, deviation, float(2 * student.sf(statistic, len(differences) - 1)))


def base_of(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate that changes nothing, in its most complete trial."""
    same = [candidate for candidate in candidates if candidate.is_base]
    return max(same, key=lambda candidate: len(candidate.scores))


def _open_study(storage: str, seed: int, identity: Mapping[str, object]) -> optuna.Study:
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=STUDY_NAME,
            sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
            load_if_exists=True,
        )
    except Exception as error:  # SQLAlchemy's are not ours to import
        raise RecordError(f"{storage}: no study can be opened there ({error})") from error
    held = study.user_attrs.get("identity")
    if held is None:
        study.set_user_attr("identity", identity)
        held = study.user_attrs["identity"]
    if held != json.loads(json.dumps(identity)):
        raise RecordError(
            f"{storage}: holds a study of another base, grid or seeds; name another --storage"
        )
    return study


def _ended(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=ENDED))


def _candidate(trial: FrozenTrial, own: Mapping[str, Number]) -> Candidate:
    scores = {int(seed): bpb for seed, bpb in trial.user_attrs["scores"].items()}
    pruned = trial.state == TrialState.PRUNED
    return Candidate(dict(trial.params), scores, pruned, is_base=trial.params == own)
