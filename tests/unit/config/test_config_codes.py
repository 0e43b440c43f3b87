"""Concept codes: one table for all outputs, remapped by a site without surprises."""

from dataclasses import astuple, fields

import pytest

from config.codes import DEFAULT, Code, Codes
from config.errors import ConfigurationError


def test_a_site_gives_a_concept_its_own_code_and_leaves_the_others():
    own = DEFAULT.remapped({"nodule": Code("N1", "99SITE", "Nodule of the lung")})
    assert own.nodule == Code("N1", "99SITE", "Nodule of the lung")
    assert own.lung == DEFAULT.lung
    assert DEFAULT.nodule.value == "27925004"


def test_an_unknown_concept_is_refused_and_the_nearest_one_is_named():
    with pytest.raises(ConfigurationError, match=r"codes\.nodul: no such concept; the nearest is codes\.nodule"):
        DEFAULT.remapped({"nodul": Code("1", "2", "3")})


@pytest.mark.parametrize(
    "parts",
    [
        ("", "SCT", "x"),
        ("1", "", "x"),
        ("1", "SCT", ""),
        ("1", "SCT", "x" * 65),
        ("1", "S" * 17, "x"),
        ("1", "SCT", "Knötchen"),
        ("1", "SCT", "a\\b"),
    ],
)
def test_a_code_that_would_not_fit_every_object_is_refused(parts):
    with pytest.raises(ConfigurationError):
        Code(*parts)


def test_no_two_concepts_share_a_code_and_mean_different_things():
    meanings: dict[tuple[str, str], set[str]] = {}
    for concept in fields(Codes):
        value, scheme, meaning = astuple(getattr(DEFAULT, concept.name))
        meanings.setdefault((value, scheme), set()).add(meaning)
    assert [m for m in meanings.values() if len(m) > 1] == []


def test_no_concept_calls_a_score_a_probability_of_cancer():
    words = " ".join(getattr(DEFAULT, concept.name).meaning.lower() for concept in fields(Codes))
    assert "cancer" not in words
    assert "probability" not in words
