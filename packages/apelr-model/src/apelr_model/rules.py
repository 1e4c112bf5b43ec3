"""Rules that configuration objects state about their fields, and the one error that names all broken ones."""

__all__ = ["COUNT_RULE", "LARGEST_COUNT", "Rule", "check_rules"]

Rule = tuple[str, object, str, bool]
"""(field, its value, the rule in words, does it hold)."""


LARGEST_COUNT = 2**62
"""What a count may be at most where it is compared with, or divides, 64-bit integers."""

COUNT_RULE = "between 1 and 2^62"
"""The rule of such a count in words."""


def check_rules(rules: list[Rule]) -> None:
    """Raise one ValueError with a line `field must be rule, got value` for each rule that does not hold."""
    broken = [f"{field} must be {rule}, got {value!r}" for field, value, rule, holds in rules if not holds]
    if broken:
        raise ValueError("\n".join(broken))
