"""APEL-R's model: exact plan filtering, the planner language model, its training state and its checkpoints."""

from apelr_model.belief import condition, cross_boundary, forecast
from apelr_model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from apelr_model.chunks import ChunkRule
from apelr_model.config import ModelConfig, OptimConfig, V1Config, V1LossWeights
from apelr_model.errors import CheckpointError, ImpossibleObservationError, NonFiniteError
from apelr_model.filter import FilterResult, filter_sequence
from apelr_model.generation import GeneratedToken, generate
from apelr_model.objective import TokenBatch
from apelr_model.planner_lm import ModelState, PlannerLM, build_model
from apelr_model.sampling import NothingLeftError, SamplingSettings
from apelr_model.scoring import Evaluation, Score, evaluate, score
from apelr_model.training import StepReport, Trainer, check_precision

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ChunkRule",
    "Evaluation",
    "FilterResult",
    "GeneratedToken",
    "ImpossibleObservationError",
    "ModelConfig",
    "ModelState",
    "NonFiniteError",
    "NothingLeftError",
    "OptimConfig",
    "PlannerLM",
    "SamplingSettings",
    "Score",
    "StepReport",
    "TokenBatch",
    "Trainer",
    "V1Config",
    "V1LossWeights",
    "build_model",
    "check_precision",
    "condition",
    "cross_boundary",
    "evaluate",
    "filter_sequence",
    "forecast",
    "generate",
    "load_checkpoint",
    "save_checkpoint",
    "score",
]
