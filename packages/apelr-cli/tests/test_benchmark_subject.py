import pytest
import torch

from apelr_cli.benchmark_subject import subject_of_checkpoint, subject_of_config
from apelr_cli.errors import ConfigError
from apelr_cli.run_config import RunConfig, to_plain
from apelr_cli.train_config import V1TrainConfig, V2TrainConfig
from apelr_model import V2Config

V2 = V2Config(num_plan_states=2, chunk_size=3, token_dim=5, hidden_dim=7)


def test_a_config_gives_a_fresh_model_with_the_tokenizer_s_largest_vocabulary(write_config, device):
    path = write_config("model: {token_dim: 4, hidden_dim: 6}\ntokenizer: {vocab_size: 300}\ntrain: {seq_len: 9}\n")
    found = subject_of_config(path, ["train.batch_size=3"], device)
    assert (found.model.vocab_size, found.model.config.hidden_dim) == (300, 6)
    assert (found.train.seq_len, found.train.batch_size) == (9, 3)
    assert found.model.device.type == device
    again = subject_of_config(path, [], device).model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in found.model.state_dict().items())


def test_the_config_s_device_counts_unless_another_is_named(write_config):
    if torch.cuda.is_available():
        pytest.skip("every device is here")
    path = write_config("device: cuda\nmodel: {token_dim: 4, hidden_dim: 6}\n")
    with pytest.raises(ValueError, match="device must be auto or one that torch finds here"):
        subject_of_config(path, [], None)
    assert subject_of_config(path, [], "cpu").model.device.type == "cpu"


def test_a_checkpoint_is_measured_as_its_run_was_trained(make_checkpoint, device):
    run = to_plain(RunConfig(model=V2, train=V2TrainConfig(seq_len=11, batch_size=5)))
    folder = make_checkpoint(config=V2, changes={"run_config": run, "step": 40})
    found = subject_of_checkpoint(folder, ["train.precision=bf16"], device, say=print)
    assert found.model.config == V2
    assert found.step == 40
    assert (found.train.seq_len, found.train.batch_size, found.train.precision) == (11, 5, "bf16")


def test_a_checkpoint_that_does_not_say_how_it_was_trained_gets_the_defaults(make_checkpoint, device):
    found = subject_of_checkpoint(make_checkpoint(), ["train.seq_len=12"], device, say=print)
    assert found.train == V1TrainConfig(seq_len=12)


def test_beside_a_checkpoint_only_training_can_be_set(make_checkpoint):
    with pytest.raises(ConfigError) as caught:
        subject_of_checkpoint(make_checkpoint(), ["model.hidden_dim=3", "train.seq_len=4", "seed=1"], "cpu", say=print)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0] == "--set model.hidden_dim=3: only keys of train can be set beside a checkpoint"
