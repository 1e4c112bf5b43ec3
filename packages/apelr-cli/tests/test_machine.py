import json
import platform

import torch

from apelr_cli import machine
from apelr_cli.machine import describe_machine


def test_the_machine_as_it_is():
    found = describe_machine(torch.device("cpu"))
    assert json.loads(json.dumps(found)) == found
    assert (found["torch"], found["threads"], found["device"]) == (torch.__version__, torch.get_num_threads(), "cpu")
    assert found["python"] == platform.python_version()
    assert found["cores"] >= 1
    assert set(found["flags"] or []) <= set(machine.FLAGS)


def test_a_system_without_proc_says_less(monkeypatch):
    monkeypatch.setattr(machine, "_proc", lambda file, key: None)
    found = describe_machine(torch.device("cpu"))
    assert (found["processor"], found["flags"], found["memory_gib"]) == (None, None, None)


def test_flags_and_memory_are_read(monkeypatch):
    known = {"model name": "A B", "flags": "fpu avx2 amx_bf16x avx512f", "MemTotal": f"{24 * 2**20} kB"}
    monkeypatch.setattr(machine, "_proc", lambda file, key: known.get(key))
    found = describe_machine(torch.device("cpu"))
    assert (found["processor"], found["flags"], found["memory_gib"]) == ("A B", ["avx2", "avx512f"], 24.0)
