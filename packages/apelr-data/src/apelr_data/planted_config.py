"""`PlantedConfig`: the sizes of a source whose plans and probabilities are all known."""

from dataclasses import dataclass

from apelr_data.ruled import Rule, Ruled

LARGEST_TABLES = 20_000_000
"""The most numbers in all tables together (160 MB)."""
LONGEST_TEXT = 100_000_000
"""The most symbols of a split, which is one document."""


@dataclass(frozen=True, kw_only=True)
class PlantedConfig(Ruled):
    """The `data.planted` section. Raises ValueError with one line for every broken rule."""

    num_plans: int = 4
    "K*, the plans of the source."
    vocab_size: int = 64
    "V, the symbols; identity tokens want a tokenizer.vocab_size that is larger by the special tokens."
    chunk_size: int = 16
    "L, the symbols that are written before the plan may change."
    chunk_offset: int = 1
    "0: the first chunk has L symbols, as V1 counts; 1: it has L - 1, as V2 counts."
    self_transition: float = 0.9
    "The probability that the plan stays at a chunk's end; what is left is shared out unevenly over the others."
    overlap: float = 0.5
    "The weight of the table of symbol pairs that all plans share; the rest is each plan's own table."
    concentration: float = 0.1
    "Of the Dirichlet distribution that each row of a table is drawn from: the smaller, the fewer symbols may follow."
    table_seed: int | None = None
    "Seed of the tables; null for the run's seed, which always draws the plans and the symbols."
    train_tokens: int = 200_000
    "Symbols of training text; a longer text begins with the shorter one."
    val_tokens: int = 20_000
    "Symbols of validation text, drawn independently from the same tables."

    def rules(self) -> list[Rule]:
        """Every rule as (field, value, what it must be, whether it holds)."""
        numbers = (self.num_plans + 1) * (self.vocab_size + 1) * self.vocab_size
        seed = self.table_seed
        return [
            ("num_plans", self.num_plans, ">= 1", self.num_plans >= 1),
            ("vocab_size", self.vocab_size, ">= 2", self.vocab_size >= 2),
            (
                "vocab_size",
                self.vocab_size,
                f"such that num_plans + 1 ({self.num_plans + 1}) tables of (vocab_size + 1) x vocab_size hold at most "
                f"{LARGEST_TABLES} numbers",
                self.num_plans < 1 or self.vocab_size < 2 or numbers <= LARGEST_TABLES,
            ),
            ("chunk_size", self.chunk_size, ">= 1", self.chunk_size >= 1),
            ("chunk_offset", self.chunk_offset, "0 or 1", self.chunk_offset in (0, 1)),
            ("self_transition", self.self_transition, ">= 0 and < 1", 0 <= self.self_transition < 1),
            ("overlap", self.overlap, ">= 0 and <= 1", 0 <= self.overlap <= 1),
            ("concentration", self.concentration, "> 0 and <= 1000000", 0 < self.concentration <= 1e6),
            ("table_seed", seed, "null or between 0 and 2^63 - 1", seed is None or 0 <= seed < 2**63),
            *[
                (name, count, f">= 1 and <= {LONGEST_TEXT}", 1 <= count <= LONGEST_TEXT)
                for name, count in (("train_tokens", self.train_tokens), ("val_tokens", self.val_tokens))
            ],
        ]
