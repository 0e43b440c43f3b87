"""Hits by the rule of the project, FROC and CPM by that of LUNA16."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from inference.evaluation.froc import RATES, froc
from inference.evaluation.hits import Target, Verdict, judge, targets_of
from inference.findings import MaskCrop
from inference.training.scans import Scan, Truth
from inference.volume import Volume


def scan_of(*truth: Truth, affine: np.ndarray | None = None) -> Scan:
    volume = Volume(
        hu=np.zeros((5, 40, 40), np.int16),
        affine=np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]] if affine is None else affine,
        series_instance_uid="",
        modality="CT",
        sop_instance_uids=("",) * 5,
    )
    return Scan("made", "nobody", volume, truth, complete=True)


def nodule(x: float, diameter_mm: float = 8.0, number: int = 1, *, counts: bool = True) -> Target:
    truth = Truth(number, (x, 0.0, 0.0), diameter_mm, 4 if counts else 2, None, {})
    return targets_of(scan_of(truth))[0]


def verdicts(xs: list[float], targets: list[Target], scores: list[float] | None = None) -> list[str]:
    centres = [(x, 0.0, 0.0) for x in xs]
    return [j.verdict.value for j in judge(centres, scores or [1.0] * len(xs), targets)]


def test_a_finding_hits_within_half_the_diameter_and_at_least_three_millimetres() -> None:
    assert verdicts([4.0], [nodule(0, 8)]) == ["hit"]
    assert verdicts([4.1], [nodule(0, 8)]) == ["false"]
    assert verdicts([3.0], [nodule(0, 3)]) == ["hit"]
    assert verdicts([3.1], [nodule(0, 3)]) == ["false"]


def test_a_finding_in_the_mask_or_two_millimetres_beside_it_hits() -> None:
    """A banana whose centre lies outside of it; voxels of 2.5 x 1 x 1 mm, an origin that is not zero."""
    mask = np.zeros((5, 40, 40), bool)
    mask[2, 10, 5:35] = True
    affine = np.array([[0, 0, 1.0, -50], [0, 1.0, 0, 20], [2.5, 0, 0, 100], [0, 0, 0, 1]])

    def at(k: float, j: float, i: float) -> tuple[float, float, float]:
        x, y, z = (affine @ [k, j, i, 1])[:3]
        return (float(x), float(y), float(z))

    crop = MaskCrop((2, 10, 5), mask[2:3, 10:11, 5:35])
    (banana,) = targets_of(scan_of(Truth(1, at(2, 20, 20), 6.0, 3, crop, {}), affine=affine))
    assert banana.hit_by(at(2, 10, 6))
    assert banana.hit_by(at(2, 12, 6))
    assert not banana.hit_by(at(2, 13, 6))
    assert not banana.hit_by(at(3, 10, 6))
    assert banana.hit_by(at(2, 20, 22))


def test_a_second_finding_on_a_nodule_is_a_false_positive_and_the_higher_score_hits() -> None:
    assert verdicts([1.0, 0.0], [nodule(0)], [0.4, 0.9]) == ["repeat", "hit"]
    judged = judge([(1.0, 0, 0), (0.0, 0, 0)], [0.4, 0.9], [nodule(0)])
    assert [j.false_positive for j in judged] == [True, False]


def test_one_finding_hits_one_of_two_touching_nodules_and_the_next_the_other() -> None:
    pair = [nodule(0.0, 10, 1), nodule(4.0, 10, 2)]
    judged = judge([(1.9, 0, 0), (2.1, 0, 0), (2.0, 0, 0)], [0.9, 0.8, 0.7], pair)
    assert [(j.verdict, j.target) for j in judged] == [(Verdict.HIT, 0), (Verdict.HIT, 1), (Verdict.REPEAT, 0)]


def test_an_ignore_zone_counts_as_neither_but_a_nodule_in_it_counts() -> None:
    zone, inside = nodule(0, 30, 1, counts=False), nodule(5, 8, 2)
    assert verdicts([-10.0, -10.0], [zone, inside]) == ["ignored", "ignored"]
    assert verdicts([5.0, 5.0], [zone, inside]) == ["hit", "repeat"]


def test_the_curve_of_three_findings_by_hand() -> None:
    """Two scans, three nodules: hit, false alarm, hit."""
    curve = froc(np.array([0.8, 0.9, 0.7]), np.array([False, True, True]), n_nodules=3, n_scans=2)
    np.testing.assert_allclose(curve.fp_per_scan, [0, 0, 0.5, 0.5])
    np.testing.assert_allclose(curve.sensitivity, [0, 1 / 3, 1 / 3, 2 / 3])
    assert curve.at(0.25) == pytest.approx(1 / 3)
    assert curve.at(0.5) == pytest.approx(2 / 3)
    assert curve.cpm() == pytest.approx((2 * 1 / 3 + 5 * 2 / 3) / 7)


@pytest.mark.parametrize("ties", [False, True])
def test_froc_and_cpm_are_those_of_the_luna16_definition(ties: bool) -> None:
    """Setio 2017: the ROC of the candidates, its rates scaled to alarms a scan and to all nodules, read off at seven rates."""
    draw = np.random.default_rng(2)
    n_scans, n_nodules, n_found = 40, 50, 44
    false = draw.normal(0, 1, 500)
    true = draw.normal(2, 1, n_found)
    if ties:
        false, true = np.round(false), np.round(true)
    fpr, tpr, _ = roc_curve([0] * 500 + [1] * n_found, [*false, *true])
    rates, sensitivity = fpr * 500 / n_scans, tpr * n_found / n_nodules
    curve = froc(np.r_[false, true], np.arange(544) >= 500, n_nodules, n_scans)
    for rate in RATES:
        assert curve.at(rate) == pytest.approx(np.interp(rate, rates, sensitivity))
    assert curve.cpm() == pytest.approx(np.mean(np.interp(RATES, rates, sensitivity)))


def test_a_detector_without_false_alarms_has_its_sensitivity_at_all_rates() -> None:
    curve = froc(np.array([0.5, 0.4]), np.ones(2, bool), n_nodules=4, n_scans=2)
    assert curve.cpm() == 0.5
    assert froc(np.empty(0), np.empty(0, bool), 4, 2).cpm() == 0.0
    with pytest.raises(ValueError, match="needs a nodule"):
        froc(np.empty(0), np.empty(0, bool), 0, 2)
