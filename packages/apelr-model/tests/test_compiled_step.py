"""A compiled step of decoding gives what the plain one gives; the step in fixed shapes is tested uncompiled as well."""

import pytest
import torch

from apelr_model import (
    FactorizedHeadConfig,
    OptimConfig,
    PlanPolicy,
    SamplingSettings,
    TransformerConfig,
    V1Config,
    V2Config,
    check_arithmetic,
    fixed_carry,
    generate,
    generation,
    plain_forms,
)
from apelr_model import compiled_step as compiled_step_module

SIZES = {"token_dim": 8, "hidden_dim": 8, "num_layers": 2}
GROUPED = TransformerConfig(num_heads=4, num_kv_heads=2)
WINDOW = TransformerConfig(num_heads=2, window=3)
KINDS = {
    "V1, GRU": (V1Config, {}),
    "V2, GRU": (V2Config, {"head": FactorizedHeadConfig(rank=2)}),
    "V2, grouped heads": (V2Config, {**SIZES, "executor": GROUPED}),
    "V2, window": (V2Config, {**SIZES, "executor": WINDOW, "head": FactorizedHeadConfig()}),
}
PROMPTS = [[1, 2, 3, 4, 5], [6], [7, 8, 9]]


def write(model, prompts=PROMPTS, **options):
    """All tokens that come."""
    options = {"max_new_tokens": 12, "seeds": range(len(prompts)), **options}
    return list(generate(model, prompts, SamplingSettings(), **options))


def equal(found, wanted, *, tolerance):
    assert len(found) == len(wanted)
    for own, other in zip(found, wanted, strict=True):
        assert (own.row, own.id, own.chunk) == (other.row, other.id, other.chunk)
        assert own.log_prob == pytest.approx(other.log_prob, abs=tolerance)
        assert own.belief == pytest.approx(other.belief, abs=tolerance)


@pytest.fixture
def uncompiled(monkeypatch, make_model):
    """A model whose step in fixed shapes is used as it stands, and counted."""

    def make(name, **changes):
        kind, sizes = KINDS[name]
        monkeypatch.setattr(compiled_step_module.torch, "compile", lambda function, **_: function)
        monkeypatch.setattr(compiled_step_module, "compiler_fails", lambda _: "")
        monkeypatch.setattr(fixed_carry, "ROUND_ROOM", 2)
        monkeypatch.setattr(generation, "STRETCH", 5)  # room is made thrice in 12 tokens
        model = make_model(kind=kind, **{**sizes, **changes})
        model.compile_decoding()
        return model

    return make


@pytest.mark.parametrize("name", KINDS)
class TestTheStepInFixedShapes:
    def test_gives_what_the_plain_step_gives(self, uncompiled, name):
        model = uncompiled(name)
        found = write(model)
        with plain_forms():
            equal(found, write(model), tolerance=1e-12)

    def test_rows_may_end_and_the_use_of_the_belief_may_be_chosen(self, uncompiled, name):
        model = uncompiled(name)
        ends = {0: 4, 1: 9, 2: 12}

        def run():
            made = dict.fromkeys(ends, 0)

            def is_finished(row):
                made[row] += 1
                return made[row] == ends[row]

            return write(model, is_finished=is_finished, policy=PlanPolicy(mode="uniform"), freeze_planner=True)

        found = run()
        assert [sum(token.row == row for token in found) for row in ends] == list(ends.values())
        with plain_forms():
            equal(found, run(), tolerance=1e-12)


def test_the_step_is_used_and_plain_forms_leave_it_unused(uncompiled, monkeypatch):
    model = uncompiled("V2, window")
    read = []
    step = model.executor.fixed_step
    monkeypatch.setattr(model.executor, "fixed_step", lambda *given: read.append(1) or step(*given))
    write(model)
    assert len(read) == 12
    with plain_forms():
        write(model)
    assert len(read) == 12


@pytest.mark.parametrize(("name", "form"), [("V1, GRU", None), ("V2, grouped heads", "int8")])
def test_compiled_decoding_equals_plain_decoding(device, make_model, name, form):
    """Ids, and log-probabilities and beliefs to 1e-5, of one row; weights in few bits are expanded to the same."""
    try:
        check_arithmetic(OptimConfig(compile=True), device)
    except ValueError as error:
        pytest.skip(str(error))
    kind, sizes = KINDS[name]
    wide = {**sizes, "hidden_dim": 64, "num_layers": 1, "vocab": 64}
    model = make_model(kind=kind, dtype=torch.float32, **wide)
    if form is not None:
        model.keep_weights(form)
    model.compile_decoding()
    found = write(model, PROMPTS[:1])
    with plain_forms():
        equal(found, write(model, PROMPTS[:1]), tolerance=1e-5)


def test_each_model_is_compiled_on_its_own_account(uncompiled):
    """PyTorch gives up after eight compilations of one code object."""
    first, second = (uncompiled("V1, GRU")._compiled_step for _ in range(2))
    assert first.__code__ is not second.__code__


def test_an_executor_without_fixed_shapes_is_refused(make_model):
    model = make_model()
    model.executor.fixed_carry = super(type(model.executor), model.executor).fixed_carry
    with pytest.raises(ValueError, match=r"^GRUExecutor cannot be compiled for decoding: it has no carry in fixed"):
        model.compile_decoding()


def test_where_nothing_can_be_compiled_nothing_is(make_model, monkeypatch):
    monkeypatch.setattr(compiled_step_module, "compiler_fails", lambda _: "no compiler")
    model = make_model()
    with pytest.raises(ValueError, match=r"^decoding cannot be compiled: torch\.compile makes no code for .*: no comp"):
        model.compile_decoding()
    assert write(model)
