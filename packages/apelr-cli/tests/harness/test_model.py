"""The model as the harness sees it: its answers are those of `score` and of the harness's own way to split."""

import click
import pytest
import torch

from apelr_cli.device import resolve_device
from apelr_cli.loading import load_model
from apelr_model import PlanPolicy, score
from apelr_tokenizers import load_tokenizer

pytest.importorskip("lm_eval", reason="the extra apelr-cli[lm-eval] is not installed")

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import get_model

from apelr_cli.harness.model import ApelrLM

PAIRS = [
    ("the cat sat on", " the mat."),
    ("the cat sat on ", "the mat."),
    ("the dog ran", " to the cat"),
    ("the cat sat on", " a dog"),
    ("", "the dog"),
    ("the ca", "t"),
    ("the cat", ""),
    ("a cat and a dog, " * 40, "a big old bed."),
]
TEXTS = ["the cat sat on the mat. " * 30, "a dog", "the dog ran to the cat. "]


@pytest.fixture
def checkpoint(make_checkpoint, bpe):
    return make_checkpoint(bpe, dtype=torch.float64)


@pytest.fixture
def loaded(checkpoint, device):
    return load_model(checkpoint, device)


def asked(kind, rows):
    return [Instance(request_type=kind, doc={}, arguments=row, idx=0) for row in rows]


def log_prob(loaded, context, ids, policy=None):
    """log p(ids | context) from a score of the whole."""
    return score(loaded.model, [*context, *ids], policy=policy).log_prob[len(context) - 1 :].sum().item()


