"""Which device computes, in which precision, and what happens when its memory is not enough: smaller pieces, then the CPU,
never a death.

What devices there are, only this module knows; models and whole grids (`grids.py`) are told theirs. Half precision is float16
on CUDA and bfloat16 on a CPU that multiplies it in hardware: the convolutions of a 3-D RetinaNet took 2.2 times less CPU time
so (one thread of a Zen 4, `make bench`; channels-last made no difference there). On a GPU (H200) neither makes one for a
RetinaNet's window of 64 x 64 x 48; larger windows do. The networks of the default chain take less than 0.15 s of a reading
there, so that CUDA graphs (0.3 in place of 1.1 ms a pass of the outliner's) and torch.compile have nothing to win, and are
not used.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, TypeVar

import torch

from inference.errors import NoDevice

DeviceName = Literal["auto", "cpu", "cuda"]
Result = TypeVar("Result")
Size = TypeVar("Size")

CPU: Final = torch.device("cpu")
_BFLOAT16_UNITS: Final = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Names that torch gives to processors' units that multiply bfloat16; without one it is emulated and slower."""


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
    rungs = [(device, None)] if device.type == "cpu" else [(device, None), (CPU, None)]
    return within_memory(lambda where, _: work(where), rungs)


def within_memory(work: Callable[[torch.device, Size], Result], rungs: Sequence[tuple[torch.device, Size]]) -> Result:
    """Do the work as the first rung says for which the memory is enough.

    Args:
        work: called with a device and a size (of a window, of a batch); may be called again from the start.
        rungs: from what one would like to what needs least; the fault of the last one is raised, as is any other fault.
    """
    *upper, last = rungs
    for device, size in upper:
        try:
            return work(device, size)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        if device.type == "cuda":  # after the handler: until then the traceback holds the tensors
            torch.cuda.empty_cache()
    return work(*last)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the fault is a device's or the machine's memory. For the CPU torch has no type of its own, only these words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


def half_precision(device: torch.device) -> torch.dtype | None:
    """The 16-bit type that networks are computed in on this device; None where float32 is as fast."""
    if device.type == "cuda":
        return torch.float16
    units = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(units.get(unit) for unit in _BFLOAT16_UNITS) else None


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast to the device's 16-bit type; nothing where it has none."""
    half = half_precision(device)
    return nullcontext() if half is None else torch.autocast(device.type, dtype=half)


def memory_format(device: torch.device) -> torch.memory_format:
    """How 3-D networks and their input lie in memory: channels last for the tensor cores of a GPU."""
    return torch.channels_last_3d if device.type == "cuda" else torch.contiguous_format


def make_repeatable() -> None:
    """The same input gives the same output on one device from here on: no algorithm is chosen by its speed of the day.

    What has no repeatable form only warns; an equal number of threads is the caller's part.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA is first used
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A debugging aid that writes all memory once more.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
