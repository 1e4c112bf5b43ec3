import pytest
import torch

from apelr_cli import benchmark_limits
from apelr_cli.benchmark_limits import MatrixProduct, head_products, memory_reads, products_of
from apelr_model import (
    FactorizedHeadConfig,
    MixtureOfSoftmaxesConfig,
    TransformerLMConfig,
    V1Config,
    V2Config,
    build_model,
)

SIZES = {"token_dim": 5, "hidden_dim": 16}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_the_product_and_counts_two_operations_an_element(device, dtype):
    product = MatrixProduct(3, 5, 7, dtype=dtype, device=torch.device(device))
    found = product()
    assert found.shape == (3, 7)
    assert found.dtype == dtype
    torch.testing.assert_close(found, product.left @ product.right)
    assert product.flops == 2 * 3 * 5 * 7
    assert product.name == f"product 3 x 5 x 7, {str(dtype)[6:]}"


@pytest.mark.parametrize(("size", "expected"), [(2**20, 2**20), (1, 4096), (5000, 4096)])
def test_both_reads_read_every_byte_that_they_count(device, size, expected):
    product, whole = memory_reads(size, device=torch.device(device))
    assert product.bytes == whole.bytes == expected
    assert product().tolist() == [1024.0] * (expected // 4096)
    assert whole() == expected / 4


def test_reads_of_nearly_one_size_and_ways_of_reading_have_names_of_their_own():
    sizes = (57 * 2**20, 57 * 2**20 + 4096)
    reads = [read for size in sizes for read in memory_reads(size, device=torch.device("meta"))]
    assert len({read.name for read in reads}) == 4
    assert reads[2].name == "read 59772928 bytes, product"


HEADS = {
    "V1": (V1Config(num_plan_states=4, fusion_dim=12, **SIZES), lambda head: [head.state_proj, head.out_proj], (4, 12)),
    "V2 dense": (V2Config(num_plan_states=4, **SIZES), lambda head: [head], (1, 16)),
    "V2 factorized": (
        V2Config(num_plan_states=4, head=FactorizedHeadConfig(), **SIZES),
        lambda head: [head],
        (1, 16),
    ),
    "V2 of rank 3": (
        V2Config(num_plan_states=4, head=FactorizedHeadConfig(rank=3), **SIZES),
        lambda head: [head],
        (1, 16),
    ),
    "mixture_of_softmaxes": (MixtureOfSoftmaxesConfig(num_plan_states=4, **SIZES), lambda head: [head], (1, 16)),
    "transformer_lm": (TransformerLMConfig(**SIZES), lambda head: [head], (1, 16)),
}
"""Config, the modules whose weights multiply, and rows a token and inner width of the largest product."""


@pytest.mark.parametrize("name", HEADS)
def test_a_head_s_products_are_those_of_its_weights_and_all_that_it_counts(name):
    config, modules, (count, inner) = HEADS[name]
    model = build_model(config, 50)
    products = head_products(model)
    shapes = {tuple(module.weight.shape) for module in modules(model.head)}
    assert shapes <= {(columns, inner) for _, inner, columns in products}
    assert sum(2 * rows * inner * columns for rows, inner, columns in products) == model.head.flops_per_token
    _, largest = products_of(model, 32)
    rows, columns = len(largest.left), largest.right.shape[1]
    assert (rows, largest.left.shape[1]) == (32 * count, inner)
    assert (columns, inner) in shapes


def test_a_product_s_result_is_kept_small_by_fewer_rows(monkeypatch):
    monkeypatch.setattr(benchmark_limits, "LARGEST_RESULT", 1000)
    wide = build_model(V2Config(num_plan_states=4, **SIZES), 50)
    assert products_of(wide, 32, torch.bfloat16)[1].into.shape == (5, 200)
    assert products_of(wide, 3)[1].into.shape == (3, 200)
    monkeypatch.setattr(benchmark_limits, "LARGEST_RESULT", 100)
    assert products_of(wide, 32)[1].into.shape == (1, 200)
