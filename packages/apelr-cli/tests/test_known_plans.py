"""Known plans of a text, target by target, in the rows and batches that it is read in; and after training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result

from apelr_cli.evaluation_text import TextRequest, find_text
from apelr_cli.known_plans import TextOrigin, find_known_plans
from apelr_cli.loading import LoadedModel
from apelr_cli.run_config import RunConfig, to_plain
from apelr_cli.train_config import ControlTrainConfig, V2TrainConfig
from apelr_cli.training_data import prepare_data
from apelr_cli.user_input import InputError
from apelr_data import DataConfig, DataError, PlantedConfig, PlantedSource, open_corpus
from apelr_model import MixtureOfSoftmaxesConfig, V1Config, V2Config, build_model
from apelr_tokenizers import TokenizerConfig, fit_tokenizer

PLANTED = PlantedConfig(num_plans=3, vocab_size=6, chunk_size=8, chunk_offset=1, train_tokens=60, val_tokens=100)
SMALL: dict[str, Any] = {"num_plan_states": 3, "token_dim": 5, "hidden_dim": 7}


def run_config(*, control: bool = False, carried: bool = False) -> RunConfig:
    sizes: dict[str, Any] = {"seq_len": 16, "batch_size": 3}
    return RunConfig(
        seed=3,
        model=MixtureOfSoftmaxesConfig(**SMALL) if control else V2Config(chunk_size=8, **SMALL),
        data=DataConfig(source="planted", planted=PLANTED, order="contiguous" if carried else "shuffled"),
        tokenizer=TokenizerConfig(type="identity", vocab_size=10),
        train=ControlTrainConfig(**sizes) if control else V2TrainConfig(carry_belief=carried, **sizes),
    )


def plans_by_text() -> list[int]:
    """The plan of each target of the stream BOS, 100 symbols, EOS."""
    return [*PlantedSource(PLANTED, seed=3).stream("validation").plans.tolist(), -1]


@pytest.mark.parametrize("form", [{}, {"carried": True}, {"control": True}])
def test_labels_belong_to_the_targets_of_their_batch(
    lanes_of: Callable[..., list[list[list[int]]]], form: dict[str, bool]
) -> None:
    config = run_config(**form)
    tokenizer = fit_tokenizer(config.tokenizer, [])
    loaded = LoadedModel(build_model(config.model, 10), tokenizer, to_plain(config))
    text, data = find_text(loaded, TextRequest()), prepare_data(config)
    known = text.known_plans(loaded.model.chunks)
    assert known.names == ("0", "1", "2")
    symbols = (PlantedSource(PLANTED, seed=3).stream("validation").symbols + 4).tolist()
    for batches in (text.labelled_batches(known), data.labelled_validation_batches(known, None)):
        found = list(batches)
        targets, labels = (
            lanes_of(parts)
            for parts in ([b for b, _ in found], [batch._replace(targets=labels) for batch, labels in found])
        )
        assert [len(lane) for lane in targets] == ([1] * 7 if form.get("control") else [4, 3])
        assert [target for lane in targets for row in lane for target in row] == [*symbols, tokenizer.eos_id]
        assert [label for lane in labels for row in lane for label in row] == plans_by_text()
    assert found[0].labels[0].tolist() == plans_by_text()[:16]


def test_true_transitions_are_those_of_chunks_that_fall_together() -> None:
    config = run_config()
    data = prepare_data(config)
    origin = TextOrigin(data.text.corpus, "validation", config)
    truth = PlantedSource(PLANTED, seed=3).tables.transition
    for form, chunk_size, known in ((V2Config, 8, True), (V1Config, 8, False), (V2Config, 4, False)):
        model = build_model(form(chunk_size=chunk_size, **SMALL), 10)
        found = find_known_plans(origin, data.validation_stream, model.chunks)
        assert (found.true_transition is not None) is known
        if found.true_transition is not None:
            assert found.true_transition.tolist() == truth.tolist()


def test_texts_without_known_plans(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("a b c", encoding="utf-8")
    model = build_model(V2Config(chunk_size=8, **SMALL), 10)
    tokenizer = fit_tokenizer(TokenizerConfig(type="identity", vocab_size=10), [])
    text = find_text(LoadedModel(model, tokenizer), TextRequest(file=file))
    with pytest.raises(InputError, match=r"text\.txt has no known plans: only the corpora storyworld and planted have"):
        text.known_plans(model.chunks)
    data = DataConfig(source="text", path=str(file), val_path=str(file))
    origin = TextOrigin(open_corpus(data, seed=0), "train", RunConfig(data=data))
    with pytest.raises(DataError, match="source text has no gold plans; storyworld and planted have"):
        find_known_plans(origin, prepare_data(run_config()).train_stream, model.chunks)


@pytest.mark.parametrize(
    ("model", "compared"),
    [
        ({"version": "v2_planner_required", "chunk_size": 8}, True),
        ({"version": "v2_planner_required", "chunk_size": 8, "num_plan_states": 1}, False),
        ({"version": "mixture_of_softmaxes"}, False),
    ],
)
def test_a_finished_run_compares_its_plans(
    apelr: Callable[..., Result], tmp_path: Path, model: dict[str, Any], compared: bool
) -> None:
    content = {
        "seed": 3,
        "device": "cpu",
        "model": {**SMALL, **model},
        "tokenizer": {"type": "identity", "vocab_size": 10},
        "data": {"source": "planted", "planted": {"num_plans": 3, "vocab_size": 6, "chunk_size": 8, "val_tokens": 100}},
        "train": {"seq_len": 16, "batch_size": 4, "max_steps": 1, "warmup_steps": 0, "val_batches": None},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    result = apelr("train", "--config", tmp_path / "run.yaml", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "run" / "planner_eval.json").read_text(encoding="utf-8"))
    assert ("recovery" in found) is compared
    if compared:
        shown = apelr("eval", "--checkpoint", tmp_path / "run", "--gold", "--format", "json", "--device", "cpu")
        again = json.loads(shown.stdout)["recovery"]
        assert found["recovery"]["transition"]["mean"] == pytest.approx(again["transition"]["mean"])
        assert found["recovery"]["filtered"]["table"] == again["filtered"]["table"]
