"""The package's face and house rules: names offered, imports, docstrings, and no epsilon in the core."""

import ast
import inspect
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import apelr_model

FOLDER = Path(apelr_model.__file__).parent
SOURCES = sorted(FOLDER.glob("*.py"))
CORE = ["filter", "losses", "emissions", "planner", "planner_lm", "objective", "sampling", "generation", "scoring"]
CORE += ["arithmetic", "chain", "trellis", "posterior", "plan_paths", "streaming"]
CORE += [
    "arithmetic",
    "belief",
    "chain",
    "gate",
    "policy",
    "chunks",
    "segments",
    "context_gate",
    "plan_state",
    "planner_versions",
]
CORE += ["batch_statistics", "batches", "carried_plan"]
PURE = [
    "arithmetic",
    "assignment",
    "belief",
    "biased_log_probs",
    "chain",
    "chunks",
    "commitment",
    "filter",
    "future_contrast",
    "gate",
    "linear_log_probs",
    "losses",
]
PURE += [
    "plain_forms",
    "running_sum",
    "plan_matching",
    "plan_paths",
    "policy",
    "posterior",
    "rules",
    "segments",
    "slices",
    "trellis",
]
PUBLIC = [
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


def tree_of(name):
    return ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))


def code_of(name):
    """The source without comments and docstrings."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return " ".join(t.string for t in tokens if t.type not in (tokenize.COMMENT, tokenize.STRING))


def imported_modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_the_public_names_are_frozen():
    assert apelr_model.__all__ == PUBLIC
    assert all(hasattr(apelr_model, name) for name in PUBLIC)


def test_the_init_file_only_imports():
    tree = tree_of("__init__")
    kinds = [type(node).__name__ for node in tree.body]
    assert set(kinds[1:-1]) == {"ImportFrom"}
    assert "\n" not in ast.get_docstring(tree)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_source_imports_torch_the_standard_library_and_this_package_only(path):
    extra = {"safetensors"} if path.stem == "shard_files" else set()
    allowed = {"torch", "apelr_model", *extra, *sys.stdlib_module_names}
    found = {module.split(".")[0] for module in imported_modules(tree_of(path.stem))}
    assert found <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_source_defines_what_it_offers(path):
    module = sys.modules.get(f"apelr_model.{path.stem}", apelr_model)
    assert path.stem == "__init__" or set(module.__all__) <= set(vars(module))
    assert module.__doc__


@pytest.mark.parametrize("name", PURE)
def test_mathematics_stays_apart_from_modules_configuration_and_disk(name):
    """Functions of tensors, and the values that say how they are to be used; they rest on one another alone."""
    tree = tree_of(name)
    modules = set(imported_modules(tree))
    assert {module for module in modules if module.startswith("apelr_model")} <= {
        f"apelr_model.{each}" for each in PURE
    }
    assert "nn" not in {alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names}
    assert not {"pathlib", "os", "io"} & modules


def test_only_the_checkpoint_files_touch_the_disk():
    shards = ("shard_files", "shard_manifest", "sharded_checkpoint")
    for path in SOURCES:
        if path.stem in ("checkpoint", "checkpoint_files", "newest_checkpoint", "archive", "whole_folder", *shards):
            continue
        assert not {"os", "pathlib", "shutil", "zipfile", "io"} & set(imported_modules(tree_of(path.stem))), path.name
        calls = {n.func.id for n in ast.walk(tree_of(path.stem)) if isinstance(n, ast.Call) and hasattr(n.func, "id")}
        assert not calls & {"open", "print", "exec", "eval", "input"}, path.name


def test_importing_prints_nothing_needs_torch_alone_and_leaves_random_numbers_alone():
    """Every package that torch does not need itself is hidden; the model works without them."""
    script = """
import sys
class WithoutOthers:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, *rest):
        hidden = {"numpy", "scipy", "hmmlearn", "hypothesis", "tokenizers", "pydantic", "yaml", "pytest",
                  "transformers", "safetensors",
                  "apelr_tokenizers", "apelr_data", "apelr_cli"}
        return None if name.split(".")[0] in hidden else self.finder.find_spec(name, *rest)
