"""On a GPU a reading is that of the CPU, also when the GPU's memory is not enough. Skipped where there is none."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch

from config.settings import Read
from inference import grids
from inference.chain import build_chain
from inference.findings import Reading
from inference.phantom import chest_phantom
from inference.reader import ReadLimits, read
from inference.volume import Volume

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

CONFIDENCE, GRADE = 0.01, 0.05


@cache
def phantom() -> Volume:
    chest = chest_phantom(spacing_mm=(2.0, 0.9, 0.9), shape=(160, 400, 400))
    return Volume(chest.hu, chest.affine, "1.2.3", "CT", ("",) * len(chest.hu), thickness_mm=2.0)


@cache
def on_cpu() -> Reading:
    return read(phantom(), build_chain(Read().detector, "cpu"), ReadLimits())


@pytest.fixture
def little_memory() -> Iterator[None]:
    """As if the GPU had 60 MiB: the grids of a whole chest do not fit, a patch does."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 60 * 2**20) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def is_the_same(one: Reading, other: Reading) -> None:
    assert one.nodules
    for nodule, its in zip(one.nodules, other.nodules, strict=True):
        assert nodule.confidence == pytest.approx(its.confidence, abs=CONFIDENCE)
        assert nodule.malignancy == pytest.approx(its.malignancy, abs=GRADE)
        assert nodule.texture == its.texture
        masks = [np.zeros(phantom().hu.shape, bool) for _ in range(2)]
        for whole, mask in zip(masks, (nodule.mask, its.mask), strict=True):
            whole[tuple(slice(a, a + n) for a, n in zip(mask.start, mask.voxels.shape, strict=True))] = mask.voxels
        assert 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum()) > 0.98


def test_a_reading_on_a_gpu_is_that_of_the_cpu() -> None:
    is_the_same(on_cpu(), read(phantom(), build_chain(Read().detector, "cuda"), ReadLimits()))


def test_the_same_gpu_gives_the_same_reading_again() -> None:
    chain = build_chain(Read().detector, "cuda")
    one, two = (read(phantom(), chain, ReadLimits()) for _ in range(2))
    assert [n.mask.voxels.tobytes() for n in one.nodules] == [n.mask.voxels.tobytes() for n in two.nodules]
    assert one.candidates == two.candidates
    assert [(n.confidence, n.malignancy) for n in one.nodules] == [(n.confidence, n.malignancy) for n in two.nodules]


@pytest.mark.usefixtures("little_memory")
def test_a_gpu_with_little_memory_leaves_to_the_cpu_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    fell_back = []
    smooth = grids._along_on_cpu

    def counted(*arguments: object) -> torch.Tensor:
        fell_back.append(1)
        return smooth(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(grids, "_along_on_cpu", counted)
    is_the_same(on_cpu(), read(phantom(), build_chain(Read().detector, "cuda"), ReadLimits()))
    assert fell_back
