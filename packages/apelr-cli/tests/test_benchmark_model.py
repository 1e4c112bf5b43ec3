import json

import pytest
import torch

from apelr_cli import benchmark_model as benchmark_model_module
from apelr_cli.benchmark_costs import decoding_bytes, training_flops
from apelr_cli.benchmark_model import DECODED, MANY_ROWS, benchmark_model
from apelr_cli.benchmark_page import bench_page
from apelr_cli.benchmark_timing import Times
from apelr_cli.train_config import ControlTrainConfig, V2TrainConfig
from apelr_model import PlannerLM, TransformerLMConfig, V2Config, build_model, count_costs

SIZES = {"token_dim": 6, "hidden_dim": 8}
ALWAYS = {
    "matrix_product_flops_per_second",
    "memory_bytes_per_second",
    "training_tokens_per_second",
    "training_share_of_matrix_product_rate",
    "evaluation_tokens_per_second",
    "evaluation_share_of_matrix_product_rate",
    "decoding_tokens_per_second",
    "decoding_share_of_bandwidth_bound",
    "batch_decoding_tokens_per_second",
    "batch_decoding_ratio",
}
OF_A_PLAN = {"training_ratio_to_transformer_lm", "planner_share_of_training"}


class Timer:
    """Gives every work a time of its own, and runs each once."""

    def __init__(self, **known):
        self.known = known
        self.settings = {}

    def __call__(self, works, **settings):
        self.settings = settings
        for name, work in works.items():
            if not name.startswith(("product 2048", "read 536870912")):
                work()
        return Times({name: (self.known.get(name.partition(" ")[0], 1.0),) * settings["rounds"] for name in works})


@pytest.fixture
def model(device):
    torch.manual_seed(0)
    return build_model(V2Config(num_plan_states=3, chunk_size=4, **SIZES), 20).to(device)


TRAIN = V2TrainConfig(batch_size=3, seq_len=10)


def test_figures_are_amounts_over_times(model):
    timer = Timer(training=2.0, control=0.5, planner=0.1, product=0.25, evaluation=4.0, decoding=8.0, read=0.5)
    found = benchmark_model(model, TRAIN, rounds=2, timer=timer)
    figures = {name: None if each is None else each.median for name, each in found.figures.items()}
    assert set(figures) == ALWAYS | OF_A_PLAN
    assert figures["training_tokens_per_second"] == 30 / 2.0
    assert figures["evaluation_tokens_per_second"] == 30 / 4.0
    assert figures["training_ratio_to_transformer_lm"] == 4.0
    assert figures["planner_share_of_training"] == 0.05
    assert figures["matrix_product_flops_per_second"] == 2 * 2048**3 / 0.25
    assert figures["memory_bytes_per_second"] == 2**29 / 0.5
    flops = 30 * training_flops(model, 10)
    assert figures["training_share_of_matrix_product_rate"] == pytest.approx(flops / 2.0 / (2 * 2048**3 / 0.25))
    flops = 30 * sum(count_costs(model, 10).flops_per_token.values())
    assert figures["evaluation_share_of_matrix_product_rate"] == pytest.approx(flops / 4.0 / (2 * 2048**3 / 0.25))
    assert figures["decoding_tokens_per_second"] == DECODED / 8.0
    bound = 2**29 / 0.5
    assert figures["decoding_share_of_bandwidth_bound"] == pytest.approx(DECODED * decoding_bytes(model) / 8.0 / bound)
    assert figures["batch_decoding_tokens_per_second"] == DECODED * MANY_ROWS / 8.0
    assert figures["batch_decoding_ratio"] == MANY_ROWS
    assert timer.settings["rounds"] == 2
    assert timer.settings["device"] == model.device


