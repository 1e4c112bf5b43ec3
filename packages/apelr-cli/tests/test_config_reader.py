from dataclasses import fields, replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apelr_cli.config_reader import ConfigError, load_run_config, run_config_from_plain
from apelr_cli.run_config import RunConfig, to_plain, to_yaml
from apelr_cli.train_config import ControlTrainConfig, V1TrainConfig, V2TrainConfig
from apelr_data import DataConfig, MixedSource, PlantedConfig, SourceName
from apelr_model import (
    DenseHeadConfig,
    FactorizedHeadConfig,
    GRUConfig,
    MixtureOfSoftmaxesConfig,
    TransformerConfig,
    TransformerLMConfig,
    V1Config,
    V2Config,
    V2LossWeights,
)
from apelr_tokenizers import TokenizerConfig

MANY_MISTAKES = """\
sed: 3
model:
  version: v1_filtered_mixture
  num_experts: 3
  num_layers: two
  dropout: 1.5
tokenizer:
  type: cahr
  vocab_size: 3
data:
  source: tinystorys
  path: x
train:
  lr: -1.0
  learning_rate: 1e-4
  batch_size: 2
  grad_accum_steps: 1e1
  warmup_steps: abc
  max_steps: 0
"""


def problems_of(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_run_config(path, overrides)
    return str(caught.value).splitlines()


def test_an_empty_file_is_all_defaults(write_config):
    assert load_run_config(write_config("")) == RunConfig()


def test_every_problem_is_reported_at_once(write_config):
    assert problems_of(write_config(MANY_MISTAKES), "x", "device=gpu") == [
        "--set x must be of the form key.sub=value",
        "unknown key sed; did you mean seed?",
        "device must be one of auto, cpu, cuda, mps, got gpu",
        "model.num_experts belongs to model.version v2_planner_required, not v1_filtered_mixture",
        "model.num_layers must be an integer, got two",
        "model.dropout must be >= 0 and < 1, got 1.5",
        "tokenizer.type must be one of char, bpe, identity, got cahr; did you mean char?",
        "tokenizer.vocab_size must be >= 260 for byte-level BPE (256 bytes + 4 special tokens), got 3",
        "data.source must be one of storyworld, planted, python_docs, text, tinystories, wikitext103, wikitext2,"
        " fineweb_edu, fineweb, c4_en, wiki40b_en, cc_news, hf, got tinystorys; did you mean tinystories?",
        "unknown key train.learning_rate; did you mean train.lr?",
        "train.warmup_steps must be an integer, got abc",
        "train.lr must be > 0 and finite, got -1.0",
        "train.max_steps must be >= 1, got 0",
        "train.batch_size must be >= train.grad_accum_steps (10), a row for every micro-batch, got 2",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr: 3", "unknown key lr; did you mean train.lr?"),
        ("train: {source: text}", "unknown key train.source; did you mean data.source?"),
        ("trian: {lr: 3}", "unknown key trian; did you mean train?"),
        ("train: {colour: 3}", "unknown key train.colour"),
        (
            "model: {version: v2_planner_required, num_experts: 3}",
            "model.num_experts must be null or num_plan_states (8), got 3",
        ),
        (
            "model: {version: v1_filtered_mixture}\ntrain: {loss_weights: {rep_window: 1}}",
            "train.loss_weights belongs to model.version v2_planner_required, not v1_filtered_mixture",
        ),
        (
            "train: {plan_mi_weight: 1}",
            "train.plan_mi_weight belongs to model.version v1_filtered_mixture, not v2_planner_required",
        ),
        (
            "train: {loss_weights: {rep_windw: 1}}",
            "unknown key train.loss_weights.rep_windw; did you mean train.loss_weights.rep_window?",
        ),
        (
            "model: {version: transformer_lm, chunk_size: 4}",
            "model.chunk_size belongs to model.version v2_planner_required, not transformer_lm",
        ),
        (
            "model: {version: v3}",
            "model.version must be one of v2_planner_required, v1_filtered_mixture, transformer_lm,"
            " mixture_of_softmaxes, got v3",
        ),
        ("model: {executor: {window: 4}}", "model.executor.window belongs to model.executor.type transformer, not gru"),
        (
            "model: {executor: {type: transformer, num_heads: 3}}",
            "model.executor.num_heads must be a number that divides hidden_dim (256) into heads of even width, got 3",
        ),
        ("model: {executor: {type: transformer, num_heads: 0}}", "model.executor.num_heads must be >= 1, got 0"),
        (
            "model: [{version: v1_filtered_mixture}]",
            "model must be a section of keys with values, got [{version: v1_filtered_mixture}]",
        ),
        (
            "model: {eps: 1e-9}",
            "model.eps is a key of the prototype: beliefs are exact and need no epsilon; leave it out",
        ),
        ("train: 3", "train must be a section of keys with values, got 3"),
        ("train: {lr: 12:30}", "train.lr must be a number, got 12:30"),
        ("train: {lr: nan}", "train.lr must be > 0 and finite, got nan"),
        ("train: {lr: inf}", "train.lr must be > 0 and finite, got inf"),
        ("train: {max_steps: 0o7}", "train.max_steps must be an integer, got 0o7"),
        ("train: {max_steps: nan}", "train.max_steps must be an integer, got nan"),
        ("train: {max_steps: }", "train.max_steps must be an integer, got nothing"),
        ("train: {preview_prompt: null}", "train.preview_prompt must be text, got null"),
        ("train: {stride: 0}", "train.stride must be null or between 1 and seq_len (128), got 0"),
        ("model: {boundary_evidence: maybe}", "model.boundary_evidence must be true or false, got maybe"),
        ("tokenizer: {special_tokens: a}", "tokenizer.special_tokens must be a list, each text, got a"),
        (
            "tokenizer: {special_tokens: [a, b]}",
            "tokenizer.special_tokens must be at least 4 names: pad, bos, eos, unk, then any others, got [a, b]",
        ),
        ("data: {source: text}", "data.path must be a file, folder or glob when source is text, got null"),
        ("seed: -1", "seed must be between 0 and 2^63 - 1, got -1"),
        (
            "device: cpu\ntrain: {precision: fp16}",
            "train.precision must be fp32 or bf16 when device is cpu or mps: the loss scaling of fp16 needs CUDA,"
            " got fp16",
        ),
    ],
)
def test_one_problem(write_config, text, expected):
    found = problems_of(write_config(text))
    assert expected in found
    assert len(found) == (2 if "[a, b]" in text else 1)


