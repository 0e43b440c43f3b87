"""Which device computes, and what becomes of work that does not fit it."""

import pytest
import torch

from inference.device import CPU, choose_device, on_device
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
