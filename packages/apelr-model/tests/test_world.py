"""Several processes train one model: what one does with all rows. Real processes that talk through gloo."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from apelr_model import NonFiniteError, World, load_checkpoint

Found = dict[int, list[dict[str, Any]]]

WORKER = Path(__file__).parent / "world_worker.py"
each_case = pytest.mark.parametrize(("size", "case"), [(2, "v1"), (2, "v2"), (2, "nll"), (4, "v2")])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each process found, by the number of processes."""
    folder = tmp_path_factory.mktemp("world")
    done = subprocess.run([sys.executable, WORKER, folder], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    every = {
        size: [torch.load(folder / f"found-{size}-{rank}.pt", weights_only=False) for rank in range(size)]
        for size in (1, 2, 4)
    }
    for size, each in every.items():
        each[0]["run"] = folder / f"run-{size}"
    return every


@pytest.fixture(scope="module")
def world_worker() -> Any:
    """world_worker.py beside this file, as a module."""
    spec = importlib.util.spec_from_file_location("world_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_close(left: Any, right: Any) -> None:
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key, value in left.items():
            assert_close(value, right[key])
    else:
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-11)


@each_case
def test_processes_together_do_what_one_does(size: int, case: str, found: Found) -> None:
    one = found[1][0][case]
    for each in (every[case] for every in found[size]):
        for theirs, ours in zip(each["reports"], one["reports"], strict=True):
            assert theirs.targets == ours.targets == 64
            assert theirs.terms.keys() == ours.terms.keys()
            assert_close(theirs.terms, ours.terms)
            assert_close(list(theirs[-2]), list(ours[-2]))
            assert (theirs.loss, theirs.grad_norm) == pytest.approx((ours.loss, ours.grad_norm), rel=1e-9)
            assert [s[::2] for s in theirs.splits] == [s[::2] for s in ours.splits]
        assert_close(each["state"]["model"], one["state"]["model"])
        assert_close(each["state"]["optimizer"]["state"], one["state"]["optimizer"]["state"])
        assert_close(each["state"]["carried"], one["state"]["carried"])
        assert_close(each["state"]["splits"], one["state"]["splits"])


@each_case
def test_all_processes_have_the_same_parameters_bit_for_bit(size: int, case: str, found: Found) -> None:
    first, *others = (each[case]["state"] for each in found[size])
    for other in others:
        assert all(torch.equal(value, other["model"][name]) for name, value in first["model"].items())


@each_case
def test_an_evaluation_is_that_of_all_batches(size: int, case: str, found: Found) -> None:
    one = found[1][0][case]["evaluation"]
    for each in found[size]:
        assert_close(each[case]["evaluation"]._asdict(), one._asdict())


def test_parameters_without_a_gradient_stay_as_they_were_made(found: Found) -> None:
    moments = [each["nll"]["state"]["optimizer"]["state"].keys() for each in (found[1][0], found[2][1])]
    names = len(found[1][0]["nll"]["state"]["model"])
    assert moments[0] == moments[1]
    assert 0 < len(moments[0]) < names


def test_gradients_lie_where_they_are_sent_from(found: Found) -> None:
    for size in (1, 2, 4):
        addresses = found[size][0]["v2"]["gradients"]
        assert len(set(addresses)) == (len(addresses) if size == 1 else 1)


each_sharded_case = pytest.mark.parametrize("case", ["v1", "nll", "transformer"])


@each_sharded_case
def test_shards_do_what_whole_copies_do(case: str, found: Found) -> None:
    """To 1e-9 in float64: every term, gradient norm and parameter, with dropout, clipping and accumulation."""
    for each in found[2]:
        copies, shards = each[case], each["sharded"][case]
        for theirs, ours in zip(shards["reports"], copies["reports"], strict=True):
            assert_close(theirs.terms, ours.terms)
            assert_close(list(theirs.usage), list(ours.usage))
            assert (theirs.loss, theirs.grad_norm) == pytest.approx((ours.loss, ours.grad_norm), rel=1e-9)
        assert_close(shards["model"], copies["state"]["model"])
        assert_close(shards["evaluation"]._asdict(), copies["evaluation"]._asdict())
        assert shards["moments"] == len(copies["state"]["optimizer"]["state"])


@each_sharded_case
def test_shards_are_gone_on_from_bit_for_bit(case: str, found: Found) -> None:
    for each in found[2]:
        went_on, again = each["sharded"][case]["next"]
        assert went_on == again


@each_sharded_case
def test_each_process_holds_a_share(case: str, found: Found) -> None:
    held = [each["sharded"][case]["held"] for each in found[2]]
    assert sum(held) == pytest.approx(1)
    assert max(held) < 0.6


def test_shards_are_gone_on_from_by_another_number_of_processes(found: Found, world_worker: Any) -> None:
    """1 -> 2, 2 -> 4, 2 -> 1."""
    went_on = found[2][0]["sharded"]["nll"]["next"][0]
    trainer = world_worker.make_trainer("nll", World())
    world_worker.take_up(trainer, found[2][0]["run"].with_name("sharded-2-nll"))
    alone = trainer.train_step(world_worker.rows_of_step(world_worker.STEPS, World()))
    for report in (alone, found[2][1]["next"], found[4][3]["next"]):
        assert (report.loss, report.grad_norm) == pytest.approx((went_on.loss, went_on.grad_norm), rel=1e-9)


def test_shards_compute_in_few_bits_too(found: Found) -> None:
    shards, copies = found[2][0]["bf16"][:2], found[2][0]["bf16"][2:]
    assert shards == pytest.approx(copies, rel=1e-3)
    assert shards[0] != pytest.approx(found[2][0]["nll"]["reports"][0].loss, rel=1e-8)


@pytest.mark.parametrize("size", [2, 4])
def test_parameters_that_only_one_process_has_used(size: int, found: Found) -> None:
    for each in found[size]:
        assert each["short"][:4] == pytest.approx(each["short"][4:], rel=1e-9)


def test_a_failure_of_one_in_any_micro_batch_is_that_of_all_shards(found: Found) -> None:
    said = [each["failure in shards"].split("; the learning")[0] for each in found[4]]
    assert said == [*["process 3: no number"] * 3, "no number"]
    assert [each["failure in shards"].split(";")[0] for each in found[2]] == ["process 1: no number", "no number"]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_processes_write_a_checkpoint_together_that_one_reads(size: int, found: Found) -> None:
    run, state = found[size][0]["run"], found[size][0]["v2"]["state"]
    shards = {path.name for path in (run / "checkpoints" / "step-00000003").glob("*.safetensors")}
    assert shards == {f"shard-{number:05d}-of-{size:05d}.safetensors" for number in range(1, size + 1)}
    loaded = load_checkpoint(run)
    rest = {key: value for key, value in state.items() if key not in ("model", "step")}
    torch.testing.assert_close([loaded.model, loaded.training], [state["model"], rest], rtol=0, atol=0)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_where_one_process_cannot_write_none_completes_a_checkpoint(size: int, found: Found) -> None:
    run, said = found[size][0]["run"], [each["saved"] for each in found[size]]
    folder = run / "checkpoints" / "step-00000004"
    own = f"[Errno 28] No space left on device: '{folder}.tmp/shard-{size:05d}-of-{size:05d}.safetensors'"
    others = f"{folder} is not written: process {size - 1}: {own}"
    assert said == [["nothing", others]] * (size - 1) + [["nothing", own]]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000003"]


def test_each_process_draws_random_numbers_of_its_own(found: Found) -> None:
    assert [len({each["random"] for each in found[size]}) for size in (1, 2, 4)] == [1, 2, 4]
    assert found[1][0]["random"] == found[2][0]["random"], "the first one draws what one process would"


@pytest.mark.parametrize("size", [1, 2])
def test_a_state_is_gone_on_from_bit_for_bit_with_dropout(size: int, found: Found) -> None:
    assert all(each["resumed"] == [True] * 3 for each in found[size])


def test_a_failure_of_one_is_the_failure_of_all_before_anything_changes(found: Found) -> None:
    own = "loss term nll is nan at step 0; no parameter was changed"
    said = {size: [each["failure"][0].split("; the learning")[0] for each in found[size]] for size in (1, 2, 4)}
    assert said == {1: [own], 2: [f"process 1: {own}", own], 4: [*[f"process 3: {own}"] * 3, own]}


def test_after_a_failure_steps_are_as_if_there_had_been_none(found: Found) -> None:
    losses = [each["failure"][1] for size in (1, 2, 4) for each in found[size]]
    assert losses == pytest.approx([losses[0]] * 7, rel=1e-9)


def test_one_process_needs_no_other() -> None:
    world, values = World(), torch.arange(3)
    assert world.is_first
    assert torch.equal(world.total(values), values)
    assert world.largest(-3) == -3
    assert [torch.equal(each, values) for each in world.gathered(values)] == [True]
    assert world.problem_of_any() == ""
    assert world.share(7) == slice(0, 7)
    with pytest.raises(NonFiniteError, match="own"), world.failing_together(NonFiniteError):
        raise NonFiniteError("own")


def test_rows_are_divided_in_runs_or_not_at_all() -> None:
    assert [World(rank, 3).share(6) for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    with pytest.raises(ValueError, match="7 rows cannot be divided evenly between 2 processes"):
        World(0, 2).share(7)
