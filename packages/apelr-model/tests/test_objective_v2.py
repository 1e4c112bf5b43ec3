"""V2's terms and the controls': against plain references, directions, accumulation, and weights that do not fit."""

import dataclasses
import math

import pytest
import torch

from apelr_model import (
    MixtureOfSoftmaxesConfig,
    NoLossWeights,
    NonFiniteError,
    OptimConfig,
    Trainer,
    TransformerLMConfig,
    V1Config,
    V1LossWeights,
    V2Config,
    V2LossWeights,
)
from apelr_model.objective import TERM_NAMES, LossTerms, loss_terms, step_totals, total_loss

ALL = V2LossWeights(
    usage_balance=0.3,
    boundary_entropy=0.4,
    future_contrastive=0.5,
    plan_js_div=0.6,
    rep_unlikelihood=0.7,
    rep_window=3,
)
TERMS = ("usage_balance", "boundary_entropy", "future_contrastive", "plan_js_div", "rep_unlikelihood")
ADDITIVE = ("nll", "boundary_entropy", "plan_js_div", "rep_unlikelihood")
RAGGED = [10, 3, 7, 1, 4, 9]


def entropy(probabilities):
    return -math.fsum(p * math.log(p) for p in probabilities if p > 0)


def mean(values):
    return math.fsum(values) / len(values)


def unit(vector):
    length = math.sqrt(math.fsum(x * x for x in vector))
    return [x / length for x in vector]


def dot(first, second):
    return math.fsum(a * b for a, b in zip(first, second, strict=True))


def plain_contrast(anchors, summaries, horizon, temperature):
    """anchors [B][C][D], summaries [B][C][D], each row as long as its text: mean over anchors, then over distances."""
    longest = max(map(len, summaries))
    losses = []
    for distance in range(1, min(horizon, longest - 1) + 1):
        candidates = [unit(s) for row in summaries for s in row[distance:]]
        found = []
        for row, of_row in zip(anchors, summaries, strict=True):
            for c in range(len(of_row) - distance):
                scores = [dot(unit(row[c]), s) / temperature for s in candidates]
                own = dot(unit(row[c]), unit(of_row[c + distance])) / temperature
                found.append(math.log(math.fsum(math.exp(s) for s in scores)) - own)
        if found:
            losses.append(mean(found))
    return mean(losses) if losses else 0.0


def plain_terms(model, batch, plain_model, plain_policy):
    """Every term from its formula, a row at a time, in plain Python on full distributions."""
    size, window = model.config.chunk_size, ALL.rep_window
    plan = model.planner.initial_logits.softmax(-1).tolist(), model.planner.transition_logits.softmax(-1).tolist()
    embeddings, future = model.planner.plan_state_emb.weight.tolist(), model.planner.future_proj.weight.tolist()
    nll, divergence, repeated, starts, anchors, summaries, usage = [], [], [], [], [], [], []
    for row, length in enumerate(batch.lengths.tolist()):
        inputs, targets = batch.inputs[row, :length].tolist(), batch.targets[row, :length].tolist()
        hidden = model.executor(batch.inputs[row : row + 1, :length], model.executor.initial_carry(1))[0][0].tolist()
        words, boundaries = plain_model(model, inputs)
        states = range(len(words[0]))
        run = plain_policy(words, targets, boundaries, *plan, model.policy)
        nll += [-math.log(p) for p, *_ in run]
        usage += [after for *_, after in run]
        chunks = [list(range(first, min(first + size, length))) for first in range(0, length, size)]
        # The belief that chunk c starts with is that before target cL - 1, the first after its boundary.
        of_row = [plan[0] if c == 0 else run[c * size - 1][1] for c in range(len(chunks))]
        starts += of_row
        means = [[mean([hidden[t][d] for t in chunk]) for d in range(len(hidden[0]))] for chunk in chunks]
        summaries.append([[dot(weights, m) for weights in future] for m in means])
        columns = list(zip(*embeddings, strict=True))
        anchors.append([[dot(belief, column) for column in columns] for belief in of_row])
        for t, target in enumerate(targets):
            pairs = [(i, j) for i in states for j in states if i < j]
            middles = {(i, j): [(p + q) / 2 for p, q in zip(words[t][i], words[t][j], strict=True)] for i, j in pairs}
            entropies = [entropy(w) for w in words[t]]
            if pairs:
                divergence.append(mean([entropy(middles[i, j]) - (entropies[i] + entropies[j]) / 2 for i, j in pairs]))
            else:
                divergence.append(0.0)
            gate = run[t][2]
            recent = {u for u in inputs[max(0, t - window) : t] if u != target}
            probabilities = [math.fsum(gate[k] * words[t][k][u] for k in states) for u in sorted(recent)]
            if probabilities:
                repeated.append(mean([-math.log(1 - p) for p in probabilities]))
    used = [mean(column) for column in zip(*starts, strict=True)]
    return {
        "nll": mean(nll),
        "usage_balance": math.log(len(used)) - entropy(used),
        "boundary_entropy": mean([entropy(s) for s in starts]),
        "future_contrastive": plain_contrast(
            anchors, summaries, model.config.future_horizon_chunks, model.policy.temperature
        ),
        "plan_js_div": mean(divergence),
        "rep_unlikelihood": mean(repeated) if repeated else 0.0,
    }, [mean(column) for column in zip(*usage, strict=True)]


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"chunk_size": 1, "future_horizon_chunks": 3},
        {"boundary_evidence": False, "chunk_size": 2, "num_plan_states": 2},
        {"planner_temperature": 0.5, "lookahead_feedback_scale": 0.4, "lookahead_horizon": 2, "chunk_size": 3},
        {"token_filtering": False, "num_plan_states": 1},
    ],
)
@pytest.mark.parametrize("lengths", [[8, 8], [10, 3, 7, 1], [9], [1, 1]])
def test_every_term_equals_its_formula(make_model, make_batch, plain_model, plain_policy, lengths, sizes):
    model = make_model(kind=V2Config, **sizes)
    batch = make_batch(lengths, vocab=6)  # few words, so that many are repeated
    with torch.no_grad():
        found = loss_terms(model, batch, ALL)
        expected, usage = plain_terms(model, batch, plain_model, plain_policy)
    for name, wanted in expected.items():
        assert getattr(found, name).item() == pytest.approx(wanted, abs=1e-9), name
    assert found.usage.tolist() == pytest.approx(usage, abs=1e-10)


