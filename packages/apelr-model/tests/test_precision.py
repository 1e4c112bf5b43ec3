"""How exactly matrices are multiplied: what a device is asked for, refused, and given back."""

import os
import re
import subprocess
import sys

import pytest
import torch

from apelr_model import OptimConfig, check_arithmetic
from apelr_model.precision import matrix_products

CPU, CUDA, MPS = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))


@pytest.fixture
def cpu_features(monkeypatch):
    """Sets what the CPU says it can do."""
    return lambda *names: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "highest"),
        ({"allow_tf32": False}, "highest"),
        ({"allow_tf32": True}, "high"),
        ({"allow_tf32": True, "matmul_precision": "medium"}, "medium"),
        ({"matmul_precision": "high"}, "high"),
        ({"matmul_precision": "highest", "allow_tf32": False}, "highest"),
    ],
)
def test_two_names_of_one_setting_come_to_one_precision(given, wanted):
    assert OptimConfig(**given).product_precision == wanted


@pytest.mark.parametrize(("allow", "precision"), [(True, "highest"), (False, "high"), (False, "medium")])
def test_contradictions_are_refused(allow, precision):
    message = (
        "matmul_precision must be null or high or medium when allow_tf32 is true, null or highest when it is false, "
        f"got '{precision}'"
    )
    with pytest.raises(ValueError) as error:
        OptimConfig(allow_tf32=allow, matmul_precision=precision)
    assert str(error.value) == message


def test_what_a_device_cannot_do_is_refused(cpu_features):
    cpu_features("avx2")
    for optim, device, message in [
        (OptimConfig(allow_tf32=True), CPU, "allow_tf32 true needs a CUDA device, got cpu: TF32 is CUDA's"),
        (OptimConfig(allow_tf32=True), MPS, "allow_tf32 true needs a CUDA device, got mps"),
        (
            OptimConfig(matmul_precision="high"),
            CPU,
            "matmul_precision high changes nothing on this cpu: it has no amx_fp16; leave",
        ),
        (OptimConfig(matmul_precision="medium"), CPU, "matmul_precision medium changes nothing on this cpu: it has no"),
        (OptimConfig(matmul_precision="medium"), MPS, "matmul_precision medium changes nothing on this mps"),
        (OptimConfig(precision="fp16"), CPU, "precision fp16 needs a CUDA device, got cpu"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}") as error:
            check_arithmetic(optim, device)
        assert "\n" not in str(error.value)


def test_what_a_device_can_do_is_accepted(cpu_features):
    cpu_features("amx_bf16", "amx_fp16")
    for precision in ("highest", "high", "medium"):
        check_arithmetic(OptimConfig(matmul_precision=precision), CPU)
        check_arithmetic(OptimConfig(matmul_precision=precision, precision="fp16"), CUDA)
    for device in (CPU, CUDA, MPS):
        check_arithmetic(OptimConfig(allow_tf32=False), device)


@pytest.mark.parametrize("raised", [False, True])
def test_the_setting_of_the_process_is_put_back(raised):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for optim, wanted in ((OptimConfig(), ("highest", False)), (OptimConfig(allow_tf32=True), ("high", True))):
        try:
            with matrix_products(optim):
                assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == wanted
                if raised:
                    raise KeyError
        except KeyError:
            pass
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_medium_rounds_products_to_bf16_where_the_cpu_can_and_sums_in_float32():
    if not torch.cpu.get_capabilities().get("amx_bf16"):
        pytest.skip("this CPU has no amx_bf16")
    left, right = torch.randn(256, 256), torch.randn(256, 256)
    with matrix_products(OptimConfig(matmul_precision="medium")):
        found = left @ right
    assert found.dtype == torch.float32
    rounded = left.bfloat16().double() @ right.bfloat16().double()
    torch.testing.assert_close(found.double(), rounded, rtol=1e-4, atol=1e-4)
    assert (found.double() - left.double() @ right.double()).abs().max() > 1e-3


def test_a_machine_without_a_compiler_is_told_in_one_line(tmp_path):
    script = "import torch; from apelr_model import OptimConfig, check_arithmetic\n"
    script += "try: check_arithmetic(OptimConfig(compile=True), torch.device('cpu'))\n"
    script += "except ValueError as error: print(error)"
    missing = {"CXX": str(tmp_path / "missing"), "PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **missing},
        capture_output=True,
        encoding="utf-8",
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"compile true: torch\.compile cannot make code for cpu here: .*C\+\+ compiler.*; leave it false\n", done.stdout
    )
