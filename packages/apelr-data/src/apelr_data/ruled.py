"""What all config objects of this package share: rules, checked when one is made."""

Rule = tuple[str, object, str, bool]


class Ruled:
    """A config object that raises ValueError with one line for every rule that does not hold."""

    def rules(self) -> list[Rule]:
        """Every rule as (field, value, what it must be, whether it holds)."""
        return []

    def __post_init__(self) -> None:
        """Raises ValueError with one line for every rule that does not hold."""
        broken = [f"{name} must be {rule}, got {value!r}" for name, value, rule, holds in self.rules() if not holds]
        if broken:
            raise ValueError("\n".join(broken))
