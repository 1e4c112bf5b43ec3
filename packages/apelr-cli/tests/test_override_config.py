import pytest

from apelr_cli.config_reader import ConfigError, override_run_config
from apelr_cli.run_config import RunConfig
from apelr_data import DataConfig


def test_overrides_are_laid_over_a_config_and_checked() -> None:
    config = RunConfig(seed=3, data=DataConfig(source="text", path="a: b.txt"))
    assert override_run_config(config, []) == config
    changed = override_run_config(config, ["data.val_fraction=0.5", "data.max_val_tokens=100", "seed=4"])
    expected = DataConfig(source="text", path="a: b.txt", val_fraction=0.5, max_val_tokens=100)
    assert changed == RunConfig(seed=4, data=expected)
    with pytest.raises(ConfigError) as error:
        override_run_config(config, ["data.val_fractoin=0.5", "data.max_val_tokens=none"])
    assert len(str(error.value).splitlines()) == 2
