import subprocess
import sys

import pytest
import torch

from apelr_cli.device import available_devices, resolve_device


@pytest.fixture
def devices(monkeypatch):
    def pretend(*names):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in names)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in names)

    return pretend


def test_auto_takes_cuda_then_mps_then_cpu(devices):
    for names, expected in [(("cuda", "mps"), "cuda"), (("mps",), "mps"), ((), "cpu")]:
        devices(*names)
        assert resolve_device("auto") == torch.device(expected)


def test_a_missing_device_is_an_error_that_names_what_there_is(devices):
    devices()
    with pytest.raises(ValueError, match=r"^device must be auto or one that torch finds here \(cpu\), got cuda$"):
        resolve_device("cuda")
    devices("mps")
    with pytest.raises(ValueError, match=r"\(mps, cpu\), got tpu$"):
        resolve_device("tpu")


def test_a_torch_without_mps_is_fine(monkeypatch):
    monkeypatch.delattr(torch.backends, "mps")
    assert "mps" not in available_devices()


def test_the_device_of_this_test_run_is_there(device):
    assert resolve_device(device).type == device
    assert torch.zeros(1, device=resolve_device(device)).sum() == 0


def test_asking_the_tests_for_a_cuda_that_is_not_there_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    command = [sys.executable, "-m", "pytest", "--device", "cuda", "--import-mode=importlib", __file__]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "--device cuda: torch finds no CUDA device on this machine" in done.stdout + done.stderr


def test_tiny_numbers_are_zero_in_every_thread_of_a_command():
    """Denormal numbers slow matrix products down a hundredfold; torch's threads inherit the setting of the first."""
    code = (
        "import torch; from apelr_cli.device import resolve_device; resolve_device('cpu'); torch.set_num_threads(2);"
        "tiny = torch.full((1_000_000,), 1e-41); print(int((tiny * 1.0 != 0).sum()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, encoding="utf-8")
    assert found.stdout.strip() == "0"
