"""the machine's limits: products of matrices at the sizes of the models, few rows' forms, and reading memory"""

from collections.abc import Callable, Iterator

import subjects
import torch
from measured import Row, Run

from apelr_cli.benchmark_limits import LARGE_READ, MatrixProduct, memory_reads
from apelr_cli.benchmark_timing import Work
from apelr_model import row_product

PRODUCTS = {
    "large": (2048, 2048, 2048),
    "V2's head, GRU sizes": (1024, 512, 16384),
    "V1's head": (8192, 384, 2048),
    "V2's head, transformer sizes": (2048, 512, 32768),
    "a layer's inputs, GRU": (1024, 512, 1536),
    "a step of the GRU": (subjects.GRU_ROWS, 512, 1536),
}
"""[rows, inner, columns]."""
SMALL_READ = 2**25
FEW = (1, 2, 8, 16, 32, 128)
WEIGHT = (32768, 512)
"""V2's head, transformer sizes: 64 MiB."""


def rows(run: Run) -> Iterator[Row]:
    """Rates."""
    for dtype in (torch.float32, torch.bfloat16):
        products = {name: MatrixProduct(*sizes, dtype=dtype, device=run.device) for name, sizes in PRODUCTS.items()}
        times = run.time({f"{name}, {dtype}": product for name, product in products.items()})
        for name, product in products.items():
            title = f"product {product.name.removeprefix('product ')} ({name})"
            yield Row(title, times.rate(f"{name}, {dtype}", product.flops), "GFLOP/s")
    yield from few_rows(run)
    reads = [read for size in (LARGE_READ, SMALL_READ) for read in memory_reads(size, device=run.device)]
    large = torch.ones(LARGE_READ // 4, device=run.device)
    into = torch.empty_like(large)
    times = run.time({**{read.name: read for read in reads}, "copy": lambda: into.copy_(large)})
    for read in reads:
        way = "a matrix times a vector" if read.way == "product" else "the sum of a matrix"
        yield Row(f"read {read.bytes / 2**20:.0f} MiB: {way}", times.rate(read.name, read.bytes), "GB/s")
    yield Row(f"copy {LARGE_READ / 2**20:.0f} MiB, read and written", times.rate("copy", 2 * LARGE_READ), "GB/s")


def few_rows(run: Run) -> Iterator[Row]:
    """A layer's product of few rows beside the library's own form."""
    weight, works = torch.randn(*WEIGHT, device=run.device), {}
    for count in FEW:
        x = torch.randn(count, WEIGHT[1], device=run.device)
        works[f"{count}, own"] = inference(row_product.product, x, weight)
        works[f"{count}, library"] = inference(torch.nn.functional.linear, x, weight)
    times = run.time(works)
    for count in FEW:
        title = f"a layer's product, {count} x {WEIGHT[1]} x {WEIGHT[0]}"
        ratio = times.ratio(f"{count}, library", f"{count}, own")
        yield Row(f"{title}: times as fast as `torch.nn.functional.linear`", ratio)
        rate = times.rate(f"{count}, own", weight.numel() * weight.element_size())
        yield Row(f"{title}: weights read", rate, "GB/s")


def inference(function: Callable[..., torch.Tensor], x: torch.Tensor, weight: torch.Tensor) -> Work:
    """A product without gradients."""
    return torch.inference_mode()(lambda: function(x, weight))
