"""Every file in configs/ loads, states its version and sizes, and says in its first line what it is for."""

import re
from dataclasses import replace

import pytest
import torch
import yaml

from apelr_cli.config_reader import load_run_config
from apelr_cli.run_config import to_plain
from apelr_cli.shipped import find_config, shipped_description, shipped_names, shipped_text
from apelr_model import build_model

EXPECTED = [
    "tinystories_smoke",
    "tinystories_iter",
    "tinystories_selfbias_smoke",
    "tinystories_small",
    "tinystories_bpe_smoke",
    "tinystories_bpe_ident_iter",
    "tinystories_bpe_ident_cpk_scale",
    "wikitext2_bpe_ident_cpk",
    "wikitext2_bpe_ident_cpk_smoke",
    "cc_news_bpe_ident_cpk",
    "tinystories_bpe_ident_resume_sharp",
    "quickstart",
    "python_docs",
    "planted",
    "v2_quickstart",
    "v2_tinystories_cuda_fast",
    "v2_wikitext2_cuda_fast",
    "v2_fineweb_edu_65m",
    "v2_fineweb_edu_270m",
    "v2_fineweb_edu_1b",
]
EXECUTOR_SIZES = ["token_dim", "hidden_dim", "num_layers"]
MODEL_SIZES = {
    "v1_filtered_mixture": [*EXECUTOR_SIZES, "num_plan_states", "chunk_size", "fusion_dim"],
    "v2_planner_required": [*EXECUTOR_SIZES, "num_plan_states", "chunk_size"],
    "mixture_of_softmaxes": [*EXECUTOR_SIZES, "num_plan_states"],
    "transformer_lm": EXECUTOR_SIZES,
}
CONTROL_OF = {name: name.replace("v2_", "transformer_lm_") for name in EXPECTED if name.startswith("v2_")}
CONTROL_OF["python_docs"] = "transformer_lm_python_docs"
PLANNER_KEYS = ("loss_weights", "carry_belief", "planner_lr_scale", "split_interval")
NOT_V1 = ("v2", "transformer", "mixture", "planted", "python")

each_config = pytest.mark.parametrize("name", shipped_names())


def load(name):
    return load_run_config(find_config(name))


def count_parameters(name):
    config = load(name)
    with torch.device("meta"):
        model = build_model(config.model, config.tokenizer.vocab_size)
    return sum(each.numel() for each in model.parameters())


def trained_by(name):
    """What train says, but for the planner."""
    return {key: value for key, value in to_plain(load(name))["train"].items() if key not in PLANNER_KEYS}


def test_the_promised_configs_are_there():
    assert set(EXPECTED) <= set(shipped_names())


@each_config
def test_it_loads_and_states_its_version_and_sizes(name):
    stated = yaml.safe_load(shipped_text(name))
    assert stated["model"]["version"] == load(name).model.version
    assert set(MODEL_SIZES[stated["model"]["version"]]) <= set(stated["model"])
    assert {"type", "vocab_size"} <= set(stated["tokenizer"])
    assert {"seq_len", "batch_size", "max_steps", "lr"} <= set(stated["train"])
    assert "source" in stated["data"]


@each_config
def test_the_first_line_gives_size_and_time(name):
    line = shipped_description(name)
    parameters = count_parameters(name)
    stated = re.search(r"([\d.]+) million parameters", line).group(1)
    decimals = len(stated.partition(".")[2])
    assert f"{parameters / 1e6:.{decimals}f}" == stated
    assert re.search(r"minute|second|hour|night|GPU|as long", line)


@pytest.mark.parametrize("name", [name for name in shipped_names() if name.split("_")[0] not in NOT_V1])
def test_the_name_says_what_is_inside(name):
    config = load(name)
    words = name.split("_")
    assert config.tokenizer.type == ("bpe" if "bpe" in words or name == "quickstart" else "char")
    if "ident" in words:
        assert config.tokenizer.normalizer == "none"
        assert config.tokenizer.byte_level
        assert not config.tokenizer.lowercase
    assert (config.train.chunk_post_kl_weight > 0) == ("cpk" in words or "sharp" in words)
    assert (config.train.entropy_reg_weight > 0) == ("sharp" in words)
    if "smoke" in words:
        assert config.train.max_steps <= 100
    assert config.data.source == {"quickstart": "storyworld", "cc": "cc_news"}.get(words[0], words[0])


def test_selfbias_is_smoke_with_longer_plans():
    plain, biased = load("tinystories_smoke"), load("tinystories_selfbias_smoke")
    assert biased.model.planner_self_bias > plain.model.planner_self_bias
    assert biased.train == plain.train


def test_resume_sharp_fits_the_run_that_it_goes_on_from():
    first, second = load("tinystories_bpe_ident_cpk_scale"), load("tinystories_bpe_ident_resume_sharp")
    assert second.train.resume_from == "runs/tinystories_bpe_ident_cpk_scale/checkpoint.pt"
    assert (second.model, second.tokenizer, second.data) == (first.model, first.tokenizer, first.data)
    assert second.train.max_steps > first.train.max_steps


@pytest.mark.parametrize(("name", "other"), CONTROL_OF.items())
def test_each_v2_config_has_a_control_that_differs_in_its_model_alone(name, other):
    config, control = load(name), load(other)
    assert (config.model.version, control.model.version) == ("v2_planner_required", "transformer_lm")
    assert count_parameters(other) == pytest.approx(count_parameters(name), rel=0.03)
    assert (control.tokenizer, control.data, control.seed) == (config.tokenizer, config.data, config.seed)
    assert trained_by(name) == trained_by(other)


def test_planted_has_the_symbols_plans_and_chunks_of_its_model():
    config = load("planted")
    planted, model = config.data.planted, config.model
    assert (config.data.source, config.tokenizer.type) == ("planted", "identity")
    assert config.tokenizer.vocab_size == planted.vocab_size + len(config.tokenizer.special_tokens)
    assert (planted.num_plans, planted.chunk_size) == (model.num_plan_states, model.chunk_size)
    assert planted.chunk_offset == {"v1_filtered_mixture": 0, "v2_planner_required": 1}[model.version]
    assert config.train.seq_len % model.chunk_size == 0


@pytest.mark.parametrize("name", ["v2_quickstart", "python_docs"])
def test_what_is_compared_has_both_controls(name):
    mixture, plain = (f"{version}_{name.removeprefix('v2_')}" for version in ("mixture_of_softmaxes", "transformer_lm"))
    assert max(map(count_parameters, (name, mixture, plain))) < 1.04 * min(
        map(count_parameters, (name, mixture, plain))
    )
    for field in ("executor", "num_plan_states"):
        assert getattr(load(mixture).model, field) == getattr(load(name).model, field)
    heads = [load(each).model.head for each in (mixture, name)]
    assert replace(heads[0], init_std=1.0) == replace(heads[1], init_std=1.0)  # each begins as suits it
    for control in (mixture, plain):
        assert (load(control).tokenizer, load(control).data) == (load(name).tokenizer, load(name).data)
        assert trained_by(control) == trained_by(name)
    assert load(mixture).train.planner_lr_scale == 1  # the better one for a gate without memory
