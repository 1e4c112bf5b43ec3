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
    "V2, window": (V2Config, {**SIZES, "executor": WINDOW, "head": FactorizedHeadConfig(), "boundary_evidence": False}),
}
PROMPTS = [[1, 2, 3, 4, 5], [6], [7, 8, 9]]
COMPILE = torch.compile


def uncompiled_step(function, **_):
    """In place of `torch.compile`: the function itself."""
    return function


def traced_step(function, **_):
    """In place of `torch.compile`: each kind of batch is traced as there, but no code is made, which takes long."""
    return COMPILE(function, fullgraph=True, backend="eager")


def write(model, prompts=PROMPTS, **options):
    """All tokens that come."""
    options = {"max_new_tokens": 12, "seeds": range(len(prompts)), **options}
    return list(generate(model, prompts, SamplingSettings(), **options))


def write_unequally(model, ends, **options):
    """Row b ends after `ends[b]` tokens."""
    made = dict.fromkeys(range(len(ends)), 0)

    def is_finished(row):
        made[row] += 1
        return made[row] == ends[row]

    found = write(model, PROMPTS[: len(ends)], is_finished=is_finished, **options)
    assert [sum(token.row == row for token in found) for row in made] == list(ends)
    return found


def equal(found, wanted, *, tolerance):
    assert len(found) == len(wanted)
    for own, other in zip(found, wanted, strict=True):
        assert (own.row, own.id, own.chunk) == (other.row, other.id, other.chunk)
        assert own.log_prob == pytest.approx(other.log_prob, abs=tolerance)
        assert own.belief == pytest.approx(other.belief, abs=tolerance)


@pytest.fixture
def uncompiled(monkeypatch, make_model):
    """A model whose step in fixed shapes is used as it stands, or as `compiler` makes it."""

    def make(name, compiler=uncompiled_step, **changes):
        kind, sizes = KINDS[name]
        monkeypatch.setattr(compiled_step_module.torch, "compile", compiler)
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
        chosen = {"policy": PlanPolicy(mode="uniform"), "freeze_planner": True}
        found = write_unequally(model, (4, 9, 12), **chosen)
        with plain_forms():
            equal(found, write_unequally(model, (4, 9, 12), **chosen), tolerance=1e-12)


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


@pytest.mark.parametrize(
    ("name", "form", "ends"),
    [("V1, GRU", None, [12]), ("V2, grouped heads", "int8", [12]), ("V2, window", "bf16", [3, 9, 3])],
)
def test_compiled_decoding_equals_plain_decoding(device, make_model, name, form, ends):
    """Ids, and log-probabilities and beliefs to 1e-5; weights in few bits are expanded to the same. Rows may end."""
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
    found = write_unequally(model, ends)
    with plain_forms():
        equal(found, write_unequally(model, ends), tolerance=1e-5)


@pytest.mark.parametrize("name", ["V2, grouped heads", "V2, window"])
def test_the_traced_step_gives_what_the_plain_one_gives_as_rows_end(uncompiled, name):
    model = uncompiled(name, traced_step)
    found = write_unequally(model, [3, 9, 6])
    with plain_forms():
        equal(found, write_unequally(model, [3, 9, 6]), tolerance=1e-12)


def test_a_kind_of_batch_beyond_pytorchs_limit_is_refused(uncompiled):
    model = uncompiled("V1, GRU", traced_step)
    refused = (
        r"^decoding is compiled .* PyTorch allows \(1\): set a larger torch\._dynamo\.config\.recompile_limit, or dec"
    )
    with torch._dynamo.config.patch(recompile_limit=1):
        found = write(model, PROMPTS[:1])
        with pytest.raises(ValueError, match=refused):
            write(model)
        equal(write(model, PROMPTS[:1]), found, tolerance=0)
        with plain_forms():
            wanted = write(model)
    with torch._dynamo.config.patch(recompile_limit=2):
        equal(write(model), wanted, tolerance=1e-12)


def test_each_model_is_compiled_on_its_own_account(uncompiled):
    """PyTorch counts compilations by code object."""
    codes = []
    for _ in range(2):
        uncompiled("V1, GRU", lambda step, **_: codes.append(step.__code__) or step)
    assert codes[0] is not codes[1]


@pytest.mark.parametrize("name", ["V1, GRU", "V2, grouped heads", "V2, window"])
def test_no_more_is_read_than_there_is_room_for(uncompiled, device, name):
    model, rows = uncompiled(name), torch.tensor([1, 0], device=device)
    ids = torch.tensor([3, 4], device=device)
    state = model.begin_decoding(model.initial_state(2), 3)
    refused = r"^room must be >= 1 to read another id, got 0; begin_decoding makes more$"
    with torch.inference_mode():
        for _ in range(3):
            state = model.select_rows(model.observe(model.predict(ids, state), ids), rows)
        with pytest.raises(ValueError, match=refused):
            model.predict(ids, state)
        state = model.begin_decoding(state, 1)
        assert model.observe(model.predict(ids, state), ids).position.tolist() == [4, 4]


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
