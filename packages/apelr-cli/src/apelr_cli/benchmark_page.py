"""The page that `apelr bench` prints."""

from apelr_cli.benchmark_model import MANY_ROWS, ModelBenchmark
from apelr_cli.benchmark_timing import Figure, three_figures

__all__ = ["bench_page"]

SECTIONS: dict[str, dict[str, tuple[str, float, str]]] = {
    "limits of the machine": {
        "matrix_product_flops_per_second": ("matrix products", 1e-9, "GFLOP/s"),
        "memory_bytes_per_second": ("reading memory", 1e-9, "GB/s"),
    },
    "training step": {
        "training_tokens_per_second": ("targets a second", 1, ""),
        "training_share_of_matrix_product_rate": ("of the matrix-product rate", 100, "%"),
        "planner_share_of_training": ("filter, gate and evidence", 100, "% of the step"),
        "training_ratio_to_transformer_lm": ("time beside transformer_lm", 1, "x"),
    },
    "evaluation": {
        "evaluation_tokens_per_second": ("targets a second", 1, ""),
        "evaluation_share_of_matrix_product_rate": ("of the matrix-product rate", 100, "%"),
    },
    "decoding": {
        "decoding_tokens_per_second": ("1 row, tokens a second", 1, ""),
        "decoding_share_of_bandwidth_bound": ("1 row, of what memory and caches allow", 100, "%"),
        "batch_decoding_tokens_per_second": (f"{MANY_ROWS} rows, tokens a second", 1, ""),
        "batch_decoding_ratio": (f"{MANY_ROWS} rows beside 1", 1, "x"),
    },
}


def bench_page(found: ModelBenchmark) -> str:
    """Every figure as its median and, in brackets, the quartiles."""
    about, machine = found.about, found.about["machine"]
    lines = [
        f"{about['model_version']}, {about['parameters']:,} parameters, vocabulary {about['vocab_size']:,}",
        f"batches of {about['batch_size']} x {about['seq_len']}, {about['precision']}, {about['rounds']} rounds",
        f"{machine['device']}, {machine['cores']} cores, {machine['threads']} threads, torch {machine['torch']}",
    ]
    for title, rows in SECTIONS.items():
        how = f", compiled, {about['weights']} weights" if title == "decoding" and about["compile"] else ""
        lines += ["", f"{title}{how}"]
        for name, (label, scale, unit) in rows.items():
            figure = found.figures[name]
            lines.append(f"  {label:<30} {_shown(figure, scale, unit)}".rstrip())
    ratio = about["training_flops_ratio_to_transformer_lm"]
    if ratio is not None:
        lines += ["", f"operations of a training step are {ratio:.2f} times those of transformer_lm"]
    if found.peak_training_memory_bytes is not None:
        lines += ["", f"peak memory of a training step {found.peak_training_memory_bytes / 2**20:,.0f} MiB"]
    return "\n".join(lines) + "\n"


def _shown(figure: Figure | None, scale: float, unit: str) -> str:
    if figure is None:
        return "-"
    median, lower, upper = (three_figures(value * scale) for value in figure)
    return f"{median} {unit}".rstrip() + f"  ({lower} to {upper})"
