"""The lm-evaluation-harness: its tasks on our models. Needs the extra `apelr-cli[lm-eval]`; importing this does not."""

__all__: list[str] = []
