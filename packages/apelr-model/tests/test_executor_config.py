"""Executor configs: defaults, one line a broken rule, and the rules that need the model's width."""

import pytest

from apelr_model.executor_config import GRUConfig, TransformerConfig, executor_rules
from apelr_model.rules import check_rules


def test_types_tell_the_kinds_apart():
    assert (GRUConfig().type, TransformerConfig().type) == ("gru", "transformer")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"num_heads": 0}, "num_heads must be >= 1, got 0"),
        ({"num_heads": 4, "num_kv_heads": 3}, "num_kv_heads must be null or a divisor of num_heads (4), got 3"),
        ({"num_kv_heads": 0}, "num_kv_heads must be null or a divisor of num_heads (4), got 0"),
        ({"num_kv_heads": 8}, "num_kv_heads must be null or a divisor of num_heads (4), got 8"),
        ({"mlp_dim": 0}, "mlp_dim must be null or >= 1, got 0"),
        ({"window": 0}, "window must be null or >= 1, got 0"),
        ({"rope_base": 1.0}, "rope_base must be > 1 and finite, got 1.0"),
        ({"rope_base": float("nan")}, "rope_base must be > 1 and finite, got nan"),
        ({"rope_base": float("inf")}, "rope_base must be > 1 and finite, got inf"),
    ],
)
def test_a_broken_rule_is_one_line(values, line):
    with pytest.raises(ValueError) as raised:
        TransformerConfig(**values)
    assert str(raised.value) == line


def test_all_broken_rules_are_named_at_once():
    with pytest.raises(ValueError) as raised:
        TransformerConfig(num_heads=0, num_kv_heads=0, window=0)
    assert [line.split()[0] for line in str(raised.value).splitlines()] == ["num_heads", "window"]


@pytest.mark.parametrize(("hidden_dim", "heads", "holds"), [(8, 4, True), (8, 1, True), (9, 3, False), (12, 5, False)])
def test_heads_divide_the_hidden_width_into_even_widths(hidden_dim, heads, holds):
    rules = executor_rules(TransformerConfig(num_heads=heads), hidden_dim=hidden_dim)
    if holds:
        check_rules(rules)
        return
    with pytest.raises(ValueError, match=rf"^executor\.num_heads must be .*\({hidden_dim}\).*, got {heads}$"):
        check_rules(rules)


def test_a_gru_has_no_rules_of_its_own():
    assert GRUConfig().rules() == executor_rules(GRUConfig(), hidden_dim=7) == []


@pytest.mark.parametrize(("hidden_dim", "width"), [(8, 64), (24, 64), (25, 128), (256, 704), (768, 2048)])
def test_the_default_inner_width_is_eight_thirds_rounded_up_to_64(hidden_dim, width):
    assert TransformerConfig().mlp_width(hidden_dim) == width
    assert TransformerConfig(mlp_dim=5).mlp_width(hidden_dim) == 5
