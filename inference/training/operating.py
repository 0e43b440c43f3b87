"""The operating point of a detector: one rule, from the false alarms on completely labelled scans that its weights never saw.

At most half a false positive a scan from small places; none from large ones, of which there are few, and where
eight patches of disease are drawn into each of these scans (`planted_scans.ill_scan`) at most four large places a scan.
"""

from collections.abc import Sequence
from typing import Final

LARGE_MM: Final = 10.0
FALSE_PER_SCAN: Final = 0.5
FALSE_PER_SCAN_LARGE: Final = 0.0
FALSE_PER_ILL_SCAN_LARGE: Final = 4.0


def threshold_of(false_scores: Sequence[Sequence[float]], per_scan: float = FALSE_PER_SCAN) -> float:
    """The score from which on these scans give at most `per_scan` false positives on average.

    Args:
        false_scores: for each scan the scores (logits) of all places that are on no mark; weights that never saw the scan.
    Returns:
        halfway between the weakest one that is let through and the strongest one that is not; half a unit above them all
        where none may pass.
    Raises:
        ValueError: no scan, or too few places to find it.
    """
    scores = sorted((score for scan in false_scores for score in scan), reverse=True)
    allowed = int(per_scan * len(false_scores))
    if not false_scores or len(scores) <= allowed:
        raise ValueError("an operating point takes scans with false places")
    above = scores[allowed - 1] if allowed else scores[0] + 1.0
    return (above + scores[allowed]) / 2
