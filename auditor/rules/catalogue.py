"""Every rule, in the order of reports. Also holds which axis a rule id belongs to."""

from collections.abc import Mapping

from auditor.finding import Axis
from auditor.rules.artifact_too_large import ArtifactTooLarge
from auditor.rules.base import Rule
from auditor.rules.byte_count_wrong import ByteCountWrong
from auditor.rules.byte_mixture import RealisedBytesMixed
from auditor.rules.claim_not_logged import ClaimNotLogged
from auditor.rules.distribution_knows_target import DistributionKnowsTarget
from auditor.rules.evaluation_too_long import EvaluationTooLong
from auditor.rules.expert_ignores_target import ExpertIgnoresTarget
from auditor.rules.hardware import Hardware
from auditor.rules.implausible_score import ImplausibleScore
from auditor.rules.late_training_data import LateTrainingData
from auditor.rules.mass_not_one import MassNotOne
from auditor.rules.missing_files import MissingFiles
from auditor.rules.native_payload import NativePayload
from auditor.rules.network_reachable import NetworkReachable
from auditor.rules.oracle_selection import OracleSelection
from auditor.rules.realised_token_gate import RealisedTokenGate
from auditor.rules.scored_more_than_once import ScoredMoreThanOnce
from auditor.rules.slot_on_scored_positions import SlotOnScoredPositions
from auditor.rules.smear_across_documents import SmearAcrossDocuments
from auditor.rules.something_crosses import SomethingCrosses
from auditor.rules.split_not_canonical import SplitNotCanonical
from auditor.rules.target_in_lookup_key import TargetInLookupKey
from auditor.rules.too_few_seeds import TooFewSeeds
from auditor.rules.training_too_long import TrainingTooLong
from auditor.rules.update_before_score import UpdateBeforeScore
from auditor.rules.validation_data_in_training import ValidationDataInTraining

_RULES: tuple[type[Rule], ...] = (
    RealisedTokenGate,
    DistributionKnowsTarget,
    ExpertIgnoresTarget,
    MassNotOne,
    TargetInLookupKey,
    RealisedBytesMixed,
    UpdateBeforeScore,
    ScoredMoreThanOnce,
    OracleSelection,
    SlotOnScoredPositions,
    SmearAcrossDocuments,
    ValidationDataInTraining,
    LateTrainingData,
    SplitNotCanonical,
    ByteCountWrong,
    ArtifactTooLarge,
    SomethingCrosses,
    TrainingTooLong,
    EvaluationTooLong,
    ImplausibleScore,
    NetworkReachable,
    NativePayload,
    MissingFiles,
    ClaimNotLogged,
    TooFewSeeds,
    Hardware,
)


def all_rules() -> tuple[Rule, ...]:
    """One object of each rule."""
    return tuple(rule() for rule in _RULES)


def axis_of(rule: str) -> Axis:
    """The question that a rule answers, by id."""
    return _AXES.get(rule, Axis.VALIDITY)


_AXES: Mapping[str, Axis] = {rule.id: rule.axis for rule in _RULES}
