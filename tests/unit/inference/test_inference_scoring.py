"""Scores from arrays: what scikit-learn would say, without it; damaged ones are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from inference.errors import ModelRefused
from inference.features import NAMES
from inference.scoring import BOUND_SD, TARGETS, Linear, Score, Trees, from_arrays, to_arrays
from inference.training.grader_models import Candidate, Table, fit, linear, trees_of

N = len(NAMES)


def drawn(seed: int, rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, N))
    return x, x[:, 0] + 0.5 * x[:, 3] * x[:, 5] + draw.normal(0, 0.7, rows) > 0


def boosted(seed: int, leaves: int = 5, trees: int = 12) -> tuple[HistGradientBoostingClassifier, Score]:
    x, y = drawn(seed)
    learner = HistGradientBoostingClassifier(
        max_iter=trees, max_leaf_nodes=leaves, min_samples_leaf=5, early_stopping=False, random_state=seed
    ).fit(x, y)
    base = float(learner._baseline_prediction.ravel()[0])
    return learner, Score(base, None, trees_of(learner, np.arange(N)), 1.0, 0.0, 0.5)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), leaves=st.integers(2, 9), trees=st.integers(1, 25))
def test_trees_as_arrays_say_what_scikit_learn_says(seed: int, leaves: int, trees: int) -> None:
    learner, score = boosted(seed, leaves, trees)
    x = np.concatenate([drawn(seed + 1)[0], drawn(seed)[0] * 30])  # far out too
    assert score.scores(x) == pytest.approx(learner.predict_proba(x)[:, 1], abs=1e-12)


def test_trees_on_some_of_the_features_find_them_among_all() -> None:
    x, y = drawn(4)
    columns = np.array([9, 0, 5])
    learner = HistGradientBoostingClassifier(max_iter=8, max_leaf_nodes=4, early_stopping=False).fit(x[:, columns], y)
    trees = trees_of(learner, columns)
    assert set(trees.feature.tolist()) <= {-1, 0, 5, 9}
    score = Score(float(learner._baseline_prediction.ravel()[0]), None, trees, 1.0, 0.0, 0.5)
    assert score.scores(x) == pytest.approx(learner.predict_proba(x[:, columns])[:, 1], abs=1e-12)


def test_the_linear_part_says_what_scikit_learn_says() -> None:
    x, y = drawn(2)
    table = Table(x, y, [str(n) for n in range(len(x))], [str(n) for n in range(len(x))])
    score = fit(linear("all", NAMES, 0.3), table, 0)
    z = np.clip((x - x.mean(axis=0)) / x.std(axis=0), -BOUND_SD, BOUND_SD)
    learner = LogisticRegression(C=0.3, max_iter=5000).fit(z, y)
    assert score.scores(x) == pytest.approx(learner.predict_proba(z)[:, 1], abs=1e-9)


def test_a_body_unlike_any_in_the_training_does_not_run_away() -> None:
    x, y = drawn(2)
    score = fit(linear("all", NAMES, 0.3), Table(x, y, list(map(str, range(200))), list(map(str, range(200)))), 0)
    far, farther = np.zeros((1, N)), np.zeros((1, N))
    far[0, 0], farther[0, 0] = 100.0, 1e9
    assert score.raw(far) == score.raw(farther)


def test_calibration_moves_scores_and_never_their_order() -> None:
    _, plain = boosted(3)
    calibrated = Score(plain.base, plain.linear, plain.trees, 0.6, -0.8, 0.4)
    x = drawn(8)[0]
    assert calibrated.scores(x) == pytest.approx(1 / (1 + np.exp(-(0.6 * plain.raw(x) - 0.8))))
    assert np.array_equal(np.argsort(calibrated.scores(x)), np.argsort(plain.scores(x)))


def stored() -> dict[str, np.ndarray]:
    _, trees = boosted(1)
    draw = np.random.default_rng(5)
    straight = Score(0.2, Linear(draw.normal(size=N), 1 + draw.random(N), draw.normal(size=N)), None, 0.9, 0.1, 0.3)
    return dict(to_arrays({target: trees if n % 2 else straight for n, target in enumerate(TARGETS)}))


def test_scores_come_back_from_a_file_as_they_were() -> None:
    arrays = stored()
    again = from_arrays(load(save(arrays)), "grade-x")
    x = drawn(6)[0]
    for target, score in from_arrays(arrays, "grade-x").items():
        assert np.array_equal(again[target].scores(x), score.scores(x))
        assert again[target].threshold == score.threshold


def without_calibration(arrays: dict[str, np.ndarray]) -> None:
    del arrays["calcified.calibration"]


def for_other_features(arrays: dict[str, np.ndarray]) -> None:
    arrays["names"] = np.frombuffer(b"diameter\nsomething", np.uint8)


def in_a_circle(arrays: dict[str, np.ndarray]) -> None:
    inner = int(np.flatnonzero(arrays["not_solid.trees.feature"] >= 0)[0])
    arrays["not_solid.trees.left"][inner] = inner


def with_too_few_coefficients(arrays: dict[str, np.ndarray]) -> None:
    arrays["malignancy.linear.coefficient"] = np.zeros(3)


def with_nan(arrays: dict[str, np.ndarray]) -> None:
    arrays["malignancy.linear.width"][0] = np.nan


def with_a_feature_that_there_is_not(arrays: dict[str, np.ndarray]) -> None:
    arrays["not_solid.trees.feature"][0] = 99


@pytest.mark.parametrize(
    "damage",
    [
        without_calibration, for_other_features, in_a_circle, with_too_few_coefficients, with_nan,
        with_a_feature_that_there_is_not,
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(damage: object) -> None:
    arrays = {name: values.copy() for name, values in stored().items()}
    damage(arrays)  # type: ignore[operator]
    with pytest.raises(ModelRefused, match="grade-x"):
        from_arrays(arrays, "grade-x")


def test_a_tree_of_one_leaf_is_a_constant() -> None:
    leaf = Trees(*(np.array([v]) for v in (-1, 0.0, 0, 0, 0.7, 10.0, 0)))
    assert Score(0.1, None, leaf, 1.0, 0.0, 0.5).raw(np.zeros((2, N))) == pytest.approx([0.8, 0.8])


def test_weights_of_fewer_features_say_the_same_and_weights_of_unknown_ones_are_refused() -> None:
    """A feature more in the software makes no weights useless."""
    x, y = drawn(6)
    few = [NAMES[0], NAMES[5], NAMES[3]]
    table = Table(x, y, list(map(str, range(len(x)))), list(map(str, range(len(x)))))
    columns = [NAMES.index(name) for name in few]
    settings = {"max_iter": 5, "max_leaf_nodes": 4, "C": 0.3}
    whole = fit(Candidate("both", tuple(few), settings, "few"), table, 0)
    assert whole.linear is not None
    assert whole.trees is not None
    arrays = {name: np.asarray(values) for name, values in to_arrays(dict.fromkeys(TARGETS, whole)).items()}
    arrays["names"] = np.frombuffer("\n".join(few).encode(), np.uint8)
    for target in TARGETS:
        for part in ("centre", "width", "coefficient"):
            arrays[f"{target}.linear.{part}"] = arrays[f"{target}.linear.{part}"][columns]
        feature = arrays[f"{target}.trees.feature"]
        arrays[f"{target}.trees.feature"] = np.array([-1 if f < 0 else columns.index(f) for f in feature])
    assert from_arrays(arrays, "few")["malignancy"].scores(x) == pytest.approx(whole.scores(x), abs=1e-12)
    arrays["names"] = np.frombuffer("\n".join([*few[:2], "smell"]).encode(), np.uint8)
    with pytest.raises(ModelRefused, match="few"):
        from_arrays(arrays, "few")
