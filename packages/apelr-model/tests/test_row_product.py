"""A layer's product is the same in every form, and each form is used where it should be."""

import pytest
import torch
from torch.nn.functional import linear

from apelr_model import plain_forms, row_product
from apelr_model.row_product import FEW_ROWS, SMALL_WEIGHT, Projection, product

WIDTH, COUNT = 256, 300  # a weight that is no longer small


@pytest.fixture
def make(device):
    """x of a shape, a weight and a bias."""
    generator = torch.Generator().manual_seed(3)

    def made(*shape, count=COUNT, dtype=torch.float32):
        sizes = ((*shape, WIDTH), (count, WIDTH), (count,))
        return [torch.randn(size, generator=generator).to(device, dtype) for size in sizes]

    return made


@pytest.fixture
def forms(monkeypatch):
    """The names of the forms that were used, in order."""
    used = []
    monkeypatch.setattr(row_product, "linear", lambda *a: used.append("linear") or linear(*a))
    return used


def form_on(device, otherwise):
    """A CPU's own form, and everywhere else the library's."""
    return otherwise if device.type == "cpu" else ["linear"]


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (2,), (1, 3), (FEW_ROWS,), (FEW_ROWS + 1,), (4, 9), (0,)], ids=str)
def test_every_number_of_rows_gives_the_product(make, shape, with_bias):
    x, weight, bias = make(*shape)
    found = product(x, weight, bias if with_bias else None)
    wanted = linear(x.double(), weight.double(), bias.double() if with_bias else None)
    assert found.shape == wanted.shape and found.is_contiguous() and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, FEW_ROWS])
def test_few_rows_have_the_librarys_gradients(make, rows):
    values = [tensor.requires_grad_() for tensor in make(rows)]
    upstream = torch.randn(rows, COUNT, device=values[0].device)
    found = torch.autograd.grad(product(*values), values, upstream)
    for own, library in zip(found, torch.autograd.grad(linear(*values), values, upstream), strict=True):
        torch.testing.assert_close(own, library, rtol=1e-4, atol=1e-4)


def test_few_rows_with_a_large_weight_alone_have_a_form_of_their_own(make, forms, device):
    for rows in (1, FEW_ROWS):
        product(*make(rows))
    assert forms == form_on(device, []) * 2
    forms.clear()
    small = SMALL_WEIGHT // WIDTH
    for values in (make(FEW_ROWS + 1), make(1, count=small), make(1, dtype=torch.float64), make(0)):
        product(*values)
    assert forms == ["linear"] * 4
    product(*make(1, count=small + 1))
    assert forms[4:] == form_on(device, [])


def test_plain_forms_are_the_librarys(make, forms):
    x, weight, bias = make(1)
    with plain_forms():
        assert torch.equal(product(x, weight, bias), linear(x, weight, bias))
    assert forms == ["linear"]


def test_a_projection_is_a_linear_layer(make, device):
    x, weight, bias = make(2, 3)
    layer = Projection(WIDTH, COUNT).to(device)
    layer.load_state_dict({"weight": weight, "bias": bias})
    torch.testing.assert_close(layer(x), linear(x, weight, bias), rtol=1e-5, atol=1e-4)