def test_usage_and_contrast_are_of_what_was_committed_to(make_model, make_batch):
    """With hard commitments the mean state is a share of counts; the entropy stays that of the beliefs."""
    model = make_model(kind=V2Config, plan_commitment="gumbel_st").train()
    model.planner.hard_fraction = 1.0
    batch = make_batch([9, 7])
    torch.manual_seed(1)
    found = loss_terms(model, batch, ALL)
    torch.manual_seed(1)
    reading = model.read(batch.inputs, batch.targets, lengths=batch.lengths)
    chosen = torch.cat([reading.filtered.start[0, :3], reading.filtered.start[1, :2]])  # 9 and 7 inputs in chunks of 4
    shares = chosen.mean(0).tolist()
    assert {share * 5 for share in shares} <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    assert found.usage_balance.item() == pytest.approx(math.log(3) - entropy(shares))
    beliefs = torch.cat([reading.filtered.log_start[0, :3], reading.filtered.log_start[1, :2]]).exp()
    assert found.boundary_entropy.item() == pytest.approx(mean([entropy(b) for b in beliefs.tolist()]))


def test_the_total_is_the_signed_weighted_sum(make_model, make_batch):
    with torch.no_grad():
        terms = loss_terms(make_model(kind=V2Config), make_batch(RAGGED), ALL)
    wanted = (
        terms.nll
        + 0.3 * terms.usage_balance
        + 0.4 * terms.boundary_entropy
        + 0.5 * terms.future_contrastive
        - 0.6 * terms.plan_js_div
        + 0.7 * terms.rep_unlikelihood
    )
    torch.testing.assert_close(total_loss(terms, ALL, 0), wanted)


@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_computed_where_it_has_a_weight(make_model, make_batch, name):
    with torch.no_grad():
        terms = loss_terms(make_model(kind=V2Config), make_batch(RAGGED), V2LossWeights(**{name: 0.1}))
    assert {each for each in TERM_NAMES if getattr(terms, each) is not None} == {"nll", name}


@pytest.mark.parametrize(
    ("weight", "direction"),
    [
        ("usage_balance", -1),
        ("boundary_entropy", -1),
        ("future_contrastive", -1),
        ("plan_js_div", +1),
        ("rep_unlikelihood", -1),
    ],
)
def test_one_gradient_step_with_a_large_weight_moves_the_term_the_stated_way(make_model, make_batch, weight, direction):
    for sign in (+1, -1):
        model, batch = make_model(kind=V2Config), make_batch(RAGGED, vocab=6)
        weights = V2LossWeights(**{weight: sign * 1000.0})
        first = loss_terms(model, batch, weights)
        total_loss(first, weights, 0).backward()
        with torch.no_grad():
            norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None))
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.01 * parameter.grad / norm
            second = loss_terms(model, batch, weights)
        assert (getattr(second, weight) - getattr(first, weight)).item() * direction * sign > 1e-6


