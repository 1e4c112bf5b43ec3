"""APEL-R's model: exact plan filtering, the planner language model, its training state and its checkpoints."""

from apelr_model.batches import TokenBatch
from apelr_model.belief import condition, cross_boundary, forecast
from apelr_model.bootstrap import Interval
from apelr_model.build import build_model
from apelr_model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, write_checkpoint
from apelr_model.checkpoint_files import remove_old_checkpoints
from apelr_model.chunks import ChunkRule
from apelr_model.config import MixtureOfSoftmaxesConfig, ModelConfig, TransformerLMConfig, V1Config, V2Config
from apelr_model.continuations import Continuation, ContinuationScore, score_continuations
from apelr_model.costs import ModelCosts, count_costs
from apelr_model.errors import CheckpointError, ImpossibleObservationError, LostProcessError, NonFiniteError
from apelr_model.executor import Executor
from apelr_model.executor_config import ExecutorConfig, GRUConfig, TransformerConfig
from apelr_model.filter import FilterResult, filter_sequence
from apelr_model.fixed_carry import FixedCarry
from apelr_model.generation import GeneratedToken, generate
from apelr_model.gold_chunks import GoldChunks, LabelledBatch, read_gold_chunks
from apelr_model.head_config import DenseHeadConfig, FactorizedHeadConfig
from apelr_model.likelihood import MeanNLL, mean_nll
from apelr_model.lookahead import PlanForecast
from apelr_model.lookahead_skill import ForecastSkill, LookaheadSkill, lookahead_skill
from apelr_model.model_state import ModelState
from apelr_model.newest_checkpoint import FoundCheckpoint, load_newest_checkpoint
from apelr_model.plain_forms import plain_forms
from apelr_model.plan_matching import (
    PlanComparison,
    adjusted_rand_index,
    compare_plans,
    contingency,
    match_states,
    normalized_mutual_information,
)
from apelr_model.plan_paths import PlanPaths, plan_path_log_prob, sample_plans, viterbi_plans
from apelr_model.plan_recovery import (
    PlanAgreement,
    PlanRecovery,
    TransitionDistance,
    matched_transition_distance,
    plan_recovery,
)
from apelr_model.plan_splits import PlanSplit
from apelr_model.planner_diagnostics import PlannerDiagnostics, PlanStateDiagnostics, planner_diagnostics
from apelr_model.planner_lm import PlannerLM
from apelr_model.policy import PlanPolicy
from apelr_model.policy_check import policy_fields
from apelr_model.portable import checkpoint_from_parts, describe_checkpoint, portable_tensors
from apelr_model.posterior import SmoothedPlans, fixed_lag_plans, pairwise_plans, smooth_plans
from apelr_model.precision import check_arithmetic
from apelr_model.prototype import RecordedTokenizer
from apelr_model.sampling import NothingLeftError, SamplingSettings
from apelr_model.scoring import Evaluation, Score, evaluate, score
from apelr_model.session import SessionState, TextSession
from apelr_model.steering import Steering, steering
from apelr_model.streaming import StreamedToken, StreamingFilter, StreamState
from apelr_model.text_repetition import TextRepetition, text_repetition
from apelr_model.training import StepReport, Trainer
from apelr_model.training_config import LossWeights, NoLossWeights, OptimConfig, V1LossWeights, V2LossWeights
from apelr_model.trellis import PlanTrellis, plan_trellis
from apelr_model.typical_tokens import typical_tokens
from apelr_model.whole_folder import new_folder
from apelr_model.world import World

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ChunkRule",
    "Continuation",
    "ContinuationScore",
    "DenseHeadConfig",
    "Evaluation",
    "Executor",
    "ExecutorConfig",
    "FactorizedHeadConfig",
    "FilterResult",
    "FixedCarry",
    "ForecastSkill",
    "FoundCheckpoint",
    "GRUConfig",
    "GeneratedToken",
    "GoldChunks",
    "ImpossibleObservationError",
    "Interval",
    "LabelledBatch",
    "LookaheadSkill",
    "LossWeights",
    "LostProcessError",
    "MeanNLL",
    "MixtureOfSoftmaxesConfig",
    "ModelConfig",
    "ModelCosts",
    "ModelState",
    "NoLossWeights",
    "NonFiniteError",
    "NothingLeftError",
    "OptimConfig",
    "PlanAgreement",
    "PlanComparison",
    "PlanForecast",
    "PlanPaths",
    "PlanPolicy",
    "PlanRecovery",
    "PlanSplit",
    "PlanStateDiagnostics",
    "PlanTrellis",
    "PlannerDiagnostics",
    "PlannerLM",
    "RecordedTokenizer",
    "SamplingSettings",
    "Score",
    "SessionState",
    "SmoothedPlans",
    "Steering",
    "StepReport",
    "StreamState",
    "StreamedToken",
    "StreamingFilter",
    "TextRepetition",
    "TextSession",
    "TokenBatch",
    "Trainer",
    "TransformerConfig",
    "TransformerLMConfig",
    "TransitionDistance",
    "V1Config",
    "V1LossWeights",
    "V2Config",
    "V2LossWeights",
    "World",
    "adjusted_rand_index",
    "build_model",
    "check_arithmetic",
    "checkpoint_from_parts",
    "compare_plans",
    "condition",
    "contingency",
    "count_costs",
    "cross_boundary",
    "describe_checkpoint",
    "evaluate",
    "filter_sequence",
    "fixed_lag_plans",
    "forecast",
    "generate",
    "load_checkpoint",
    "load_newest_checkpoint",
    "lookahead_skill",
    "match_states",
    "matched_transition_distance",
    "mean_nll",
    "new_folder",
    "normalized_mutual_information",
    "pairwise_plans",
    "plain_forms",
    "plan_path_log_prob",
    "plan_recovery",
    "plan_trellis",
    "planner_diagnostics",
    "policy_fields",
    "portable_tensors",
    "read_gold_chunks",
    "remove_old_checkpoints",
    "sample_plans",
    "save_checkpoint",
    "score",
    "score_continuations",
    "smooth_plans",
    "steering",
    "text_repetition",
    "typical_tokens",
    "viterbi_plans",
    "write_checkpoint",
]
