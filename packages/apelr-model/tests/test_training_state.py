"""Stored training states: what fits, and what each refusal says."""

import pytest
import torch

from apelr_model import CheckpointError, OptimConfig, TokenBatch, Trainer, V1LossWeights
from apelr_model.training_state import check_training_state


@pytest.fixture
def trainer(make_model, make_batch) -> Trainer:
    trainer = Trainer(make_model(), OptimConfig(), V1LossWeights())
    batch: TokenBatch = make_batch([5, 3])
    trainer.train_step(batch)
    return trainer


@pytest.fixture
def refusal(trainer):
    """What is said of the trainer's own state after `change(state)`."""

    def check(change, with_rng=True):
        state = trainer.state_dict()
        state["optimizer"]["state"] = {index: dict(each) for index, each in state["optimizer"]["state"].items()}
        change(state)
        with pytest.raises(CheckpointError) as caught:
            check_training_state(state, trainer.optimizer, {}, "x.pt", with_rng=with_rng)
        message = str(caught.value)
        assert message.startswith("x.pt: ")
        assert message.isprintable()
        return message.removeprefix("x.pt: ")

    return check


def test_a_trainers_own_state_fits(trainer):
    check_training_state(trainer.state_dict(), trainer.optimizer, trainer.scaler.state_dict(), "x.pt", with_rng=True)


def test_without_rng_states_where_they_are_not_restored(trainer, refusal):
    state = trainer.state_dict()
    del state["rng"]
    check_training_state(state, trainer.optimizer, {}, "x.pt", with_rng=False)
    assert refusal(lambda state: state.pop("rng")) == "the training state has no 'rng'"


@pytest.mark.parametrize("key", ["optimizer", "scaler", "rng"])
@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_parts_of_another_type(refusal, key, value):
    assert refusal(lambda state: state.update({key: value})) == f"the training state has no {key!r}"


@pytest.mark.parametrize(
    "change",
    [
        lambda rng: rng.pop("cpu"),
        lambda rng: rng.update(cpu=torch.zeros(3, dtype=torch.uint8)),
        lambda rng: rng.update(cpu=rng["cpu"].float()),
        lambda rng: rng.update(cpu="x"),
        lambda rng: rng.pop("cuda"),
        lambda rng: rng.update(cuda=[3]),
        lambda rng: rng.update(cuda=None),
    ],
)
def test_random_states(refusal, change):
    message = "the training state's 'rng' is not a state of torch's generators"
    assert refusal(lambda state: change(state["rng"])) == message


@pytest.mark.parametrize(
    "groups", [None, 3, [], [3], ["x"], [{}, {}], [{"params": 0}, {"params": [1]}], [{"params": [torch.zeros(2)]}, {}]]
)
def test_parameter_groups(refusal, groups):
    message = refusal(lambda state: state["optimizer"].update(param_groups=groups))
    assert message.startswith("the optimizer's state is for parameter groups [")


def test_parameters_in_another_order(refusal):
    message = refusal(lambda state: state["optimizer"]["param_groups"][0]["params"].reverse())
    assert message.startswith("the optimizer's state is for parameter groups [")


def test_no_state(refusal):
    assert refusal(lambda state: state["optimizer"].update(state=[])) == "the optimizer has no 'state'"


@pytest.mark.parametrize("index", [-1, 10**6, "0", True, None, 1.0])
def test_a_parameter_that_is_not_there(refusal, index):
    def change(state):
        entries = state["optimizer"]["state"]
        state["optimizer"]["state"] = {index: entries[0]}

    assert refusal(change) == f"the optimizer's state names a parameter {index!r}, which is not there"


@pytest.mark.parametrize("moments", [None, 3, [], "x", {}, {"step": 1}])
def test_an_entry_of_another_form(refusal, moments):
    message = refusal(lambda state: state["optimizer"]["state"].update({0: moments}))
    assert message.startswith("the optimizer's state of parameter 0 must be its moments, got")


@pytest.mark.parametrize("name", ["step", "exp_avg", "exp_avg_sq"])
@pytest.mark.parametrize(
    "value",
    [None, 1, torch.zeros(2, 1), torch.tensor(float("nan")), torch.tensor(1), torch.full((11, 5), float("inf"))],
)
def test_a_moment_of_another_kind(refusal, name, value):
    message = refusal(lambda state: state["optimizer"]["state"][0].update({name: value}))
    assert message == f"the optimizer's {name} of parameter 0 does not fit"


@pytest.mark.parametrize("name", ["step", "exp_avg_sq"])
def test_what_cannot_be_negative(refusal, name):
    message = refusal(lambda state: state["optimizer"]["state"][0][name].sub_(100))
    assert message == f"the optimizer's {name} of parameter 0 does not fit"


@pytest.mark.parametrize("stored", [{"scale": "x", "growth": 1}, {"growth": 1}])
def test_the_loss_scalers_state(trainer, stored):
    state = {**trainer.state_dict(), "scaler": stored}
    with pytest.raises(CheckpointError, match=r"^x\.pt: the loss scaler's state does not fit$"):
        check_training_state(state, trainer.optimizer, {"scale": 2.0, "growth": 1}, "x.pt", with_rng=True)
    check_training_state(state, trainer.optimizer, {}, "x.pt", with_rng=True)
