"""The configuration: what it refuses, and that transformers can compare and print it."""

import pytest

from apelr_model import TransformerLMConfig, V2Config

pytest.importorskip("transformers", reason="the extra apelr-model[transformers] is not installed")

from apelr_model.hf import ApelrConfig

PLAIN = {"version": "transformer_lm", "hidden_dim": 8}


def test_it_says_what_transformers_asks_for():
    config = ApelrConfig.of_model(TransformerLMConfig(token_dim=8, hidden_dim=8, tie_embeddings=True), 11)
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (11, 8, 1)
    assert config.tie_word_embeddings
    assert config.bos_token_id is None
    assert not ApelrConfig.of_model(V2Config(), 11).tie_word_embeddings


def test_it_prints_compares_and_comes_back(tmp_path):
    config = ApelrConfig.of_model(V2Config(num_plan_states=5), 11, eos_token_id=2)
    config.save_pretrained(tmp_path)
    again = ApelrConfig.from_pretrained(tmp_path)
    assert again.model_config == V2Config(num_plan_states=5)
    assert again.apelr == config.apelr
    assert again.eos_token_id == 2
    assert "num_plan_states" in repr(config)
    assert config.to_diff_dict()["vocab_size"] == 11


@pytest.mark.parametrize(
    ("apelr", "message"),
    [
        ({"vocab_size": 11}, r"^apelr\.model_config\.version must be one of v2_planner_required, .*, got None$"),
        ({"vocab_size": 11, "model_config": {"version": "v9"}}, "got 'v9'$"),
        ({"vocab_size": 11, "model_config": {**PLAIN, "hiden": 1}}, r"apelr\.model_config\."),
        ({"vocab_size": 11, "model_config": {**PLAIN, "hidden_dim": 0}}, "hidden_dim must be >= 1, got 0"),
        ({"vocab_size": "11", "model_config": PLAIN}, r"^apelr\.vocab_size must be a whole number >= 2, got '11'$"),
    ],
)
def test_a_config_that_makes_no_model_is_refused(apelr, message):
    with pytest.raises(ValueError, match=message):
        ApelrConfig(apelr)


def test_the_size_of_the_vocabulary_is_said_once():
    with pytest.raises(ValueError, match=r"^vocab_size must be apelr\.vocab_size \(11\)$"):
        ApelrConfig({"vocab_size": 11, "model_config": PLAIN}, vocab_size=12)