class TestMeaning:
    """What the signs are for, in the quantity that a user would look at."""

    def trained(self, make_model, make_batch, weights, steps=30):
        model = make_model(kind=V2Config, seed=3)
        trainer = Trainer(model, OptimConfig(lr=0.02, warmup_steps=0, max_steps=10**6), weights)
        for step in range(steps):
            trainer.train_step(make_batch([12, 9, 12, 7], vocab=6, seed=step))
        return model.eval()

    def test_usage_balance_asks_for_all_states(self, make_model, make_batch):
        batch = make_batch([12] * 8, vocab=6, seed=99)
        shares = []
        for weight in (0.0, 10.0):
            model = self.trained(make_model, make_batch, V2LossWeights(usage_balance=weight))
            with torch.no_grad():
                shares.append(loss_terms(model, batch, V2LossWeights(usage_balance=1.0)).usage_balance.item())
        assert shares[1] < shares[0]

    def test_repetition_becomes_rarer(self, make_model, make_batch):
        batch = make_batch([12] * 8, vocab=6, seed=99)
        found = []
        for weight in (0.0, 10.0):
            model = self.trained(make_model, make_batch, V2LossWeights(rep_unlikelihood=weight, rep_window=3))
            with torch.no_grad():
                probe = V2LossWeights(rep_unlikelihood=1.0, rep_window=3)
                found.append(loss_terms(model, batch, probe).rep_unlikelihood.item())
        assert found[1] < found[0]


def test_every_parameter_gets_a_gradient(make_model, make_batch):
    model = make_model(kind=V2Config, num_layers=2).train()
    total_loss(loss_terms(model, make_batch(RAGGED), ALL), ALL, 0).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not (p.grad != 0).any()] == []


class TestAccumulation:
    @pytest.mark.parametrize("parts", [2, 3, 6])
    @pytest.mark.parametrize("documents", [None, [[4, 6], [3], [2, 5], [1], [4], [9]]])
    def test_gradients_and_means_are_those_of_the_full_batch(self, make_model, make_batch, parts, documents):
        weights = dataclasses.replace(ALL, usage_balance=0.0, future_contrastive=0.0)
        batch = make_batch(RAGGED, documents=documents, vocab=6)
        whole, split = make_model(kind=V2Config), make_model(kind=V2Config)
        terms = loss_terms(whole, batch, weights)
        total_loss(terms, weights, 0).backward()
        sums = dict.fromkeys(ADDITIVE, 0.0)
        totals = step_totals(split, batch, weights, micro_batches=parts)
        for micro in batch.split(parts):
            found = loss_terms(split, micro, weights, totals=totals)
            total_loss(found, weights, 0).backward()
            for name in ADDITIVE:
                sums[name] += getattr(found, name).item()
        for name in ADDITIVE:
            assert sums[name] == pytest.approx(getattr(terms, name).item(), abs=1e-10), name
        for (name, a), b in zip(whole.named_parameters(), split.parameters(), strict=True):
            if a.grad is not None:
                torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-9, msg=name)

    @pytest.mark.parametrize("name", ["usage_balance", "future_contrastive"])
    def test_functions_of_a_whole_batch_are_the_mean_of_the_micro_batches_own_values(
        self, make_model, make_batch, name
    ):
        model, batch = make_model(kind=V2Config), make_batch([9] * 6)
        totals = step_totals(model, batch, ALL, micro_batches=3)
        with torch.no_grad():
            alone = [getattr(loss_terms(model, micro, ALL), name) for micro in batch.split(3)]
            shared = [getattr(loss_terms(model, micro, ALL, totals=totals), name) for micro in batch.split(3)]
            whole = getattr(loss_terms(model, batch, ALL), name)
        torch.testing.assert_close(sum(shared), sum(alone) / 3)
        assert abs(float(sum(shared) - whole)) > 1e-6