class HarnessSplit(TemplateLM):
    """The harness's own base class with our tokenizer; answers with the ids that it would have scored."""

    def __init__(self, tokenizer):
        super().__init__()
        self.text = tokenizer
        self.eot_token_id = tokenizer.bos_id

    eot_token_id = None

    def tok_encode(self, string, add_special_tokens=None, **kwargs):
        bos = [] if add_special_tokens is False else [self.text.bos_id]
        return bos + self.text.encode(string).ids

    def _loglikelihood_tokens(self, requests, **kwargs):
        return [(context, continuation) for _, context, continuation in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError

    def generate_until(self, requests, disable_tqdm=False):
        raise NotImplementedError


class TestLoglikelihood:
    @pytest.mark.parametrize("batch_size", [1, 3, 16])
    def test_scores_the_ids_that_the_harness_would(self, loaded, batch_size):
        """Of the two pairs that its own split leaves nothing of, the one is longer at the front, the other is empty."""
        wanted = HarnessSplit(loaded.tokenizer).loglikelihood(asked("loglikelihood", PAIRS), disable_tqdm=True)
        assert [not ids for _, ids in wanted] == [pair in (("the ca", "t"), ("the cat", "")) for pair in PAIRS]
        found = ApelrLM(loaded, batch_size=batch_size).loglikelihood(asked("loglikelihood", PAIRS))
        for (total, _), (context, ids) in zip(found, wanted, strict=True):
            if ids:
                assert total == pytest.approx(log_prob(loaded, context, ids), abs=1e-6)
        whole = loaded.tokenizer.encode("the cat").ids
        same = loaded.tokenizer.bos_id, *whole[:-1]
        assert found[5][0] == pytest.approx(log_prob(loaded, same, whole[-1:]), abs=1e-6)
        assert found[6] == (0.0, True)

    def test_greedy_flags_are_what_greedy_generation_gives(self, make_checkpoint, char, device):
        """A character an id, and no special token, so that the text says which ids were generated."""
        model = ApelrLM(load_model(make_checkpoint(char, dtype=torch.float64, never=range(4)), device))
        contexts = ["the cat", "the dog ran", "a big", ""]
        made = model.generate_until(asked("generate_until", [(text, {"max_gen_toks": 4}) for text in contexts]))
        other = [text[:-1] + ("a" if text[-1] == "t" else "t") for text in made]
        pairs = [pair for texts in (made, other) for pair in zip(contexts, texts, strict=True)]
        found = model.loglikelihood(asked("loglikelihood", pairs))
        assert [is_greedy for _, is_greedy in found] == [True] * 4 + [False] * 4

    def test_interventions(self, loaded):
        policy = PlanPolicy(force_state=1)
        found = ApelrLM(loaded, policy=policy).loglikelihood(asked("loglikelihood", PAIRS[:1]))
        context, ids = HarnessSplit(loaded.tokenizer).loglikelihood(asked("loglikelihood", PAIRS[:1]), True)[0]
        assert found[0][0] == pytest.approx(log_prob(loaded, context, ids, policy), abs=1e-6)
        assert found[0][0] != pytest.approx(log_prob(loaded, context, ids), abs=1e-3)


class TestRolling:
    @pytest.mark.parametrize("batch_size", [1, 3])
    def test_is_the_whole_document_after_bos(self, loaded, batch_size):
        found = ApelrLM(loaded, batch_size=batch_size).loglikelihood_rolling(
            asked("loglikelihood_rolling", [(text,) for text in [*TEXTS, ""]])
        )
        bos = [loaded.tokenizer.bos_id]
        wanted = [log_prob(loaded, bos, loaded.tokenizer.encode(text).ids) for text in TEXTS]
        assert found == [*(pytest.approx(each, abs=1e-6) for each in wanted), 0.0]


class TestGenerateUntil:
    def test_settings_stops_and_order(self, loaded):
        rows = [("the cat", {"until": [" "], "max_gen_toks": 9}), ("a dog", {"max_gen_toks": 9, "temperature": 1.0})]
        found = ApelrLM(loaded, seed=3).generate_until(asked("generate_until", [*rows, rows[0]]))
        assert found[0] == found[2]
        assert " " not in found[0]
        again = ApelrLM(loaded, seed=2, batch_size=1)
        assert again.generate_until(asked("generate_until", [rows[0], rows[0], rows[1]])) == [*found[::2], found[1]]

    def test_the_length_where_a_task_names_none(self, loaded):
        text = ApelrLM(loaded, max_gen_toks=2).generate_until(asked("generate_until", [("the cat", {})]))[0]
        long = ApelrLM(loaded, max_gen_toks=6).generate_until(asked("generate_until", [("the cat", {})]))[0]
        assert long.startswith(text)
        assert len(text) < len(long)


class TestMaking:
    def test_the_harness_knows_the_name(self):
        assert get_model("apelr") is ApelrLM

    def test_from_the_arguments_of_the_command(self, checkpoint, capsys):
        text = f"checkpoint={checkpoint},force_state=1,freeze_planner=True,max_gen_toks=5,seed=9"
        model = ApelrLM.create_from_arg_string(text, {"batch_size": "4", "max_batch_size": None, "device": "cpu"})
        assert (model.batch_size, model.max_gen_toks, model.seed, model.freeze_planner) == (4, 5, 9, True)
        assert model.policy == PlanPolicy(force_state=1)
        assert str(model.device) == "cpu"
        assert "plan state 1 is forced, frozen after the prompt" in capsys.readouterr().err
        info = model.get_model_info()
        assert info["model_version"] == "v1_filtered_mixture"
        assert "force_state=1" in info["policy"]

    @pytest.mark.parametrize(
        ("given", "options", "batch_size"),
        [
            ("", {"device": "cuda:0", "batch_size": 1}, 1),
            (",device=cpu,batch_size=5", {"device": "cuda:0", "batch_size": "2"}, 5),
            ("", {"device": "cpu"}, 16),
        ],
    )
    def test_options_of_the_harness_stand_behind_the_arguments(self, checkpoint, given, options, batch_size):
        model = ApelrLM.create_from_arg_string(f"checkpoint={checkpoint}{given}", options)
        assert model.batch_size == batch_size
        assert str(model.device) in {"cpu", str(resolve_device("auto"))}

    def test_a_device_that_we_do_not_know(self, checkpoint):
        with pytest.raises(ValueError, match="device must be one of auto, cpu, cuda, mps, got cuda:1"):
            ApelrLM.create_from_arg_string(f"checkpoint={checkpoint}", {"device": "cuda:1"})

    def test_a_tokenizer_of_its_own_is_handed_on(self, checkpoint, tmp_path, bpe, char):
        for name, tokenizer in (("bpe", bpe), ("char", char)):
            tokenizer.save(tmp_path / f"{name}.json")
        arguments = {"checkpoint": str(checkpoint), "tokenizer": str(tmp_path / "bpe.json")}
        model = ApelrLM.create_from_arg_obj(arguments)
        assert model.tokenizer_name == load_tokenizer(tmp_path / "bpe.json").fingerprint
        with pytest.raises(ValueError, match="fingerprint"):
            ApelrLM.create_from_arg_obj({**arguments, "tokenizer": str(tmp_path / "char.json")})

    def test_a_policy_that_the_model_does_not_have(self, loaded):
        with pytest.raises(ValueError, match="temperature"):
            ApelrLM(loaded, policy=PlanPolicy(temperature=2.0))

    def test_an_intervention_that_the_model_has_no_use_for(self, checkpoint):
        with pytest.raises(click.UsageError, match="--planner-temperature is not for v1_filtered_mixture"):
            ApelrLM.create_from_arg_obj({"checkpoint": str(checkpoint), "planner_temperature": 2})
