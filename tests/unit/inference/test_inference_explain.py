"""Each feature's part in a score: exact, additive, and what the shap library says."""

import numpy as np
import pytest
import shap
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from inference.explain import expected_value, explain, tree_parts
from inference.scoring import Linear, Score
from tests.unit.inference.test_inference_scoring import N, boosted, drawn


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), leaves=st.integers(2, 9))
def test_parts_of_trees_are_those_of_the_shap_library(seed: int, leaves: int) -> None:
    learner, score = boosted(seed, leaves, trees=10)
    assert score.trees is not None
    theirs = shap.TreeExplainer(learner, feature_perturbation="tree_path_dependent")
    x = drawn(seed + 7, rows=8)[0]
    assert np.array([tree_parts(score.trees, row) for row in x]) == pytest.approx(theirs.shap_values(x), abs=1e-6)
    assert score.base + expected_value(score.trees) == pytest.approx(
        float(np.ravel(theirs.expected_value)[0]), abs=1e-6
    )


def test_parts_of_the_linear_model_are_those_of_the_shap_library() -> None:
    x, y = drawn(3)
    learner = LogisticRegression(C=0.3).fit(x, y)
    score = Score(float(learner.intercept_[0]), Linear(np.zeros(N), np.ones(N), learner.coef_[0]), None, 1.0, 0.0, 0.5)
    theirs = shap.LinearExplainer(learner, np.zeros((1, N)))
    inside = np.clip(x[:5], -4, 4)
    assert np.array([explain(score, row).parts for row in inside]) == pytest.approx(
        theirs.shap_values(inside), abs=1e-9
    )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), slope=st.floats(0.2, 3), offset=st.floats(-2, 2))
def test_parts_and_base_add_up_to_the_log_odds_of_the_shown_score(seed: int, slope: float, offset: float) -> None:
    _, trees = boosted(seed)
    draw = np.random.default_rng(seed)
    linear = Linear(draw.normal(size=N), 1 + draw.random(N), draw.normal(size=N) / 5)
    score = Score(trees.base, linear, trees.trees, slope, offset, 0.5)
    x = draw.normal(size=N)
    said = explain(score, x)
    shown = float(score.scores(x[None])[0])
    assert said.base + said.parts.sum() == pytest.approx(np.log(shown / (1 - shown)), abs=1e-6)


def test_a_feature_that_a_score_does_not_use_has_no_part_in_it() -> None:
    score = Score(0.0, Linear(np.zeros(N), np.ones(N), np.eye(N)[2]), None, 1.0, 0.0, 0.5)
    parts = explain(score, np.ones(N)).parts
    assert np.flatnonzero(parts).tolist() == [2]


def test_a_feature_without_a_number_goes_the_way_that_the_trees_send_it() -> None:
    _, score = boosted(5, 6, trees=10)
    assert score.trees is not None
    for odd in (np.nan, np.inf, -np.inf):
        x = np.full(N, odd)
        leaves = score.trees.leaves(x[None])[0]
        whole = float(score.trees.value[leaves].sum())
        assert expected_value(score.trees) + tree_parts(score.trees, x).sum() == pytest.approx(whole, abs=1e-6)
