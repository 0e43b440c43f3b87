"""Which device computes, and what happens when its memory is not enough: the same work on the CPU, never a death.

The one place beside the models that knows torch devices.
"""

from collections.abc import Callable
from typing import Final, Literal, TypeVar

import torch

from inference.errors import NoDevice

DeviceName = Literal["auto", "cpu", "cuda"]
Result = TypeVar("Result")

CPU: Final = torch.device("cpu")


def choose_device(name: str) -> torch.device:
    """The device of a setting: `auto` is CUDA where it works, else the CPU.

    Raises:
        NoDevice: `cuda` was asked for and does not compute, or the name is none of the three.
    """
    if name == "cpu":
        return CPU
    if name not in ("auto", "cuda"):
        raise NoDevice("no such device", name, "read.device is auto, cpu or cuda")
    fault = device_fault(torch.device("cuda"))
    if not fault:
        return torch.device("cuda")
    if name == "auto":
        return CPU
    raise NoDevice(
        f"CUDA does not compute: {fault}", "read.device = cuda", "look at the driver, or set read.device = auto"
    )


def device_fault(device: torch.device) -> str:
    """Why a device can't be used; empty when a real operation on it gives the right sum, and for the CPU. A driver may be
    there and be lost, also after it has worked for days."""
    if device.type == "cpu":
        return ""
    if not torch.cuda.is_available():
        return "torch finds no device"
    try:
        total = float(torch.ones(1024, device="cuda").sum())
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return "" if total == 1024.0 else f"a sum of 1024 ones is {total}"


def on_device(work: Callable[[torch.device], Result], device: torch.device) -> Result:
    """Do the work on the device; once more on the CPU when the device's memory is not enough."""
    if device.type == "cpu":
        return work(device)
    try:
        return work(device)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return work(CPU)