def test_values_go_by_declared_type(write_config):
    text = """\
seed: 1e3
model: {boundary_evidence: off}
data: {source: text, path: no, text_field: 12:30, max_val_chars: ~}
train: {lr: 1e-4, max_steps: 1e4, preview_prompt: off, out_dir: "null", warmup_steps: 0}
"""
    config = load_run_config(write_config(text))
    assert (config.seed, config.model.boundary_evidence) == (1000, False)
    assert (config.data.path, config.data.text_field, config.data.max_val_chars) == ("no", "12:30", None)
    assert (config.train.lr, config.train.max_steps) == (1e-4, 10_000)
    assert (config.train.preview_prompt, config.train.out_dir) == ("off", "null")


def test_overrides_are_laid_over_the_file_and_the_last_wins(write_config):
    path = write_config("train:\n  lr: 1\ndata:\n")
    config = load_run_config(
        path,
        [
            "train.lr=2",
            "train.lr=3e-3",
            "data.source=text",
            "data.path=a=b.txt",
            "tokenizer.special_tokens=[<p>, <b>, <e>, <u>, no]",
            "train={batch_size: 4, preview_prompt: }",
            "train.out_dir=",
            "model.num_layers = 2",
        ],
    )
    assert config.train == replace(V2TrainConfig(), lr=3e-3, batch_size=4)
    assert config.data.path == "a=b.txt"
    assert config.tokenizer.special_tokens == ("<p>", "<b>", "<e>", "<u>", "no")
    assert config.model.num_layers == 2


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lr", "--set train.lr must be of the form key.sub=value"),
        ("=3", "--set =3 must be of the form key.sub=value"),
        ("train..lr=3", "--set train..lr=3 must be of the form key.sub=value"),
        ("trian.lr=3", "unknown key trian; did you mean train?"),
        ("train.learning_rate=3", "unknown key train.learning_rate; did you mean train.lr?"),
        ("seed.a=3", "--set seed.a=3: seed is no section, it holds 5"),
        (
            "train.lr=[1",
            "--set train.lr: line 1, column 3: while parsing a flow sequence,"
            " expected ',' or ']', but got '<stream end>'",
        ),
        ("train={lr: 1, lr: 2}", "--set train: line 1: duplicate key lr (first on line 1)"),
        ("train=3", "train must be a section of keys with values, got 3"),
        ("train.lr=fast", "train.lr must be a number, got fast"),
    ],
)
def test_a_wrong_override(write_config, override, expected):
    assert problems_of(write_config("seed: 5"), override) == [expected]


