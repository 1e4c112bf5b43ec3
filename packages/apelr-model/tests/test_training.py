"""Training steps: exact resumption, accumulation, refusal of non-finite numbers, precisions."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from apelr_model import (
    Checkpoint,
    CheckpointError,
    FactorizedHeadConfig,
    ImpossibleObservationError,
    NonFiniteError,
    OptimConfig,
    Trainer,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
    build_model,
    load_checkpoint,
    save_checkpoint,
)
from apelr_model.optim import learning_rate

ALL = V1LossWeights(
    entropy_reg_weight=0.1,
    usage_balance_weight=0.1,
    chunk_bow_weight=0.1,
    chunk_bow_warmup_steps=4,
    plan_mi_weight=0.1,
    chunk_post_kl_weight=0.1,
)
SIZES = V1Config(num_plan_states=3, chunk_size=4, token_dim=6, hidden_dim=8, fusion_dim=6, num_layers=2, dropout=0.2)
SMOOTH = replace(SIZES, num_layers=1, dropout=0.0)


def make_trainer(device, *, seed=0, weights=ALL, config=SIZES, dtype=torch.float32, **optim):
    torch.manual_seed(seed)
    model = build_model(config, 11).to(device=device, dtype=dtype)
    return Trainer(model, OptimConfig(**{"max_steps": 20, "warmup_steps": 3, "lr": 1e-2, **optim}), weights)


def tensors(value):
    """Every tensor and number in a nested state, in order."""
    if isinstance(value, dict):
        return [x for key in value for x in tensors(value[key])]
    if isinstance(value, list | tuple):
        return [x for item in value for x in tensors(item)]
    return [value]


def assert_identical(found, expected):
    first, second = tensors(found), tensors(expected)
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.cpu(), b.cpu()) if isinstance(a, torch.Tensor) else a == b


@pytest.fixture
def batches(make_batch):
    """The rows of step s: ragged, a function of s alone."""
    return lambda step: make_batch([10, 3, 7, 1, 9, 5], seed=step)


class TestPlannerLearningRate:
    CONFIG = V2Config(
        num_plan_states=3, chunk_size=4, token_dim=6, hidden_dim=8, head=FactorizedHeadConfig(rank=1, init_std=0.5)
    )

    def trainer(self, device, scale):
        settings = {"planner_lr_scale": scale, "weight_decay": 0.1, "max_steps": 6, "warmup_steps": 2, "grad_clip": 0.0}
        return make_trainer(device, config=self.CONFIG, weights=V2LossWeights(), dtype=torch.float64, **settings)

    @staticmethod
    def of_plan(name):
        return name.startswith("planner.") or name == "head.raw_plan_bias"

    def test_it_scales_the_schedule_step_by_step(self, device, batches):
        trainer = self.trainer(device, 0.25)
        names = {id(p): name for name, p in trainer.model.named_parameters()}
        for step in range(6):
            report = trainer.train_step(batches(step))
            assert report.learning_rate == learning_rate(trainer.optim, step)
            for group in trainer.optimizer.param_groups:
                of_plan = {self.of_plan(names[id(p)]) for p in group["params"]}
                assert of_plan in ({True}, {False})
                assert group["lr"] == report.learning_rate * (0.25 if of_plan == {True} else 1)

    def test_the_first_update_is_that_share_of_the_whole_one(self, device, batches):
        """Adam's first update is the learning rate times a direction that the share does not change."""
        updates = []
        for scale in (1.0, 0.25, 0.0):
            trainer = self.trainer(device, scale)
            before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
            trainer.train_step(batches(0))
            updates.append({name: p.detach() - before[name] for name, p in trainer.model.named_parameters()})
        whole, quarter, none = updates
        for name in whole:
            share = 0.25 if self.of_plan(name) else 1.0
            torch.testing.assert_close(quarter[name], share * whole[name], rtol=1e-9, atol=1e-15)
            torch.testing.assert_close(none[name], (not self.of_plan(name)) * whole[name], rtol=1e-9, atol=1e-15)
        assert whole["head.raw_plan_bias"].abs().min() > 0

    def test_zero_freezes_the_planner(self, device, batches):
        trainer = self.trainer(device, 0.0)
        before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        for step in range(4):
            trainer.train_step(batches(step))
        for name, parameter in trainer.model.named_parameters():
            assert torch.equal(parameter, before[name]) is self.of_plan(name), name

    def test_a_resumed_run_keeps_its_shares(self, device, batches):
        whole, first = self.trainer(device, 0.25), self.trainer(device, 0.25)
        wanted = [whole.train_step(batches(step)) for step in range(4)]
        made = [first.train_step(batches(step)) for step in range(2)]
        second = self.trainer(device, 0.25)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        assert made + [second.train_step(batches(step)) for step in range(2, 4)] == wanted
        assert_identical(second.state_dict(), whole.state_dict())


