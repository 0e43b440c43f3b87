"""What a nodule is like: scores from features of its own outline, with what each feature had to do with them.

Changes no geometry and guesses nothing: a nodule whose outline says too little keeps its empty grades. Scores were trained on
readers' opinion, not on pathology, and are calibrated on it.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from config.catalogue import Entry
from inference.explain import explain
from inference.features import NAMES, measure_features
from inference.findings import Algorithm, Ground, Nodule
from inference.reader import Progress
from inference.scoring import Numbers, Score, from_arrays
from inference.volume import Volume
from inference.weights import load_tensors

PARTS_SHOWN = 6
"""So many of a grade's parts are named, the others summed up."""

SOLID, PART_SOLID, NON_SOLID = "solid", "part-solid", "non-solid"


class FeatureGrader:
    """Grades by weights that `inference/training/grader.py` made."""

    def __init__(self, entry: Entry) -> None:
        self.algorithm = Algorithm(entry.task, entry.name, entry.version, entry.sha256, entry.validation)
        self.scores: Mapping[str, Score] = from_arrays(
            {name: tensor.numpy() for name, tensor in load_tensors(entry).items()}, entry.name
        )

    @property
    def thresholds(self) -> Mapping[str, float]:
        """At or above it a target is called so; malignancy too, though a reading shows its score alone."""
        return {target: score.threshold for target, score in self.scores.items()}

    def grade(self, volume: Volume, nodules: Sequence[Nodule], progress: Progress) -> Sequence[Nodule]:
        """The nodules with their grades, in their order."""
        graded = []
        for done, nodule in enumerate(nodules):
            progress("grade", done, len(nodules))
            features = measure_features(volume.hu, nodule.mask, volume.spacing_mm)
            graded.append(nodule if features is None else self._graded(nodule, features))
        progress("grade", len(nodules), len(nodules))
        return graded

    def _graded(self, nodule: Nodule, features: Numbers) -> Nodule:
        said = {target: float(score.scores(features[None])[0]) for target, score in self.scores.items()}
        return dataclasses.replace(
            nodule,
            malignancy=round(said["malignancy"], 3),
            texture=texture_of(
                self.is_called("not_solid", said["not_solid"]), self.is_called("non_solid", said["non_solid"])
            ),
            spiculation=round(said["spiculation"], 3),
            lobulation=round(said["lobulation"], 3),
            calcified=self.is_called("calcified", said["calcified"]),
            grounds=tuple(ground_of(target, score, features) for target, score in self.scores.items()),
        )

    def is_called(self, target: str, score: float) -> bool:
        """Whether a score reaches the threshold of its target."""
        return score >= self.scores[target].threshold


def ground_of(target: str, score: Score, features: Numbers) -> Ground:
    """Why one score of a nodule is what it is."""
    why = explain(score, features)
    strongest = np.argsort(-np.abs(why.parts), kind="stable")[:PARTS_SHOWN]
    shown = [int(place) for place in strongest if why.parts[place]]
    return Ground(
        grade=target,
        score=round(float(score.scores(features[None])[0]), 3),
        base=round(why.base, 3),
        parts=tuple((NAMES[n], round(float(features[n]), 3), round(float(why.parts[n]), 3)) for n in shown),
        rest=round(float(why.parts.sum() - why.parts[shown].sum()), 3),
    )


def texture_of(not_solid: bool, non_solid: bool) -> str:
    """The word for two calls: below 4 of 5 on the readers' scale of texture, and at most 2, which goes first."""
    if non_solid:
        return NON_SOLID
    return PART_SOLID if not_solid else SOLID
