"""The `apelr` command: train, sample, score, and the configurations that ship with it."""

__all__: list[str] = []
