from collections.abc import Callable
from pathlib import Path

import click
import pytest

from apelr_cli.loading import LoadedModel, load_model
from apelr_cli.plan_choice import choose_policy
from apelr_cli.sample_row import Forecast, SampleRow
from apelr_cli.sampling import SampleRequest, draw_samples, sampling_settings
from apelr_model import NothingLeftError, SamplingSettings
from apelr_tokenizers import Tokenizer


class Notes:
    """Notes what happens, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.texts: dict[int, str] = {}
        self.rows: dict[int, SampleRow] = {}

    def start(self) -> None:
        self.events.append(("start", -1))

    def add(self, index: int, text: str, row: SampleRow) -> None:
        self.events.append(("add", index))
        self.texts[index] = self.texts.get(index, "") + text

    def foresee(self, index: int, forecast: Forecast) -> None:
        self.events.append(("foresee", index))

    def end(self, index: int, row: SampleRow) -> None:
        self.events.append(("end", index))
        self.rows[index] = row

    def abandon(self) -> None:
        self.events.append(("abandon", -1))


def draw(loaded: LoadedModel, **changes: object) -> Notes:
    plain = {
        "prompt": "a cat",
        "settings": SamplingSettings(),
        "max_new_tokens": 20,
        "seed": 3,
        "num_samples": 1,
        "stops": (),
        "lookahead_steps": 0,
        "async_lookahead": False,
        "choice": choose_policy(loaded.model, {}),
    }
    notes = Notes()
    draw_samples(loaded, SampleRequest(**{**plain, **changes}), notes)  # type: ignore[arg-type]
    return notes


@pytest.fixture
def loaded(make_checkpoint: Callable[..., Path], char: Tokenizer, device: str) -> LoadedModel:
    return load_model(make_checkpoint(never=[char.eos_id]), device)


def test_defaults_are_the_models() -> None:
    assert sampling_settings({"temperature": None, "top_k": None}) == SamplingSettings()
    assert sampling_settings({"temperature": 0.5, "top_k": 3}) == SamplingSettings(temperature=0.5, top_k=3)


def test_bad_settings_are_named_as_options() -> None:
    with pytest.raises(click.UsageError) as error:
        sampling_settings({"top_p": 2.0, "no_repeat_ngram_size": -1})
    assert error.value.message == "--top-p must be > 0 and <= 1, got 2.0; --no-repeat-ngram-size must be >= 0, got -1"


def test_every_sample_is_given_on_piece_by_piece_and_ended_once(loaded: LoadedModel) -> None:
    notes = draw(loaded, num_samples=3)
    assert notes.events[0] == ("start", -1)
    assert notes.events[1:61] == [("add", i) for i in (0, 1, 2)] * 20
    assert [event for event in notes.events if event[0] == "end"] == [("end", i) for i in (0, 1, 2)]
    assert {index: row.text for index, row in notes.rows.items()} == notes.texts


def test_a_sample_of_a_batch_is_what_its_seed_gives_alone(loaded: LoadedModel) -> None:
    together = draw(loaded, num_samples=4, stops=("t",))
    for index in range(4):
        alone = draw(loaded, seed=3 + index, stops=("t",))
        assert alone.rows[0].ids == together.rows[index].ids
        assert alone.texts[0] == together.texts[index]
    assert len({tuple(row.ids) for row in together.rows.values()}) == 4


def test_a_stop_string_ends_generation_early(loaded: LoadedModel) -> None:
    free = draw(loaded, num_samples=2)
    stops = (free.texts[0][4], free.texts[1][9])
    stopped = draw(loaded, num_samples=2, stops=stops, max_new_tokens=10**9)
    for index in (0, 1):
        generated = "".join(text for _, text in stopped.rows[index].tokens)
        assert free.texts[index].startswith(generated)
        assert generated == stopped.texts[index] + generated[-1]
        assert generated[-1] in stops


def test_no_new_tokens_leave_the_prompt(loaded: LoadedModel) -> None:
    notes = draw(loaded, max_new_tokens=0)
    assert notes.rows[0].ids == notes.rows[0].prompt_ids
    assert notes.texts == {0: ""}


def test_a_sample_that_cannot_go_on_is_an_error(loaded: LoadedModel) -> None:
    with pytest.raises(NothingLeftError, match="no token is left"):
        draw(loaded, settings=SamplingSettings(no_repeat_ngram_size=1), max_new_tokens=1000)


def test_the_seed_decides(loaded: LoadedModel) -> None:
    assert draw(loaded).texts == draw(loaded).texts
    assert draw(loaded).texts != draw(loaded, seed=4).texts


@pytest.mark.parametrize("stops", [(), ("t",), ("e", "a")])
def test_forecasts_beside_the_tokens_change_nothing_and_come_before_the_end(
    loaded: LoadedModel, stops: tuple[str, ...]
) -> None:
    plain = draw(loaded, num_samples=3, lookahead_steps=2, stops=stops)
    beside = draw(loaded, num_samples=3, lookahead_steps=2, stops=stops, async_lookahead=True)
    assert beside.texts == plain.texts
    assert ("foresee", 0) not in plain.events
    for index in range(3):
        assert beside.rows[index].ids == plain.rows[index].ids
        for ours, theirs in zip(beside.rows[index].forecasts, plain.rows[index].forecasts, strict=True):
            assert ours[:3] == theirs[:3]
            assert ours.forecast[1] == pytest.approx(theirs.forecast[1])
        assert beside.events.count(("foresee", index)) == len(plain.rows[index].forecasts)
        assert beside.events.count(("end", index)) == 1
        after = beside.events[beside.events.index(("end", index)) :]
        assert ("foresee", index) not in after
