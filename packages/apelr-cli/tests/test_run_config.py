import pytest

from apelr_cli.run_config import RunConfig, differences, to_plain
from apelr_cli.train_config import ControlTrainConfig, V1TrainConfig, V2TrainConfig
from apelr_model import TransformerConfig, TransformerLMConfig, V1Config, V2Config, V2LossWeights


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seq_len": 0}, "seq_len must be >= 1, got 0"),
        ({"batch_size": 0}, "batch_size must be auto or >= 1, got 0"),
        ({"log_interval": 0}, "log_interval must be >= 1, got 0"),
        ({"eval_interval": 0}, "eval_interval must be >= 1, got 0"),
        ({"save_interval": 0}, "save_interval must be >= 1, got 0"),
        ({"preview_tokens": 0}, "preview_tokens must be >= 1, got 0"),
        ({"preview_interval": -1}, "preview_interval must be >= 0, got -1"),
        ({"val_batches": 0}, "val_batches must be null or >= 1, got 0"),
        ({"stride": 0}, "stride must be null or between 1 and seq_len (128), got 0"),
        ({"stride": 9, "seq_len": 8}, "stride must be null or between 1 and seq_len (8), got 9"),
        ({"out_dir": ""}, "out_dir must be null or the name of a folder, got ''"),
        ({"resume_from": ""}, "resume_from must be null or a checkpoint, got ''"),
        ({"lr": -1.0, "max_steps": 0}, "lr must be > 0 and finite, got -1.0\nmax_steps must be >= 1, got 0"),
        ({"entropy_reg_weight": float("nan")}, "entropy_reg_weight must be a finite number, got nan"),
    ],
)
def test_rules_of_the_train_section(values, message):
    with pytest.raises(ValueError) as caught:
        V1TrainConfig(**values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "seed must be between 0 and 2^63 - 1, got -1"),
        (
            {"train": V2TrainConfig(batch_size=2, grad_accum_steps=4)},
            "train.batch_size must be >= train.grad_accum_steps (4), a row for every micro-batch, got 2",
        ),
        (
            {"model": TransformerLMConfig(), "train": ControlTrainConfig(planner_lr_scale=5.0)},
            "train.planner_lr_scale must be left at 1 when model.version is transformer_lm, which has no planner,"
            " got 5.0",
        ),
        (
            {"model": TransformerLMConfig(), "train": ControlTrainConfig(split_interval=10)},
            "train.split_interval must be 0 when model.version is transformer_lm, which has no chain of plans, got 10",
        ),
        (
            {
                "model": V2Config(future_horizon_chunks=0),
                "train": V2TrainConfig(loss_weights=V2LossWeights(future_contrastive=0.1)),
            },
            "train.loss_weights.future_contrastive must be 0 when model.future_horizon_chunks is 0, got 0.1",
        ),
        (
            {"device": "cpu", "train": V2TrainConfig(precision="fp16")},
            "train.precision must be fp32 or bf16 when device is cpu or mps: the loss scaling of fp16 needs CUDA,"
            " got fp16",
        ),
        (
            {"model": V1Config()},
            "train must be the form that belongs to model.version v1_filtered_mixture, got V2TrainConfig",
        ),
    ],
)
def test_rules_between_sections(values, message):
    with pytest.raises(ValueError) as caught:
        RunConfig(**values)
    assert str(caught.value) == message


def test_to_plain_holds_every_key_and_no_tuple():
    plain = to_plain(RunConfig())
    assert list(plain) == ["seed", "device", "model", "tokenizer", "data", "train"]
    assert plain["tokenizer"]["special_tokens"] == ["<pad>", "<bos>", "<eos>", "<unk>"]
    assert plain["model"]["version"] == "v2_planner_required"
    assert plain["train"]["stride"] is None


def test_differences_are_dotted_and_in_yaml_words():
    old = to_plain(RunConfig())
    new = to_plain(
        RunConfig(seed=1, model=V2Config(boundary_evidence=False), train=V2TrainConfig(lr=2e-3, out_dir="x"))
    )
    assert differences(old, old) == []
    assert differences(old, new) == [
        "seed: 0 -> 1",
        "model.boundary_evidence: true -> false",
        "train.lr: 0.001 -> 0.002",
        "train.out_dir: null -> x",
    ]


def test_differences_of_keys_that_one_side_lacks():
    assert differences({"a": {"b": 1, "c": [1]}}, {"a": {"c": (1,), "d": None}}) == [
        "a.b: 1 -> not set",
        "a.d: not set -> null",
    ]


def test_differences_see_the_end_of_long_values():
    assert len(differences({"a": "x" * 200 + "1"}, {"a": "x" * 200 + "2"})) == 1


def test_differences_of_lists_of_sections_name_the_entry():
    old = {"data": {"sources": [{"source": "text", "weight": 1.0}, {"source": "storyworld"}], "min_chars": 1}}
    new = {"data": {"sources": ({"source": "text", "weight": 3.0},), "min_chars": 1}}
    assert differences(old, new) == [
        "data.sources[0].weight: 1.0 -> 3.0",
        "data.sources[1].source: storyworld -> not set",
    ]
    assert differences({"sources": []}, {"sources": []}) == []


def test_a_measured_batch_size_has_room_for_every_micro_batch_and_is_no_number_yet() -> None:
    config = RunConfig(train=V2TrainConfig(batch_size="auto", grad_accum_steps=8))
    with pytest.raises(
        ValueError, match=r"^train\.batch_size is auto, which only a training run measures: give a number$"
    ):
        _ = config.train.rows_per_step
    assert V2TrainConfig(batch_size=7).rows_per_step == 7


def test_compiled_training_is_for_transformers() -> None:
    transformer = V2Config(executor=TransformerConfig(num_heads=4))
    assert RunConfig(model=transformer, train=V2TrainConfig(compile=True)).train.compile
    with pytest.raises(
        ValueError, match=r"^train\.compile must be false when model\.executor\.type is gru: PyTorch compiles"
    ):
        RunConfig(train=V2TrainConfig(compile=True))
