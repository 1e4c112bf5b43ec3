"""evaluation and scoring: dense beside the mixture of the same heads, factorized beside transformer_lm"""

from collections.abc import Iterator

import subjects
import torch
from measured import Row, Run, at_most

from apelr_cli.benchmark_limits import products_of
from apelr_cli.benchmark_works import evaluation, random_batch
from apelr_model import count_costs, score

PAIRS = {"V2 dense": "mixture_of_softmaxes", "V2 factorized": "transformer_lm"}
SCORED = 1024


def rows(run: Run) -> Iterator[Row]:
    """Ratios at both executors' sizes."""
    names = [name for pair in PAIRS.items() for name in pair]
    for executor, (sizes, vocabulary, count, targets) in subjects.SETTINGS.items():
        models = {name: subjects.make(name, sizes, vocabulary, run.device).eval() for name in names}
        batch = random_batch(models["V2 dense"], count, targets)
        ids = torch.randint(vocabulary, (SCORED + 1,), generator=torch.Generator().manual_seed(0)).tolist()
        works = {f"evaluation, {executor}: {name}": evaluation(model, batch) for name, model in models.items()}
        works |= {
            f"scoring, {executor}: {name}": (lambda model=model, ids=ids: score(model, ids))
            for name, model in models.items()
        }
        products = {own: products_of(models[own], count * targets) for own in PAIRS}
        works |= {product.name: product for own in products.values() for product in own}
        times = run.time(works)
        for kind, tokens, length in (("evaluation", count * targets, targets), ("scoring", SCORED, SCORED)):
            for own, other in PAIRS.items():
                title = f"{kind}, {executor}: {own}"
                yield Row(
                    f"{title} beside {other}", times.ratio(title, f"{kind}, {executor}: {other}"), "x", at_most(1.2)
                )
                yield Row(f"{title}, targets a second", times.rate(title, tokens), "/s")
                limits = {product.name: product.flops for product in products[own]}
                flops = tokens * sum(count_costs(models[own], length).flops_per_token.values())
                yield Row(f"{title}, of the matrix-product rate", times.share_of_rate(title, flops, limits), "%")