class TestTotals:
    @pytest.mark.parametrize("lengths", [[1], [4], [5], [8, 1, 3], RAGGED])
    def test_chunks_of_inputs(self, make_model, make_batch, lengths):
        totals = step_totals(make_model(kind=V2Config, chunk_size=4), make_batch(lengths), V2LossWeights())
        assert totals == (sum(lengths), sum(-(-n // 4) for n in lengths), 0, 1)

    def test_targets_with_something_to_repeat(self, make_model, make_batch):
        """Counted only where the term has a weight; the window is x_{t-w} ... x_{t-1}."""
        batch = make_batch([4, 2], width=5)
        batch.inputs[0, :4] = torch.tensor([1, 2, 2, 3])
        batch.targets[0, :4] = torch.tensor([2, 2, 3, 1])
        batch.inputs[1, :2], batch.targets[1, :2] = torch.tensor([7, 7]), torch.tensor([7, 7])
        model = make_model(kind=V2Config)
        # Row 0: t=1 may repeat 1, t=2 (target 3) may repeat 1 and 2, t=3 (target 1) may repeat 2. Row 1: nothing.
        assert step_totals(model, batch, V2LossWeights(rep_unlikelihood=0.1, rep_window=2)).repeatable == 3
        assert step_totals(model, batch, V2LossWeights(rep_window=2)).repeatable == 0

    def test_nothing_to_repeat_is_zero_not_nan(self, make_model, make_batch):
        batch = make_batch([1, 1])
        weights = V2LossWeights(rep_unlikelihood=0.1)
        terms = loss_terms(make_model(kind=V2Config), batch, weights)
        assert terms.rep_unlikelihood.item() == 0.0
        assert torch.isfinite(total_loss(terms, weights, 0))


class TestWeightsThatFit:
    @pytest.mark.parametrize("weights", [V1LossWeights(), V1LossWeights(plan_mi_weight=0.1)])
    @pytest.mark.parametrize("kind", [V2Config, MixtureOfSoftmaxesConfig, TransformerLMConfig])
    def test_version_1s_fit_no_other(self, make_model, make_batch, kind, weights):
        model = make_model(kind=kind)
        message = f"^loss weights of v1_filtered_mixture do not fit a {model.config.version}$"
        with pytest.raises(ValueError, match=message):
            loss_terms(model, make_batch([4, 2]), weights)

    @pytest.mark.parametrize("weights", [V2LossWeights(), V2LossWeights(plan_js_div=0.1)])
    @pytest.mark.parametrize("kind", [V1Config, MixtureOfSoftmaxesConfig, TransformerLMConfig])
    def test_version_2s_fit_no_other(self, make_model, make_batch, kind, weights):
        model = make_model(kind=kind)
        message = f"^loss weights of v2_planner_required do not fit a {model.config.version}$"
        with pytest.raises(ValueError, match=message):
            loss_terms(model, make_batch([4, 2]), weights)

    def test_every_version_can_be_trained_on_the_nll_alone(self, make_model, make_batch, version):
        model, batch = make_model(kind=version), make_batch([6, 3])
        terms = loss_terms(model, batch, NoLossWeights())
        assert {name for name in TERM_NAMES if getattr(terms, name) is not None} == {"nll"}
        assert total_loss(terms, NoLossWeights(), 0) == terms.nll
        report = Trainer(model, OptimConfig(), NoLossWeights()).train_step(batch)
        assert report.terms == {"nll": pytest.approx(terms.nll.item())}
        assert report.loss == report.terms["nll"]


@pytest.mark.parametrize("name", ["nll", *TERMS])
@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (math.inf, "inf")])
def test_a_non_finite_term_is_named_with_its_step(name, value, shown):
    scalars = {key: torch.tensor(1.0) for key in ("nll", *TERMS)} | {name: torch.tensor(value)}
    message = f"^loss term {name} is {shown} at step 17; no parameter was changed$"
    with pytest.raises(NonFiniteError, match=message):
        total_loss(LossTerms(usage=torch.ones(2) / 2, **scalars), ALL, 17)


def test_padding_changes_nothing(make_model, make_batch):
    batch = make_batch(RAGGED, width=15)
    results = []
    for filler in (0, 7):
        model = make_model(kind=V2Config)
        inputs, targets = (values.masked_fill(~batch.valid, filler) for values in batch[:2])
        terms = loss_terms(model, batch._replace(inputs=inputs, targets=targets), ALL)
        total_loss(terms, ALL, 0).backward()
        results.append([*filter(torch.is_tensor, terms), *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_a_very_unlikely_word_leaves_every_term_and_gradient_finite(make_model, make_batch):
    """150 nats: exp underflows in float32, but every term has a finite value, and float32 gives it."""
    batch = make_batch([8, 8])
    values = []
    for dtype in (torch.float64, torch.float32):
        model = make_model(kind=V2Config, dtype=dtype)
        with torch.no_grad():
            model.head.bias[:, int(batch.targets[0, 0])] = -150.0
        terms = loss_terms(model, batch, ALL)
        total_loss(terms, ALL, 0).backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
        values.append([getattr(terms, name).item() for name in ("nll", *TERMS)])
    assert values[0] == pytest.approx(values[1], rel=1e-4, abs=1e-4)


def test_terms_under_autocast_are_close_to_those_in_float32(make_model, make_batch, device):
    model, batch = make_model(kind=V2Config, dtype=torch.float32), make_batch(RAGGED)
    with torch.no_grad():
        full = loss_terms(model, batch, ALL)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            half = loss_terms(model, batch, ALL)
    for name in ("nll", *TERMS):
        a, b = getattr(full, name), getattr(half, name)
        assert b.dtype in (torch.float32, torch.float64), name
        assert a.item() == pytest.approx(b.item(), rel=0.05, abs=0.02), name