def test_a_head_and_what_its_kind_alone_has(write_config):
    dense = load_run_config(write_config(""), ["model.head.init_spread=0.1"])
    assert dense.model == V2Config(head=DenseHeadConfig(init_spread=0.1))
    factorized = load_run_config(write_config(""), ["model.head.type=factorized", "model.head.rank=2"])
    assert factorized.model == V2Config(head=FactorizedHeadConfig(rank=2))
    for config in (dense, factorized):
        assert run_config_from_plain(to_plain(config)) == config
        assert load_run_config(write_config(to_yaml(config))) == config
    rule = "model.head.init_spread must be between 0 and 1, got 1.5"
    assert problems_of(write_config("model: {head: {init_spread: 1.5}}")) == [rule]
    other = "model.head.init_spread belongs to model.head.type dense, not factorized"
    assert problems_of(write_config("model: {head: {type: factorized, init_spread: 0.5}}")) == [other]


def test_files_that_are_no_config(tmp_path, write_config):
    missing = tmp_path / "missing.yaml"
    assert problems_of(missing) == [f"{missing}: cannot be read: No such file or directory"]
    assert problems_of(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]
    path = write_config("- a\n- b\n")
    assert problems_of(path) == [f"{path}: must hold sections of keys with values, got [a, b]"]
    path = write_config("train:\n  lr: 1\n  lr: 2\n")
    assert problems_of(path) == [f"{path}: line 3: duplicate key train.lr (first on line 2)"]
    path = write_config("train: {lr: 1\n")
    assert len(problems_of(path)) == 1
    path.write_bytes(b"seed: \xff\n")
    assert problems_of(path) == [f"{path}: must be UTF-8 text, got the byte 0xff at position 6"]


@pytest.mark.parametrize("depth", [10, 80, 100, 150, 200, 250, 300, 320, 330, 400, 1000])
def test_deep_nesting_is_a_config_error(write_config, depth):
    for opening, closing in [("[", "]"), ("{a: ", "}")]:
        for key in ("seed", "colour", "data"):
            assert len(problems_of(write_config(f"{key}: {opening * depth}{closing * depth}"))) == 1


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfseed: 3\r\ntrain:\r\n  lr: 1e-4\r\n")
    assert load_run_config(path) == RunConfig(seed=3, train=V2TrainConfig(lr=1e-4))


def test_plain_values_are_read_strictly():
    plain = to_plain(RunConfig())
    plain["train"]["lr"] = "1e-4"
    plain["seed"] = True
    plain["model"]["dropout"] = 2.0
    plain["data"]["extra"] = 1
    with pytest.raises(ConfigError) as caught:
        run_config_from_plain(plain)
    assert str(caught.value).splitlines() == [
        "seed must be an integer, got true",
        "model.dropout must be >= 0 and < 1, got 2.0",
        "unknown key data.extra",
        "train.lr must be a number, got 1e-4",
    ]


MIXTURE = (
    MixedSource(source="text", path="no", weight=3),
    MixedSource(source="hf", path="owner/name", val_split="dev", streaming=False, weight=0.1),
)


def test_a_mixture_of_sources_in_a_file_and_on_the_command_line(write_config):
    other = "{source: hf, path: owner/name, val_split: dev, streaming: no, weight: 1e-1}"
    entries = f"[{{source: text, path: no, weight: 3}}, {other}]"
    assert load_run_config(write_config(f"data: {{sources: {entries}}}")).data == DataConfig(sources=MIXTURE)
    overridden = load_run_config(write_config("data: {sources: [{source: storyworld}]}"), [f"data.sources={entries}"])
    assert overridden.data.sources == MIXTURE
    assert load_run_config(write_config(to_yaml(overridden))) == overridden
    assert run_config_from_plain(to_plain(overridden)) == overridden


def test_every_problem_of_a_mixture_names_its_entry(write_config):
    entries = "[{source: txt}, {weight: 0}, {source: text, weight: heavy}, {source: c4_en, sorce: x, name: en}, 3]"
    with pytest.raises(ConfigError) as caught:
        load_run_config(write_config(f"data: {{source: tinystories, sources: {entries}}}"))
    known = ", ".join(get_args(SourceName))
    assert str(caught.value).splitlines() == [
        f"data.sources[0].source must be one of {known}, got txt; did you mean text?",
        f"data.sources[1].source is missing; it must be one of {known}",
        "data.sources[1].weight must be > 0 and finite, got 0",
        "data.sources[2].weight must be a number, got heavy",
        "data.sources[2].path must be a file, folder or glob when source is text, got null",
        "unknown key data.sources[3].sorce; did you mean data.sources[3].source?",
        "data.sources[3].name must be null unless source is hf, got en",
        "data.sources[4] must be a section of keys with values, got 3",
        "data.source must be left out when sources are given: each has its own, got tinystories",
    ]


