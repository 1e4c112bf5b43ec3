import pytest
import torch

from apelr_cli.benchmark_limits import MatrixProduct, MemoryRead, products_of
from apelr_model import TransformerLMConfig, V2Config, build_model


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
def test_a_read_reads_every_byte_that_it_counts(device, size, expected):
    read = MemoryRead(size, device=torch.device(device))
    assert read.bytes == expected
    assert read().tolist() == [1024.0] * (expected // 4096)


def test_the_limit_of_a_model_has_its_output_layer():
    model = build_model(V2Config(num_plan_states=4, hidden_dim=16), 50)
    _, head = products_of(model, 32)
    assert (head.left.shape, head.right.shape) == ((32, 16), (16, 200))
    wide = build_model(TransformerLMConfig(hidden_dim=8), 20000)
    assert products_of(wide, 4, torch.bfloat16)[1].right.shape == (8, 16384)
