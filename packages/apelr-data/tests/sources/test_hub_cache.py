"""A stream of the hub through the token cache: read once, of one commit, and trained from without the hub."""

import json

CACHE = """
import json
from apelr_data import DataConfig, Rows, TokenCache, open_corpus
from apelr_tokenizers import TokenizerConfig

folder = "FOLDER"
config = DataConfig(source="tinystories", token_cache_dir=folder, max_train_examples=25)
cache = TokenCache(config, TokenizerConfig(type="char", min_frequency=1), seed=0)
corpus = open_corpus(config, seed=0)
tokens = cache.tokens(cache.tokenizer(corpus), corpus)
tokens.check()
manifest = json.loads((tokens.folder / "manifest.json").read_text(encoding="utf-8"))
rows = Rows(tokens.streams["train"], 16)
print(json.dumps([tokens.reused, manifest["revisions"], rows.batch([0, len(rows) - 1]).inputs.tolist()]))
"""


def test_a_stream_is_read_once_and_its_commit_noted(hub, fill, run_python, hub_environment, tmp_path):
    fill(hub, "tinystories")
    script = CACHE.replace("FOLDER", str(tmp_path / "cache"))
    first = run_python(script, **hub_environment)
    assert first.returncode == 0, first.stderr
    reused, revisions, rows = json.loads(first.stdout)
    assert (reused, revisions) == (False, {"roneneldan/TinyStories": "a" * 40})
    hub.asked.clear()
    second = run_python(script, **hub_environment)
    assert json.loads(second.stdout) == [True, revisions, rows]
    assert hub.asked == []