def test_the_planted_section_belongs_to_planted_alone(write_config):
    config = load_run_config(write_config("data: {source: planted}"), ["data.planted.num_plans=8"])
    assert config.data.planted == PlantedConfig(num_plans=8)
    assert load_run_config(write_config(to_yaml(config))) == config
    assert run_config_from_plain(to_plain(config)) == config
    stories = load_run_config(write_config(to_yaml(config)), ["data.source=storyworld", "data.planted=null"])
    assert stories.data.planted is None
    entry = load_run_config(write_config("data: {sources: [{source: planted, planted: {overlap: 0}}]}"))
    assert entry.data.sources[0].planted == PlantedConfig(overlap=0.0)
    for overrides, line in [
        (["data.planted.num_plans=8"], "data.planted must be null unless source is planted, got {num_plans: 8}"),
        (
            ["data.source=planted", "data.planted.num_plan=8"],
            "unknown key data.planted.num_plan; did you mean data.planted.num_plans?",
        ),
        (["data.source=planted", "data.planted.overlap=2"], "data.planted.overlap must be >= 0 and <= 1, got 2"),
        (["data.source=planted", "data.planted=8"], "data.planted must be a section of keys with values, got 8"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load_run_config(write_config(""), overrides)
        assert str(caught.value) == line


def test_defaults_stand_only_in_the_config_classes(write_config):
    for section, form in [
        ("model", V2Config),
        ("tokenizer", TokenizerConfig),
        ("data", DataConfig),
        ("train", V2TrainConfig),
    ]:
        config = load_run_config(write_config(f"{section}: {{}}"))
        assert getattr(config, section) == form()
        assert all(getattr(config, section).__dict__[each.name] == getattr(form(), each.name) for each in fields(form))


texts = st.text(min_size=1, max_size=30)
counts = st.integers(1, 2**63 - 1)
weights = st.floats(allow_nan=False, allow_infinity=False)
executors = st.builds(GRUConfig) | st.builds(
    TransformerConfig, num_heads=st.sampled_from([1, 2]), window=st.none() | counts
)
rates = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)
loops = {
    "lr": rates,
    "preview_prompt": st.text(max_size=30)
    | st.sampled_from(["null", "~", "1e-4", "no", "12:30", "=", "<<", "!a", "*a"]),
    "out_dir": st.none() | texts,
}
v1 = st.builds(V1Config, num_plan_states=counts, planner_self_bias=weights, boundary_evidence=st.booleans())
v2 = st.builds(V2Config, num_plan_states=counts, executor=executors, planner_temperature=st.floats(0.01, 100))
pairs = st.one_of(
    st.tuples(v1, st.builds(V1TrainConfig, plan_mi_weight=weights, **loops)),
    st.tuples(v2, st.builds(V2TrainConfig, loss_weights=st.builds(V2LossWeights, plan_js_div=weights), **loops)),
    st.tuples(st.builds(TransformerLMConfig, executor=executors), st.builds(ControlTrainConfig, **loops)),
    st.tuples(st.builds(MixtureOfSoftmaxesConfig, num_plan_states=counts), st.builds(ControlTrainConfig, **loops)),
)
others = {
    "seed": st.integers(0, 2**63 - 1),
    "device": st.sampled_from(["auto", "cpu", "cuda", "mps"]),
    "tokenizer": st.builds(
        TokenizerConfig,
        type=st.sampled_from(["char", "bpe", "identity"]),
        special_tokens=st.lists(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=2, max_size=9),
            min_size=4,
            max_size=6,
            unique=True,
        ).map(tuple),
    ),
    "data": st.builds(
        DataConfig, source=st.just("text"), path=texts, text_field=texts, max_val_chars=st.none() | counts
    ),
}
run_configs = pairs.flatmap(lambda pair: st.builds(RunConfig, model=st.just(pair[0]), train=st.just(pair[1]), **others))


@settings(max_examples=60)
@given(run_configs)
def test_yaml_and_plain_values_give_back_an_equal_config(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_run_config(path) == config
    assert run_config_from_plain(to_plain(config)) == config


@settings(max_examples=200)
@given(st.text(st.sampled_from("train:lrseed[]{}-,#&*!'\"|>%@ \n\t\\~0é\x00"), max_size=60) | st.binary(max_size=60))
def test_any_file_is_a_config_or_a_config_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    try:
        assert isinstance(load_run_config(path), RunConfig)
    except ConfigError:
        return


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.text(max_size=3), max_size=5)
)
keys = {name: list(values) for name, values in to_plain(RunConfig()).items() if isinstance(values, dict)}


@settings(max_examples=50)
@given(st.data())
def test_any_plain_values_are_a_config_or_a_config_error(data):
    values = {
        section: data.draw(st.dictionaries(st.sampled_from([*names, "x"]), leaves, max_size=4))
        for section, names in keys.items()
    }
    try:
        assert isinstance(run_config_from_plain(values), RunConfig)
    except ConfigError:
        return
