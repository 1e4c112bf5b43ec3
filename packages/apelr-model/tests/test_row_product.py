"""A layer's product is the same in every form, and each form is used where it should be."""

import pytest
import torch
from torch.nn.functional import linear

from apelr_model import plain_forms, row_product
from apelr_model.row_product import BLOCKS, FEW_ROWS, SEVERAL_ROWS, SMALL_WEIGHT, Projection, product

WIDTH, COUNT = 256, 20 * BLOCKS  # a weight that is no longer small


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


SHAPES = [
    (),
    (1,),
    (1, 1),
    (2,),
    (1, 3),
    (FEW_ROWS,),
    (FEW_ROWS + 1,),
    (4, 9),
    (SEVERAL_ROWS,),
    (SEVERAL_ROWS + 1,),
    (0,),
]


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("count", [COUNT, COUNT + 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_number_of_rows_gives_the_product(make, shape, count, with_bias):
    x, weight, bias = make(*shape, count=count)
    with torch.no_grad():
        found = product(x, weight, bias if with_bias else None)
    wanted = linear(x.double(), weight.double(), bias.double() if with_bias else None)
    assert (found.shape, found.dtype, found.is_contiguous()) == (wanted.shape, torch.float32, True)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rows", [1, FEW_ROWS, SEVERAL_ROWS])
def test_with_gradients_it_is_the_librarys(make, forms, rows):
    product(*(tensor.requires_grad_() for tensor in make(rows))).sum().backward()
    assert forms == ["linear"]


@torch.no_grad()
def test_some_rows_with_a_large_weight_alone_have_a_form_of_their_own(make, forms, device):
    for rows in (1, FEW_ROWS, FEW_ROWS + 1, SEVERAL_ROWS):
        product(*make(rows))
    assert forms == form_on(device, []) * 4
    forms.clear()
    small = SMALL_WEIGHT // WIDTH
    odd = make(FEW_ROWS + 1, count=COUNT + 1)  # cannot be cut into equal parts
    for values in (make(SEVERAL_ROWS + 1), make(1, count=small), make(1, dtype=torch.float64), make(0), odd):
        product(*values)
    assert forms == ["linear"] * 5
    product(*make(1, count=small + 1))
    assert forms[5:] == form_on(device, [])


@torch.no_grad()
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
