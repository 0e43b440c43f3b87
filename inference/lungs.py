"""Where the lungs are, and whether they are whole."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from inference.errors import LungsCut, LungsMayComplete
from inference.findings import Reason

RIGHT: Final = 1
LEFT: Final = 2


@dataclass(frozen=True, eq=False)
class Lungs:
    """The lungs of a volume.

    `labels` uint8 [k, j, i], read-only: 0 outside, 1 the patient's right lung, 2 the left; vessels, nodules and tumours on the
    pleura are inside, airways outside. `end_cm2`: lung on the first and the last slice (of k). `largest_cm2`: on the slice
    that has most. `edge_share`: part of the lungs' border that lies on the edge of the field of view, 0 to 1.
    """

    labels: npt.NDArray[np.uint8]
    volume_ml: float
    end_cm2: tuple[float, float]
    largest_cm2: float
    edge_share: float


END_CM2_MAX: Final = 5.0
"""More lung than this on an end slice: lungs are cut, the reading is partial."""
END_SHARE_MAX: Final = 0.25
"""More of the largest cross-section than this on an end slice: too little lung to read."""
EDGE_SHARE_MAX: Final = 0.05
"""More of the lungs' border than this on the edge of the field of view: partial."""


def judge_wholeness(lungs: Lungs, *, may_wait: bool) -> Reason | None:
    """Are these whole lungs? None: yes; a Reason: in part, and why.

    Args:
        may_wait: more slices may still come.
    Raises:
        LungsCut: too little of them is there.
        LungsMayComplete: they are cut at an end, and `may_wait`.
    """
    cut_cm2 = max(lungs.end_cm2)
    end = "first" if lungs.end_cm2[0] >= lungs.end_cm2[1] else "last"
    said = f"lungs are cut: {cut_cm2:.0f} cm2 of lung on the {end} slice (largest cross-section {lungs.largest_cm2:.0f} cm2)"
    if cut_cm2 > END_CM2_MAX and may_wait:
        raise LungsMayComplete(said)
    if cut_cm2 > END_SHARE_MAX * lungs.largest_cm2:
        raise LungsCut(said, do="send the missing slices; the series is then read again")
    if cut_cm2 > END_CM2_MAX:
        return Reason("lungs_cut", said)
    if lungs.edge_share > EDGE_SHARE_MAX:
        return Reason("field_of_view", f"{lungs.edge_share:.0%} of the lungs' border lies on the edge of the field of view")
    return None