@pytest.mark.parametrize("faster", ["product", "sum"])
def test_memory_s_limit_is_the_faster_way_to_read(model, faster):
    def timer(works, **settings):
        assert sum(name.startswith(f"read {2**29} ") for name in works) == 2
        return Times({name: (0.5 if name == f"read {2**29} bytes, {faster}" else 1.0,) for name in works})

    figures = benchmark_model(model, TRAIN, rounds=1, timer=timer).figures
    assert figures["memory_bytes_per_second"].median == 2**29 / 0.5
    share = figures["decoding_share_of_bandwidth_bound"].median
    assert share == pytest.approx(DECODED * decoding_bytes(model) / (2**29 / 0.5))


def test_decoding_alone_is_compiled_with_weights_in_fewer_bits(device, monkeypatch):
    model = build_model(V2Config(num_plan_states=3, chunk_size=4, **SIZES), 200).to(device)  # small ones stay float32
    compiled, drawn = [], []
    monkeypatch.setattr(PlannerLM, "compile_decoding", lambda each: compiled.append(each))
    monkeypatch.setattr(benchmark_model_module, "decoding", lambda each, *_: drawn.append(each) or (lambda: None))
    plain = benchmark_model(model, TRAIN, rounds=1, timer=Timer())
    assert drawn == [model, model]
    assert (compiled, plain.about["compile"], plain.about["weights"]) == ([], False, "fp32")
    found = benchmark_model(model, TRAIN, rounds=1, compiled=True, weights="int8", timer=Timer())
    (kept,) = compiled
    assert drawn[2:] == [kept, kept]
    assert (kept.weight_form, model.weight_form) == ("int8", None)
    assert (found.about["compile"], found.about["weights"]) == (True, "int8")
    assert found.about["decoding_bytes_per_token"] == decoding_bytes(kept) < decoding_bytes(model)
    assert "\ndecoding, compiled, int8 weights\n" in bench_page(found)
    assert "\ndecoding\n" in bench_page(plain)


def test_steps_and_the_planner_s_part_go_on_after_those_of_the_checkpoint(model, monkeypatch):
    seen = []
    for name in ("training_steps", "planner_part"):
        real = getattr(benchmark_model_module, name)
        monkeypatch.setattr(
            benchmark_model_module, name, lambda *given, real=real, **more: seen.append(more) or real(*given, **more)
        )
    benchmark_model(model, TRAIN, rounds=1, step=7, timer=Timer())
    assert seen == [{"step": 7}, {}, {"step": 7}]


def test_the_object_as_json(model, device):
    found = benchmark_model(model, TRAIN, rounds=3, timer=Timer()).plain()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    own = {"model_version": "v2_planner_required", "vocab_size": 20, "batch_size": 3, "seq_len": 10, "rounds": 3}
    assert own.items() <= found.items()
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["precision"] == "fp32"
    assert found["training_flops_ratio_to_transformer_lm"] > 1
    assert found["figures"]["planner_share_of_training"] == {"median": 1, "lower_quartile": 1, "upper_quartile": 1}
    assert (found["peak_training_memory_bytes"] is None) == (device == "cpu")


def test_a_model_without_a_plan_has_nothing_to_stand_beside(device):
    model = build_model(TransformerLMConfig(**SIZES), 20).to(device)
    train = ControlTrainConfig(batch_size=2, seq_len=8)
    found = benchmark_model(model, train, rounds=1, timer=Timer())
    assert {name for name, figure in found.figures.items() if figure is None} == OF_A_PLAN
    assert found.about["training_flops_ratio_to_transformer_lm"] is None
    assert "times those of transformer_lm" not in bench_page(found)


def test_the_page_shows_every_figure(model):
    found = benchmark_model(model, TRAIN, rounds=1, timer=Timer(training=2.0, planner=0.1))
    page = bench_page(found)
    assert page.startswith("v2_planner_required, ")
    assert "batches of 3 x 10, fp32, 1 rounds" in page
    assert "  targets a second               15  (15 to 15)\n" in page
    assert "  filter, gate and evidence      5 % of the step  (5 to 5)\n" in page
    assert "times those of transformer_lm\n" in page
    assert sum(line.startswith("  ") for line in page.splitlines()) == len(ALWAYS | OF_A_PLAN)