sys.meta_path[:] = [WithoutOthers(finder) for finder in sys.meta_path]
import warnings
warnings.filterwarnings("ignore")
import torch
state, threads, dtype = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
import apelr_model as am
assert torch.equal(torch.get_rng_state(), state)
assert torch.get_num_threads() == threads and torch.get_default_dtype() == dtype
assert torch.is_grad_enabled() and not torch.are_deterministic_algorithms_enabled()
model = am.build_model(am.V1Config(token_dim=4, hidden_dim=4, fusion_dim=4), 7)
list(am.generate(model, [[1, 2]], am.SamplingSettings(), max_new_tokens=3, seeds=[0]))
am.score(model, [1, 2, 3])
batch = am.TokenBatch(torch.zeros(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.long), torch.tensor([5, 3]))
am.Trainer(model, am.OptimConfig(), am.V1LossWeights(chunk_bow_weight=0.1)).train_step(batch)
am.evaluate(model, [batch])
sizes = dict(token_dim=4, hidden_dim=4, executor=am.TransformerConfig(num_heads=1))
for config in (am.V2Config(**sizes), am.MixtureOfSoftmaxesConfig(**sizes), am.TransformerLMConfig(**sizes)):
    model = am.build_model(config, 7)
    list(am.generate(model, [[1, 2]], am.SamplingSettings(), max_new_tokens=3, seeds=[0]))
    am.score(model, [1, 2, 3])
    am.Trainer(model, am.OptimConfig(), am.NoLossWeights()).train_step(batch)
    am.evaluate(model, [batch])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def tensor_functions():
    """Every public function, and method of a public class, whose signature takes a Tensor; forward passes included."""
    for path in SOURCES:
        body = tree_of(path.stem).body
        methods = [n for c in body if isinstance(c, ast.ClassDef) and not c.name.startswith("_") for n in c.body]
        for node in (*body, *methods):
            if not isinstance(node, ast.FunctionDef) or (node.name.startswith("_") and node.name != "__call__"):
                continue
            arguments = [*node.args.args, *node.args.kwonlyargs]
            if any(a.annotation is not None and ast.unparse(a.annotation).startswith("Tensor") for a in arguments):
                yield pytest.param(node, id=f"{path.stem}.{node.name}")


@pytest.mark.parametrize("node", list(tensor_functions()))
def test_a_public_tensor_function_opens_with_its_shapes(node):
    first = ast.get_docstring(node).splitlines()[0]
    assert re.search(r"\[[A-Z.a-z0-9, _]+\]", first), first


@pytest.mark.parametrize("name", CORE)
def test_no_epsilon_and_no_clamped_belief_in_the_core(name):
    code = code_of(name)
    assert not re.search(r"\beps(ilon)?\b", code, re.IGNORECASE)
    assert not re.search(r"\b\d*\.?\d*e-\d", code)
    assert "nan_to_num" not in code
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            assert node.value in (0.0, 1.0, 0.9, 0.95), node.value
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("clamp_", "clip", "clip_", "clamp_min", "clamp_max")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "clamp":
            # Whole numbers only: counts, lengths and places, never a probability.
            (bound,) = node.keywords
            assert not node.args
            assert type(getattr(bound.value, "value", None)) is int or ".shape" in ast.unparse(bound.value)
            subject = ast.unparse(node.func.value)
            assert any(word in subject for word in ("bincount", "length", "counts", "first")), subject


def test_the_recursion_is_written_once():
    """`condition` and `cross_boundary` are defined in one place, and nobody else sums or moves beliefs."""
    once = {"condition", "cross_boundary", "forecast", "filter_sequence", "gate_weights", "log_gate"}
    homes = {}
    for path in SOURCES:
        for node in tree_of(path.stem).body:  # methods adapt them
            if isinstance(node, ast.FunctionDef) and node.name in once:
                homes.setdefault(node.name, []).append(path.stem)
        # Beside the filter's sums over a chunk there are only counts, and the mass of likely tokens.
        counts = ("running_sum", "segments", "batch_statistics", "sampling")
        assert "cumsum" not in code_of(path.stem) or path.stem in counts, path.name
        assert "logsumexp" not in code_of(path.stem), path.name
    assert homes == {
        "condition": ["belief"],
        "cross_boundary": ["belief"],
        "forecast": ["belief"],
        "filter_sequence": ["filter"],
        "gate_weights": ["gate"],
        "log_gate": ["gate"],
    }


def configurations():
    for path in SOURCES:
        for node in tree_of(path.stem).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith(
                ("Config", "Sizes", "Weights", "Policy", "Settings")
            ):
                yield pytest.param(node, id=node.name)


@pytest.mark.parametrize("node", list(configurations()))
def test_every_field_of_a_configuration_is_followed_by_its_sentence(node):
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert documented, field.target.id
            assert isinstance(after.value.value, str), field.target.id


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isclass(getattr(apelr_model, name))])
def test_public_classes_say_what_they_are(name):
    made = getattr(apelr_model, name)
    assert made.__doc__
    assert not made.__doc__.startswith(f"{name}(")


@pytest.mark.parametrize(
    "name", ["CheckpointError", "ImpossibleObservationError", "NonFiniteError", "NothingLeftError"]
)
def test_named_errors_are_value_errors(name):
    assert issubclass(getattr(apelr_model, name), ValueError)
