"""text into ids beside the tokenizers library alone, and what the training loop waits for its data"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tokenizers
from measured import Row, Run, at_least, at_most, single
from memory import in_process, measured_process

from apelr_cli.benchmark_works import training_steps
from apelr_cli.config_reader import load_run_config
from apelr_cli.prepared_text import prepare_text
from apelr_cli.shipped import find_config
from apelr_cli.training_data import prepare_data
from apelr_data import DataConfig, open_corpus, pack_documents
from apelr_model import build_model
from apelr_tokenizers import TokenizerConfig, fit_tokenizer

COPIES = (4, 16)
"""How often the corpus is repeated in the two texts whose memory is compared."""
QUICK = ("data.max_train_examples=300", "data.max_val_examples=10")


def rows(run: Run) -> Iterator[Row]:
    """Ratios; the text is that of `python_docs`."""
    documents = list(open_corpus(DataConfig(source="python_docs"), seed=0).documents("train"))
    tokenizer = fit_tokenizer(TokenizerConfig(vocab_size=4096), documents)
    library = tokenizers.Tokenizer.from_str(tokenizer.to_text())
    size = sum(len(document.encode()) for document in documents)
    works = {
        "packing": lambda: pack_documents(documents, tokenizer),
        "the library's encode_batch": lambda: library.encode_batch(documents, add_special_tokens=False),
        "the library's encode_batch_fast": lambda: library.encode_batch_fast(documents, add_special_tokens=False),
    }
    times = run.time(works)
    title = "tokenising and packing: rate beside that of"
    yield Row(f"{title} encode_batch", times.ratio("the library's encode_batch", "packing"), "x", at_least(0.9))
    yield Row(f"{title} encode_batch_fast", times.ratio("the library's encode_batch_fast", "packing"))
    yield Row("tokenising and packing: bytes of text a second", times.rate("packing", size), "/s")
    yield from waiting(run)
    few, many = (in_process(caching_peak, documents, copies) for copies in COPIES)
    title = f"memory of writing a token cache, {COPIES[1] // COPIES[0]} times the text"
    yield Row(title, single(many.step / few.step), "x", at_most(1.1))


def waiting(run: Run) -> Iterator[Row]:
    """The time in which the loop of `apelr train` has no batch yet, beside that of the step."""
    for name in ("quickstart", "v2_quickstart"):
        config = load_run_config(find_config(name), QUICK)
        data = prepare_data(config)
        model = build_model(config.model, data.tokenizer.vocab_size).to(run.device)
        step = training_steps(model, config.train, config.train.weights, data.train_batch(0)[0].to(run.device))
        numbers = iter(range(10**9))
        works = {f"{name}: batch": lambda n=numbers, d=data: d.train_batch(next(n)), f"{name}: step": step}
        times = run.time(works)
        share = times.ratio(f"{name}: batch", f"{name}: step")
        yield Row(f"{name}: waiting for data, of a training step", share, "%", at_most(0.01))
        yield Row(f"{name}: cutting a batch", times.each(f"{name}: batch"), "ms")


def caching_peak(documents: list[str], copies: int):
    """The peak of writing the cache of a text, after that of a small one."""
    with tempfile.TemporaryDirectory() as folder:

        def write(name: str, texts: list[str]) -> None:
            path = Path(folder) / f"{name}.jsonl"
            with path.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
            cache = str(Path(folder) / name)
            data = DataConfig(source="text", path=str(path), token_cache=True, token_cache_dir=cache)
            prepare_text(data, TokenizerConfig(vocab_size=512, fit_max_chars=100_000), seed=0)

        write("small", documents[:20])
        return measured_process(lambda: write("large", documents * copies))