class TestResume:
    @pytest.mark.parametrize(("steps_before", "precision"), [(0, "fp32"), (1, "fp32"), (3, "fp32"), (2, "bf16")])
    def test_an_interrupted_run_equals_the_uninterrupted_one_bit_for_bit(
        self, device, batches, tmp_path, steps_before, precision
    ):
        """Parameters, optimizer, scaler, random numbers and reports, through a file, dropout and accumulation on."""
        settings = {"grad_accum_steps": 3, "precision": precision}
        whole = make_trainer(device, **settings)
        reports = [whole.train_step(batches(step)) for step in range(5)]

        first = make_trainer(device, **settings)
        made = [first.train_step(batches(step)) for step in range(steps_before)]
        state = first.state_dict()
        model = state.pop("model")
        save_checkpoint(
            tmp_path, Checkpoint(model_config=SIZES, vocab_size=11, step=first.step, model=model, training=state)
        )

        torch.manual_seed(12345)
        second = make_trainer(device, seed=999, **settings)
        torch.rand(7)
        loaded = load_checkpoint(tmp_path)
        second.load_state_dict({"model": loaded.model, **loaded.training})
        assert second.step == steps_before
        made += [second.train_step(batches(step)) for step in range(steps_before, 5)]
        assert made == reports
        assert_identical(second.state_dict(), whole.state_dict())
        for a, b in zip(second.model.parameters(), whole.model.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_the_test_above_can_fail(self, device, batches):
        """Without the random state, dropout differs and so does the run."""
        first = make_trainer(device)
        state = copy.deepcopy(first.state_dict())
        wanted = first.train_step(batches(0))
        second = make_trainer(device, seed=999)
        second.load_state_dict(state, restore_rng=False)
        assert second.train_step(batches(0)).loss != wanted.loss

    def test_a_loaded_trainer_keeps_its_own_hyperparameters(self, device, batches):
        old = make_trainer(device, weight_decay=0.5)
        old.train_step(batches(0))
        new = make_trainer(device, weight_decay=0.01, lr=1e-3)
        new.load_state_dict(old.state_dict())
        assert {group["weight_decay"] for group in new.optimizer.param_groups} == {0.01, 0.0}
        assert new.train_step(batches(1)).learning_rate < 1e-3
        assert new.step == 2

    def test_random_numbers_can_be_left_alone(self, device):
        trainer = make_trainer(device)
        state = trainer.state_dict()
        torch.manual_seed(5)
        before = torch.get_rng_state()
        trainer.load_state_dict(state, restore_rng=False)
        assert torch.equal(torch.get_rng_state(), before)
        trainer.load_state_dict(state)
        assert torch.equal(torch.get_rng_state(), state["rng"]["cpu"])

    def test_tensors_of_another_model_are_refused_by_name(self, device):
        trainer = make_trainer(device)
        state = trainer.state_dict()
        lacking = {**state, "model": {k: v for k, v in state["model"].items() if k != "planner.initial_logits"}}
        with pytest.raises(CheckpointError, match=r"lacks the tensors planner\.initial_logits"):
            trainer.load_state_dict(lacking)
        other = {**state, "model": {**state["model"], "planner.initial_logits": torch.zeros(9)}}
        with pytest.raises(CheckpointError, match=r"planner\.initial_logits has shape \[9\], the config needs \[3\]"):
            trainer.load_state_dict(other)


class TestAccumulation:
    @pytest.mark.parametrize("parts", [2, 3, 6])
    def test_micro_batches_make_the_step_of_the_full_batch(self, device, batches, parts):
        weights = V1LossWeights(entropy_reg_weight=0.1, chunk_bow_weight=0.1, plan_mi_weight=0.1)
        trainers = [
            make_trainer(device, config=SMOOTH, weights=weights, dtype=torch.float64, grad_accum_steps=n)
            for n in (1, parts)
        ]
        for step in range(3):
            whole, split = (trainer.train_step(batches(step)) for trainer in trainers)
            assert split.terms == pytest.approx(whole.terms, abs=1e-8)
            assert split.loss == pytest.approx(whole.loss, abs=1e-8)
            assert split.grad_norm == pytest.approx(whole.grad_norm, rel=1e-6)
            assert split.usage == pytest.approx(whole.usage, abs=1e-8)
        for a, b in zip(trainers[0].model.parameters(), trainers[1].model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)

    def test_more_micro_batches_than_rows_are_refused_before_anything_changes(self, device, batches):
        trainer = make_trainer(device, grad_accum_steps=7)
        before = copy.deepcopy(trainer.model.state_dict())
        with pytest.raises(ValueError, match=r"^cannot split 6 rows into 7 parts$"):
            trainer.train_step(batches(0))
        assert_identical(trainer.model.state_dict(), before)
        assert trainer.step == 0


class TestNonFinite:
    def assert_untouched(self, trainer, batch, error, match):
        before, optimizer = copy.deepcopy(trainer.model.state_dict()), copy.deepcopy(trainer.optimizer.state_dict())
        step = trainer.step
        with pytest.raises(error, match=match):
            trainer.train_step(batch)
        assert trainer.step == step
        for name, tensor in trainer.model.state_dict().items():
            assert torch.equal(tensor.nan_to_num(1e9), before[name].nan_to_num(1e9))
        assert_identical(trainer.optimizer.state_dict()["state"] or [0], optimizer["state"] or [0])

    @pytest.mark.parametrize("parts", [1, 3])
    def test_a_nan_loss_stops_naming_term_and_step(self, device, batches, parts):
        trainer = make_trainer(device, grad_accum_steps=parts)
        trainer.train_step(batches(0))
        trainer.train_step(batches(1))
        with torch.no_grad():
            trainer.model.head.out_proj.bias[0] = math.nan
        message = r"^loss term nll is nan at step 2; no parameter was changed; the learning rate was "
        self.assert_untouched(trainer, batches(2), NonFiniteError, message)

    def test_a_nan_in_one_term_alone_names_that_term(self, device, batches):
        trainer = make_trainer(device)
        with torch.no_grad():
            trainer.model.planner.recognizer.bias[0] = math.nan
        message = r"^loss term chunk_post_kl is nan at step 0; no parameter was changed; the learning rate was "
        self.assert_untouched(trainer, batches(0), NonFiniteError, message)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    @pytest.mark.parametrize("clip", [0.0, 1.0])
    def test_a_non_finite_gradient_under_a_finite_loss_stops(self, device, batches, value, clip):
        trainer = make_trainer(device, grad_clip=clip)
        trainer.train_step(batches(0))
        trainer.model.head.state_proj.weight.register_hook(lambda gradient: gradient * value)
        message = rf"^the gradient's norm is {value} at step 1, with every loss term finite; no parameter was changed; "
        self.assert_untouched(trainer, batches(1), NonFiniteError, message.replace("inf", "(inf|nan)"))

    def test_an_impossible_target_stops(self, device, batches):
        trainer = make_trainer(device)
        with torch.no_grad():
            trainer.model.head.plan_vocab_bias[:, int(batches(0).targets[0, 0])] = -math.inf
        message = r"^target 0 of row 0 has probability zero under every plan state: its NLL is infinite$"
        self.assert_untouched(trainer, batches(0), ImpossibleObservationError, message)

    def test_training_goes_on_after_a_refused_batch(self, device, batches):
        """Gradients of the refused step are not left behind."""
        refused, plain = make_trainer(device, config=SMOOTH), make_trainer(device, config=SMOOTH)
        handle = refused.model.head.state_proj.weight.register_hook(lambda gradient: gradient * math.nan)
        with pytest.raises(NonFiniteError):
            refused.train_step(batches(0))
        handle.remove()
        refused.train_step(batches(1))
        plain.train_step(batches(1))
        assert_identical(refused.model.state_dict(), plain.model.state_dict())


class TestSkipping:
    """`skip_non_finite`: steps without finite numbers are left out, at most so many in a row."""

    def broken_at(self, trainer, *steps):
        """The gradient of these steps (0 is the first) is NaN."""
        trainer.model.head.state_proj.weight.register_hook(
            lambda gradient: gradient * (math.nan if trainer.step in steps else 1)
        )
        return trainer

    def test_a_skipped_step_changes_no_parameter_and_says_why(self, device, batches):
        trainer = self.broken_at(make_trainer(device, skip_non_finite=1), 1)
        trainer.train_step(batches(0))
        before = copy.deepcopy((trainer.model.state_dict(), trainer.optimizer.state_dict()["state"]))
        report = trainer.train_step(batches(1))
        assert_identical((trainer.model.state_dict(), trainer.optimizer.state_dict()["state"]), before)
        reason = "the gradient's norm is nan at step 1, with every loss term finite; no parameter was changed"
        assert report.skipped == f"{reason}; the learning rate was {report.learning_rate:.3g}"
        assert report.step == trainer.step == 2
        assert math.isnan(report.loss)
        assert report.terms == {}
        assert trainer.train_step(batches(2)).skipped is None
        assert trainer.skipped == 0

    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_one_more_in_a_row_stops(self, device, batches, limit):
        trainer = self.broken_at(make_trainer(device, skip_non_finite=limit), 0, *range(2, 12))
        for step in range(limit + 2):
            trainer.train_step(batches(step))
        assert trainer.skipped == limit
        message = rf"at step {limit + 2}, .*; the {limit} step\(s\) before it were skipped for the like$"
        with pytest.raises(NonFiniteError, match=message):
            trainer.train_step(batches(limit + 2))
        assert all(bool(tensor.isfinite().all()) for tensor in trainer.model.state_dict().values())

    def test_a_nan_loss_is_skipped_and_rows_begin_afresh(self, make_model, make_batch):
        model = make_model()
        trainer = Trainer(model, OptimConfig(skip_non_finite=1), ALL)
        batch = make_batch([5, 3])._replace(continues=torch.tensor([True, True]))
        trainer.train_step(batch)
        assert trainer.carried.state is not None
        kept = model.planner.initial_logits.detach().clone()
        with torch.no_grad():
            model.planner.initial_logits[0] = math.nan
        report = trainer.train_step(batch._replace(continues=torch.tensor([False, True])))
        assert report.skipped.startswith("loss term nll is nan at step 1; no parameter was changed; ")
        assert trainer.carried.state is None
        with torch.no_grad():
            model.planner.initial_logits.copy_(kept)
        assert trainer.train_step(batch).skipped is None

    def test_the_count_goes_on_after_a_resumption(self, device, batches):
        whole = self.broken_at(make_trainer(device, skip_non_finite=2), 1, 2, 3)
        for step in range(2):
            whole.train_step(batches(step))
        resumed = self.broken_at(make_trainer(device, seed=1, skip_non_finite=2), 1, 2, 3)
        resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
        for trainer in (whole, resumed):
            trainer.train_step(batches(2))
            with pytest.raises(NonFiniteError, match="the 2 step"):
                trainer.train_step(batches(3))
        assert_identical(resumed.model.state_dict(), whole.model.state_dict())

    def test_another_run_begins_to_count_anew(self, device, batches):
        trainer = self.broken_at(make_trainer(device, skip_non_finite=1), 0)
        trainer.train_step(batches(0))
        other = make_trainer(device)
        other.load_state_dict(copy.deepcopy(trainer.state_dict()), restore_rng=False)
        assert other.skipped == 0

    @pytest.mark.parametrize("stored", [-1, 1.0, "2", True, None])
    def test_a_count_that_is_none_is_refused(self, device, stored):
        trainer = make_trainer(device)
        state = {**trainer.state_dict(), "skipped": stored}
        with pytest.raises(CheckpointError, match="the number of skipped steps must be a whole number >= 0, got "):
            trainer.load_state_dict(state)

    def test_a_state_from_before_it_was_counted(self, device):
        trainer = make_trainer(device)
        state = trainer.state_dict()
        del state["skipped"]
        trainer.load_state_dict(state)
        assert trainer.skipped == 0


class TestSteps:
    def test_the_report(self, device, batches):
        trainer = make_trainer(device)
        report = trainer.train_step(batches(0))
        assert report.step == trainer.step == 1
        assert report.targets == 35
        assert set(report.terms) == {"nll", "belief_entropy", "usage_kl", "chunk_bow", "plan_mi", "chunk_post_kl"}
        terms = report.terms
        wanted = terms["nll"] + 0.1 * (
            terms["belief_entropy"] + terms["usage_kl"] - terms["plan_mi"] + terms["chunk_post_kl"]
        )
        assert report.loss == pytest.approx(wanted)  # the bag-of-words weight is 0 at step 0 of its ramp
        assert report.learning_rate == pytest.approx(1e-2 / 4)
        assert sum(report.usage) == pytest.approx(1)
        assert len(report.usage) == 3
        assert set(make_trainer(device, weights=V1LossWeights()).train_step(batches(0)).terms) == {"nll"}

    def test_long_gradients_are_scaled_down_and_reported_unscaled(self, device, batches):
        free = make_trainer(device, config=SMOOTH, grad_clip=0.0)
        clipped = make_trainer(device, config=SMOOTH, grad_clip=1e-3)
        norms = [trainer.train_step(batches(0)).grad_norm for trainer in (free, clipped)]
        assert norms[0] == pytest.approx(norms[1]) != pytest.approx(1e-3)
        for trainer, wanted in ((free, norms[0]), (clipped, 1e-3)):
            total = sum(float(p.grad.square().sum()) for p in trainer.model.parameters() if p.grad is not None)
            assert math.sqrt(total) == pytest.approx(wanted, rel=1e-3)

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_it_learns_a_fixed_text(self, device, make_batch, precision):
        trainer = make_trainer(device, precision=precision, config=SMOOTH, weights=V1LossWeights(), lr=5e-2)
        batch = make_batch([10] * 4, seed=1)
        losses = [trainer.train_step(batch).loss for _ in range(20)]
        assert losses[-1] < 0.8 * losses[0]
        assert all(p.dtype == torch.float32 for p in trainer.model.parameters())

    def test_bf16_differs_from_fp32_and_stays_close(self, device, batches):
        full, half = (make_trainer(device, config=SMOOTH, precision=p).train_step(batches(0)) for p in ("fp32", "bf16"))
        assert half.loss != full.loss
        assert half.loss == pytest.approx(full.loss, rel=0.02)

    def test_products_have_the_precision_asked_for_within_steps_alone(self, device, batches):
        if device.type != "cuda" and not torch.cpu.get_capabilities().get("amx_bf16"):
            pytest.skip("this device multiplies float32 matrices in one precision only")
        seen = []
        trainer = make_trainer(device, matmul_precision="medium")
        trainer.model.executor.register_forward_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
        trainer.train_step(batches(0))
        trainer.model.read(*batches(0)[:2])
        assert seen == ["medium", "highest"]

    def test_fp16_is_refused_on_the_cpu_with_the_reason(self):
        message = (
            r"^precision fp16 needs a CUDA device, got cpu: "
            r"fp16 arithmetic is slow and loses gradients there; use bf16 or fp32$"
        )
        with pytest.raises(ValueError, match=message):
            make_trainer(torch.device("cpu"), precision="fp16")

    def test_fp16_trains_on_cuda(self, device, make_batch):
        if device.type != "cuda":
            pytest.skip("fp16 needs a CUDA device: run with --device cuda")
        trainer = make_trainer(device, precision="fp16", config=SMOOTH, weights=V1LossWeights(), lr=5e-2)
        batch = make_batch([10] * 4, seed=1)
        losses = [trainer.train_step(batch).loss for _ in range(20)]
        assert losses[-1] < 0.8 * losses[0]
