"""What a nodule is like: scores from features of its own outline, with what each feature had to do with them.

Changes no geometry and guesses nothing: a nodule whose outline says too little keeps its empty grades. Scores were trained on
readers' opinion, not on pathology, and are calibrated on it.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from config.catalogue import Entry
from inference.features import measure_features
from inference.findings import Algorithm, Nodule
from inference.reader import Progress
from inference.scoring import Numbers, Score, from_arrays
from inference.volume import Volume
from inference.weights import load_tensors

SOLID, PART_SOLID, NON_SOLID = "solid", "part-solid", "non-solid"


class FeatureGrader:
    """Grades by weights that `inference/training/grader.py` made."""

    def __init__(self, entry: Entry) -> None:
        self.algorithm = Algorithm(entry.task, entry.name, entry.version, entry.sha256, entry.validation)
        self.scores: Mapping[str, Score] = from_arrays(
            {name: tensor.numpy() for name, tensor in load_tensors(entry).items()}, entry.name
        )

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
        )

    def is_called(self, target: str, score: float) -> bool:
        """Whether a score reaches the threshold of its target."""
        return score >= self.scores[target].threshold


def texture_of(not_solid: bool, non_solid: bool) -> str:
    """The word for two calls: below 4 of 5 on the readers' scale of texture, and at most 2."""
    if not not_solid:
        return SOLID
    return NON_SOLID if non_solid else PART_SOLID
