"""A layer's product is the same in every form, and each form is used where it should be."""

import pytest
import torch
from torch.nn.functional import linear

from apelr_model import plain_forms, row_product
from apelr_model.low_precision import keep_in
from apelr_model.row_product import FEW_ROWS, PARTS, SEVERAL_ROWS, SMALL_WEIGHT, Projection, product

WIDTH, COUNT = 256, 20 * PARTS  # a weight that is no longer small


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
    monkeypatch.setattr(torch, "bmm", lambda *a, bmm=torch.bmm: used.append("parts") or bmm(*a))
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda *a: used.append("columns") or torch.mm(*a))
    return used


def on(device, *names):
    """A CPU's own forms, and everywhere else the library's."""
    return list(names) if device.type == "cpu" else ["linear"] * len(names)


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
    assert forms == on(device, "columns", "columns", "parts", "parts")
    forms.clear()
    small = SMALL_WEIGHT // WIDTH
    odd = make(FEW_ROWS + 1, count=COUNT + 1)  # cannot be cut into equal parts
    for values in (make(SEVERAL_ROWS + 1), make(1, count=small), make(1, dtype=torch.float64), make(0), odd):
        product(*values)
    assert forms == ["linear"] * 5
    product(*make(1, count=small + 1))
    assert forms[5:] == on(device, "columns")


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, FEW_ROWS, SEVERAL_ROWS])
def test_autocast_is_the_librarys_with_its_type(make, forms, device, rows):
    values = make(rows)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert product(*values).dtype == linear(*values).dtype == torch.bfloat16
    assert forms == ["linear"]


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, FEW_ROWS, SEVERAL_ROWS])
def test_it_does_not_matter_how_things_lie_in_memory(make, rows):
    x, weight, bias = make(rows)
    strided = [tensor.T.contiguous().T for tensor in (x, weight)]
    torch.testing.assert_close(product(*strided, bias), linear(x, weight, bias), rtol=1e-5, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 2, FEW_ROWS, FEW_ROWS + 1, SEVERAL_ROWS, SEVERAL_ROWS + 1])
def test_traced_for_compiled_code_it_is_the_product_too(make, rows):
    """Without making code, which takes seconds: with shapes that stay, and with any."""
    values = make(rows)
    for dynamic in (False, True):
        traced = torch.compile(product, backend="eager", fullgraph=True, dynamic=dynamic)
        torch.testing.assert_close(traced(*values), linear(*values), rtol=1e-5, atol=1e-4)
        torch._dynamo.reset()


@torch.no_grad()
@pytest.mark.parametrize("form", ["bf16", "int8"])
@pytest.mark.parametrize("rows", [1, FEW_ROWS, SEVERAL_ROWS])
def test_weights_in_fewer_bits_are_expanded(make, device, rows, form):
    x, weight, bias = make(rows)
    layer = Projection(WIDTH, COUNT).to(device)
    layer.load_state_dict({"weight": weight, "bias": bias})
    keep_in(form, layer)
    torch.testing.assert_close(layer(x), linear(x, layer.weight, bias), rtol=1e-5, atol=1e-4)


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
