"""How far two outlines agree: Dice, and the error of the volume."""

import numpy as np
import numpy.typing as npt


def dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Twice the common voxels over the sum of both (Dice 1945). Two empty masks agree: 1."""
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(one & other)) / total if total else 1.0


def volume_error(found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """(found - truth) / truth: 0.1 is a tenth too large. nan for an empty truth."""
    true = int(np.count_nonzero(truth))
    return (int(np.count_nonzero(found)) - true) / true if true else float("nan")
