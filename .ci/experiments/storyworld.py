"""Stories with known beats: bits per byte, beats found again against LDA and k-means, steering, lookahead skill."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from evaluations import evaluation
from running import Run, cell, markdown, mixtures, read
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.feature_extraction.text import TfidfTransformer

from apelr_cli.config_reader import load_run_config
from apelr_data import gold_plans, open_corpus, pack_documents
from apelr_model import ChunkRule, compare_plans
from apelr_model.gold_chunks import chunk_labels
from apelr_tokenizers import load_tokenizer

SEEDS = 5
AHEAD = (1, 2, 4)
"""Chunks ahead whose forecasts are shown."""
MEASURED = ("--gold", "--steering=10", "--steering-tokens=256")
CLUSTERED = 400
"""Most training stories that LDA and k-means are fitted to."""
CONTROL_SEEDS = 3


def stages(seeds: Sequence[int], out: Path) -> Iterator[list[Run]]:
    """All at once."""
    yield list(runs(seeds))


def runs(seeds: Sequence[int]) -> Iterator[Run]:
    """The recipe of the storyworld quickstart, with every seed; its controls with the first few."""
    yield from (Run("v2", "v2_quickstart", (), seed, (MEASURED,)) for seed in seeds)
    for seed in seeds[:CONTROL_SEEDS]:
        yield from _controls(seed)


def _controls(seed: int) -> list[Run]:
    """Mixtures of the same heads, and no plan."""
    plain = Run("transformer_lm", "transformer_lm_quickstart", (), seed)
    return [*mixtures("mixture_of_softmaxes_quickstart", seed), plain]


def table(seeds: Sequence[int], out: Path) -> str:
    """Means over the seeds."""
    folders = [out / f"v2-{seed}" for seed in seeds]
    found = [evaluation(folder, *MEASURED) for folder in folders]
    clusters = [_clusters(folder) for folder in folders]
    sources = [read(folder, "metrics.json")["references_bits_per_byte"]["source"] for folder in folders]
    bits = [read(folder, "metrics.json")["validation"]["bits_per_byte"] for folder in folders]
    rows = [
        ["bits per byte", cell(bits)],
        ["bits per byte / the source's own", cell(b / s for b, s in zip(bits, sources, strict=True))],
        ["NMI with beats, filtered", cell(_nmi(each, "filtered") for each in found)],
        ["NMI with beats, smoothed", cell(_nmi(each, "smoothed") for each in found)],
        *[[f"NMI with beats, {name}", cell(each[name] for each in clusters)] for name in clusters[0]],
        ["plan MI, nats", cell(each["plan_mi"] for each in found)],
        ["boundary-reset delta, nats", cell(each["boundary_reset_delta_loss"] for each in found)],
        ["shuffled-belief delta, nats", cell(each["shuffled_belief_delta_loss"] for each in found)],
        ["steering, share recovered", cell(each["steering"]["recovered"] for each in found)],
    ]
    for ahead in AHEAD:
        for baseline in ("over_stationary", "over_persistence", "over_frequencies"):
            skills = [each["lookahead_skill"]["steps"][ahead - 1][baseline] for each in found]
            lows = min(skill["low"] for skill in skills)
            name = f"skill {ahead} ahead, {baseline.replace('_', ' ')}, nats (smallest low end of 95 %)"
            rows.append([name, f"{cell(skill['mean'] for skill in skills)} ({lows:.3f})"])
    return "\n".join([markdown(["", "mean ± standard deviation over seeds"], rows), _against_controls(seeds, out)])


def _against_controls(seeds: Sequence[int], out: Path) -> str:
    """Likelihoods at equal parameters, tokens and steps."""
    rows = []
    for name in ("v2", *(control.name for control in _controls(0))):
        folders = [out / f"{name}-{seed}" for seed in seeds[:CONTROL_SEEDS]]
        found = [read(folder, "metrics.json")["validation"] for folder in folders]
        size = read(folders[0], "run.json")["parameters"]["total"] / 1e6
        cells = [cell((each[key] for each in found), ".4f") for key in ("nll", "bits_per_byte")]
        rows.append([name, f"{size:.2f} M", *cells])
    return markdown(["first seeds", "parameters", "nats/token", "bits/byte"], rows)


def _nmi(found: dict, how: str) -> float:
    return found["recovery"][how]["normalized_mutual_info"]


def _clusters(folder: Path) -> dict[str, float]:
    """NMI with beats of LDA and k-means on bags of words of the held-out chunks, with as many clusters as beats."""
    config = load_run_config(folder / "config.yaml")
    corpus, tokenizer = open_corpus(config.data, seed=config.seed), load_tokenizer(folder / "tokenizer.json")
    stream = pack_documents(corpus.documents("validation"), tokenizer)
    gold = gold_plans(corpus, "validation", stream)
    size, names = config.model.chunk_size, len(gold.names)
    known = pack_documents(islice(corpus.documents("train"), CLUSTERED), tokenizer)
    learnt, words = (_bags(each.ids, size, tokenizer.vocab_size) for each in (known, stream))
    whole = words.shape[0] * size
    segments = ChunkRule(chunk_size=size).segments(range(whole))
    labels = chunk_labels(torch.from_numpy(gold.labels[None, :whole]), segments)[0]
    return agreement(words, learnt, labels, clusters=names, seed=config.seed)


def _bags(ids: np.ndarray, size: int, vocab_size: int) -> csr_matrix:
    """Counts of each token in each whole chunk."""
    whole = len(ids) // size * size
    return csr_matrix((np.ones(whole), (np.arange(whole) // size, ids[:whole])), (whole // size, vocab_size))


def agreement(
    words: csr_matrix, learnt: csr_matrix, labels: torch.Tensor, *, clusters: int, seed: int
) -> dict[str, float]:
    """NMI of labels (-1: none) and clusters of bags of words: the better of fitting to the bags themselves or others.

    Which is better is decided by the labels, in the methods' favour.
    """
    found: dict[str, float] = {}
    for fitted in (words, learnt):
        topics = LatentDirichletAllocation(clusters, max_iter=50, random_state=seed).fit(fitted)
        weights = TfidfTransformer().fit(fitted)
        centred = KMeans(clusters, n_init=10, random_state=seed).fit(weights.transform(fitted))
        guesses = {"LDA": topics.transform(words).argmax(1), "k-means": centred.predict(weights.transform(words))}
        for name, guess in guesses.items():
            plans = torch.from_numpy(guess).long()[labels >= 0]
            nmi = compare_plans(plans, labels[labels >= 0]).normalized_mutual_info
            found[name] = max(nmi, found.get(name, 0.0))
    return found
