"""Pages for `nox -s browser`: tiny runs, trained here, and what `apelr report` and `apelr compare` make of them."""

import os
import shutil
import sys
from pathlib import Path

from apelr_cli.main import main as apelr

HOSTILE = (
    '</script><img src=x onerror="window.hurt=1"> {{ 7 * 7 }} <b>& "q" \' \u202e '
    "</style><script>window.hurt=2</script>. "
)
SMALL = ("token_dim=16", "hidden_dim=16", "num_layers=1", "chunk_size=4", "num_plan_states=12")


def run(*arguments: str | Path) -> None:
    apelr([str(argument) for argument in arguments], prog_name="apelr", standalone_mode=False)


def train(out: Path, config: str, steps: int, *settings: str) -> None:
    chosen = [*settings, f"train.max_steps={steps}", "train.log_interval=5", f"train.eval_interval={steps // 2}"]
    options = [word for each in chosen for word in ("--set", each)]
    run("train", "--config", config, *options, "--out", out, "--quiet")


def main(out: Path) -> None:
    """Two pages for certain, and one of the run that APELR_BROWSER_RUN names."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    text = out / "hostile.txt"
    text.write_text(HOSTILE * 60, encoding="utf-8")
    model = [f"model.{each}" for each in SMALL]
    of_text = ["data.source=text", f"data.path={text}", "data.val_fraction=0.3", "tokenizer.vocab_size=300"]
    train(out / "hostile", "quickstart", 10, *model, *of_text, "train.seq_len=48")
    stories = ["data.max_train_examples=200", "data.max_val_examples=16", "tokenizer.vocab_size=400"]
    for states in (8, 6):
        sizes = [f"model.num_plan_states={states}", "model.hidden_dim=32"]
        train(out / f"stories-{states}", "v2_quickstart", 20, *stories, *sizes)
    run("report", out / "hostile", "-o", out / "hostile.html", "--quiet")
    own = os.environ.get("APELR_BROWSER_RUN")
    run("report", own or out / "stories-8", "-o", out / "report.html", "--quiet")
    run("compare", out / "stories-8", out / "stories-6", "-o", out / "compare.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
