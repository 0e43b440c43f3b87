"""Which device computes, and what becomes of work that does not fit it."""

import subprocess
import sys

import pytest
import torch

from inference.device import (
    CPU,
    choose_device,
    half_precision,
    memory_format,
    mixed_precision,
    on_device,
    within_memory,
)
from inference.errors import NoDevice


def test_auto_is_a_device_that_computes() -> None:
    assert float(torch.ones(3, device=choose_device("auto")).sum()) == 3


def test_the_cpu_is_taken_when_it_is_asked_for() -> None:
    assert choose_device("cpu") == CPU


def test_a_device_that_is_not_there_is_an_error_and_no_silent_cpu() -> None:
    if torch.cuda.is_available():
        assert choose_device("cuda").type == "cuda"
    else:
        with pytest.raises(NoDevice, match="CUDA does not compute") as missing:
            choose_device("cuda")
        assert "read.device" in missing.value.do


def test_a_device_of_no_kind_we_know_is_refused() -> None:
    with pytest.raises(NoDevice, match="auto, cpu or cuda"):
        choose_device("tpu")


def test_work_that_a_device_has_no_memory_for_is_done_on_the_cpu() -> None:
    asked: list[str] = []

    def work(device: torch.device) -> str:
        asked.append(device.type)
        if device.type != "cpu":
            raise torch.cuda.OutOfMemoryError("out of memory")
        return "done"

    assert on_device(work, torch.device("cuda")) == "done"
    assert asked == ["cuda", "cpu"]


def test_another_fault_of_a_device_is_not_hidden() -> None:
    def work(device: torch.device) -> None:
        raise ValueError(device.type)

    with pytest.raises(ValueError, match="cuda"):
        on_device(work, torch.device("cuda"))


def test_smaller_pieces_are_tried_before_the_cpu() -> None:
    tried: list[tuple[str, int]] = []
    rungs = [(torch.device("cuda"), 8), (torch.device("cuda"), 4), (CPU, 4), (CPU, 2)]

    def work(device: torch.device, size: int) -> str:
        tried.append((device.type, size))
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        if size > 2:
            torch.empty(2**60, dtype=torch.uint8)  # what the CPU's allocator itself says
        return "done"

    assert within_memory(work, rungs) == "done"
    assert tried == [("cuda", 8), ("cuda", 4), ("cpu", 4), ("cpu", 2)]


def test_what_does_not_fit_even_the_smallest_way_is_a_fault() -> None:
    def work(device: torch.device, size: int) -> None:
        raise torch.OutOfMemoryError(f"{device.type} {size}")

    with pytest.raises(torch.OutOfMemoryError, match="cpu 1"):
        within_memory(work, [(torch.device("cuda"), 2), (CPU, 1)])


def test_the_cpu_computes_in_bfloat16_only_where_it_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for units, half in (({"avx512_bf16": True}, torch.bfloat16), ({"avx512_bf16": False, "avx2": True}, None)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda units=units: units)
        assert half_precision(CPU) is half
        with mixed_precision(CPU):
            assert torch.is_autocast_enabled("cpu") == (half is not None)


def test_a_gpu_computes_in_half_precision_with_its_channels_last() -> None:
    assert half_precision(torch.device("cuda")) is torch.float16
    assert memory_format(torch.device("cuda")) is torch.channels_last_3d
    assert memory_format(CPU) is torch.contiguous_format


def test_a_repeatable_process_picks_no_algorithm_by_its_speed() -> None:
    script = """
import os, torch
from inference.device import make_repeatable
make_repeatable()
print(torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
print(os.environ["CUBLAS_WORKSPACE_CONFIG"])
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True", "False", "True", ":4096:8"]
