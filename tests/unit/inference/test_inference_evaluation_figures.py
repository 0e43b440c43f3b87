"""The figures of an evaluation are those of scikit-learn, of published tables, or of a sum done by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from inference.evaluation.calibration import brier, calibration_error_of, expected_calibration_error, reliability
from inference.evaluation.intervals import bootstrap, clopper_pearson, mean_of, median_of, poisson_interval, share
from inference.evaluation.overlap import dice, volume_error
from inference.evaluation.ranking import auc, auc_of, confusion, drawn_together, f1_of, matched_pairs, paired_auc, roc

CASES = ["plain", "many ties", "all alike", "perfect", "the wrong way round", "one positive"]


def case(name: str) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(7)
    positive = draw.random(200) < 0.3
    score = draw.normal(positive * 1.0)
    if name == "many ties":
        score = np.round(score)
    if name == "all alike":
        score = np.zeros(200)
    if name == "perfect":
        score = positive + 0.1 * draw.random(200)
    if name == "the wrong way round":
        score = -score
    if name == "one positive":
        positive = np.arange(200) == 17
    return positive, score


@pytest.mark.parametrize("name", CASES)
def test_auc_and_roc_are_those_of_scikit_learn(name: str) -> None:
    positive, score = case(name)
    assert auc(positive, score) == pytest.approx(sk.roc_auc_score(positive, score), abs=1e-12)
    curve = roc(positive, score)
    fpr, tpr, thresholds = sk.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(curve.fpr, fpr)
    np.testing.assert_allclose(curve.tpr, tpr)
    np.testing.assert_allclose(curve.thresholds, thresholds)
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(auc(positive, score))


def test_an_auc_of_one_class_is_no_number() -> None:
    assert np.isnan(auc(np.ones(5, bool), np.arange(5.0)))
    with pytest.raises(ValueError, match="both classes"):
        roc(np.zeros(5, bool), np.arange(5.0))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.7])
def test_what_a_threshold_makes_is_what_scikit_learn_says(name: str, threshold: float) -> None:
    positive, score = case(name)
    called = score >= threshold
    counts = confusion(positive, called)
    (tn, fp), (fn, tp) = sk.confusion_matrix(positive, called, labels=[False, True])
    assert (counts.true_negative, counts.false_positive, counts.false_negative, counts.true_positive) == (
        tn,
        fp,
        fn,
        tp,
    )
    assert counts.accuracy == pytest.approx(sk.accuracy_score(positive, called))
    assert counts.sensitivity == pytest.approx(sk.recall_score(positive, called))
    assert counts.specificity == pytest.approx(sk.recall_score(~positive, ~called))
    assert counts.f1 == pytest.approx(sk.f1_score(positive, called))
    if called.any():
        assert counts.precision == pytest.approx(sk.precision_score(positive, called))
    else:
        assert np.isnan(counts.precision)


def test_calibration_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(3)
    score = draw.random(500)
    positive = draw.random(500) < score**1.5
    assert brier(positive, score) == pytest.approx(sk.brier_score_loss(positive, score))
    from sklearn.calibration import calibration_curve

    share_positive, mean_score = calibration_curve(positive, score, n_bins=10)
    bins = reliability(positive, score)
    np.testing.assert_allclose([b.share_positive for b in bins], share_positive)
    np.testing.assert_allclose([b.mean_score for b in bins], mean_score)
    assert sum(b.n for b in bins) == 500


def test_the_calibration_error_of_four_nodules_by_hand() -> None:
    """0.1 and 0.2 with no positive of one each, 0.9 twice with one positive of two: (0.1 + 0.2 + 2 x 0.4) / 4."""
    positive = np.array([False, False, True, False])
    score = np.array([0.1, 0.15, 0.9, 0.9])
    assert expected_calibration_error(positive, score) == pytest.approx((0.1 + 0.15 + 2 * 0.4) / 4)
    assert expected_calibration_error(np.array([True, True]), np.array([1.0, 1.0])) == 0.0


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),
        (10, 10, 0.6915, 1.0),
        (1, 10, 0.0025, 0.4450),
        (4, 10, 0.1216, 0.7376),
        (81, 263, 0.2527, 0.3676),
    ],
)
def test_exact_intervals_of_shares_are_those_of_published_tables(
    successes: int, n: int, low: float, high: float
) -> None:
    """Clopper and Pearson 1934; the last is the worked case of Newcombe, Stat Med 1998;17:857, table I."""
    assert clopper_pearson(successes, n) == pytest.approx((low, high), abs=6e-5)
    found = stats.binomtest(successes, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(successes, n) == pytest.approx((found.low, found.high))


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 3.69), (1, 0.03, 5.57), (5, 1.62, 11.67), (10, 4.80, 18.39)]
)
def test_exact_intervals_of_counts_are_those_of_published_tables(count: int, low: float, high: float) -> None:
    """Garwood 1936; also table of exact Poisson limits in Ulm, Am J Epidemiol 1990;131:373."""
    assert poisson_interval(count) == pytest.approx((low, high), abs=6e-3)


def test_a_share_of_four_is_not_said() -> None:
    assert share(3, 4) == (None, None)
    assert share(4, 5)[0] == 0.8


def test_the_bootstrap_draws_patients_and_not_nodules() -> None:
    """Ten copies of each nodule of a patient tell no more than one: the interval is that of the patients."""
    draw = np.random.default_rng(5)
    values = draw.normal(size=60)
    patients = [str(n) for n in range(60)]

    once = bootstrap(mean_of(values), patients)
    ten_times = bootstrap(mean_of(np.repeat(values, 10)), list(np.repeat(patients, 10)))
    as_if_alone = bootstrap(mean_of(np.repeat(values, 10)), [str(n) for n in range(600)])
    assert once is not None
    assert ten_times is not None
    assert as_if_alone is not None
    assert ten_times[1] - ten_times[0] == pytest.approx(once[1] - once[0], rel=0.15)
    assert as_if_alone[1] - as_if_alone[0] < 0.5 * (once[1] - once[0])
    half_width = 1.96 * values.std() / np.sqrt(60)
    assert (once[1] - once[0]) / 2 == pytest.approx(half_width, rel=0.1)


def test_the_bootstrap_says_the_same_every_time_and_nothing_of_nine_patients() -> None:
    values = np.arange(12.0)

    patients = [str(n) for n in range(12)]
    assert bootstrap(mean_of(values), patients) == bootstrap(mean_of(values), patients)
    assert bootstrap(mean_of(values), [str(n % 9) for n in range(12)]) is None


def test_a_weighted_figure_is_that_of_the_cases_written_out_so_often() -> None:
    """The bootstrap asks for figures of weighted cases; a case of weight 3 is three cases, one of weight 0 none."""
    draw = np.random.default_rng(4)
    positive = draw.random(80) < 0.4
    score = np.round(draw.random(80), 1)
    called = score >= 0.5
    weights = draw.integers(0, 4, (20, 80)).astype(float)
    weighted = {
        "auc": auc_of(positive, score)(weights),
        "f1": f1_of(positive, called)(weights),
        "ece": calibration_error_of(positive, score)(weights),
        "mean": mean_of(score)(weights),
        "median": median_of(score)(weights),
    }
    for n, row in enumerate(weights):
        often = np.repeat(np.arange(80), row.astype(int))
        written_out = {
            "auc": auc(positive[often], score[often]),
            "f1": confusion(positive[often], called[often]).f1,
            "ece": expected_calibration_error(positive[often], score[often]),
            "mean": float(np.mean(score[often])),
            "median": float(np.median(score[often])),
        }
        for name, value in written_out.items():
            assert weighted[name][n] == pytest.approx(value), name
    assert np.isnan(auc_of(positive, score)(np.where(positive, weights, 0.0))).all()


def test_pairs_of_one_size_leave_the_diameter_nothing_to_say() -> None:
    draw = np.random.default_rng(11)
    diameter = draw.uniform(4, 20, 300)
    positive = draw.random(300) < 1 / (1 + np.exp(-(diameter - 12)))
    assert auc(positive, diameter) > 0.8
    pairs = matched_pairs(positive, diameter, 0.5)
    assert len(pairs) > 30
    assert positive[pairs[:, 0]].all()
    assert not positive[pairs[:, 1]].any()
    assert len(np.unique(pairs)) == pairs.size
    assert np.abs(diameter[pairs[:, 0]] - diameter[pairs[:, 1]]).max() <= 0.5
    assert paired_auc(diameter, pairs) == pytest.approx(0.5, abs=0.15)
    assert paired_auc(positive.astype(float), pairs) == 1.0
    assert drawn_together(["a", "b", "c", "d", "e"], np.array([[0, 1], [2, 1], [3, 4]])) == ["0", "0", "1"]
    assert np.isnan(paired_auc(diameter, matched_pairs(np.zeros(300, bool), diameter, 0.5)))


def test_dice_and_volume_error_by_hand() -> None:
    one = np.zeros((2, 4, 4), bool)
    one[:, 1:3, 1:3] = True
    shifted = np.roll(one, 1, axis=2)
    assert dice(one, shifted) == 0.5
    assert dice(one, one) == 1.0
    assert dice(one, np.zeros_like(one)) == 0.0
    assert dice(one, shifted) == pytest.approx(sk.f1_score(one.ravel(), shifted.ravel()))
    assert volume_error(one | shifted, one) == 0.5
    assert volume_error(np.zeros_like(one), one) == -1.0
    assert np.isnan(volume_error(one, np.zeros_like(one)))
