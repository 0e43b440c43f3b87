"""A Reading as a DICOM Segmentation: BINARY, a segment for each nodule, on the grid of the images (PS3.3 A.51, C.8.20).

One SEG for a reading, and none without nodules (an empty one would say that something was segmented). Segments count
from 1 without
gaps; the nodule's own number, which stays with it over the revisions, is in its label and Tracking ID. LABELMAP is
left out: the
viewer tried draws its colours one segment off, and archives refuse the class.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom.sr.codedict import codes as dcm
from pydicom.uid import ExplicitVRLittleEndian

from config.codes import DEFAULT, Codes
from dicom_node.results import shadow as shadows
from dicom_node.results.context import MODEL, ResultContext, Written
from dicom_node.results.errors import SourcesDisagree
from dicom_node.results.terms import algorithm_details, concept, main_algorithm, side_of, tracking_text
from dicom_node.results.uids import uid
from inference.findings import RESEARCH, Nodule, Reading

SERIES_NUMBER: Final = 9001
SERIES_DESCRIPTION: Final = "AI lung nodules SEG - RESEARCH"

# CIELab (L 0 to 100, a and b -128 to 127): ten colours told apart on grey, green and red ones not next to each other.
COLOURS: Final = (
    (80.0, 5.0, 70.0),
    (60.0, 60.0, -40.0),
    (80.0, -45.0, -15.0),
    (65.0, 55.0, 50.0),
    (85.0, -60.0, 60.0),
    (60.0, 0.0, -55.0),
    (75.0, 35.0, 10.0),
    (70.0, -30.0, 45.0),
    (70.0, 30.0, -45.0),
    (90.0, -15.0, 40.0),
)


def colour_of(number: int) -> tuple[float, float, float]:
    """The CIELab colour of the nodule `number`, the same in SEG and pictures."""
    return COLOURS[(number - 1) % len(COLOURS)]


def label_map(nodules: Sequence[Nodule], shape: tuple[int, int, int]) -> npt.NDArray[np.uint8 | np.uint16]:
    """[k, j, i] on the source grid: 0 background, n the n-th of `nodules` (counted from 1).

    Raises:
        SourcesDisagree: a mask is empty, reaches out of `shape`, or overlaps another (viewers don't draw overlaps).
    """
    labels = np.zeros(shape, np.uint8 if len(nodules) < 256 else np.uint16)
    for segment, nodule in enumerate(nodules, 1):
        start, voxels = nodule.mask.start, nodule.mask.voxels
        end = tuple(s + n for s, n in zip(start, voxels.shape, strict=True))
        if min(start) < 0 or any(e > n for e, n in zip(end, shape, strict=True)):
            raise SourcesDisagree("a mask reaches out of the volume", f"nodule {nodule.number}", "report this as a bug")
        part = labels[tuple(slice(s, e) for s, e in zip(start, end, strict=True))]
        if not voxels.any() or part[voxels].any():
            raise SourcesDisagree(
                "a mask is empty or overlaps another", f"nodule {nodule.number}", "report this as a bug"
            )
        part[voxels] = segment
    return labels


def write_seg(
    reading: Reading, files: Mapping[str, Path], context: ResultContext, path: Path, codes: Codes = DEFAULT
) -> Written | None:
    """Write the SEG of one reading to `path`, synced; None (and no file) without nodules.

    Args:
        reading: `slices_read` in the order of the volume's k; every nodule has its number and Tracking UID.
        files: the file of each slice by SOP Instance UID; headers suffice.
    Raises:
        SourceUnusable, SourcesDisagree, NotWritten: see `errors.py`.
    """
    if not reading.nodules:
        return None
    shadow = shadows.planes(files, reading.slices_read, reading.frames_read)
    first = shadow.datasets[0]
    labels = label_map(reading.nodules, (len(shadow.datasets), int(first.Rows), int(first.Columns)))
    with shadows.unconcerned():
        segmentation = hd.seg.Segmentation(
            source_images=shadow.datasets,
            pixel_array=labels,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(s, n, reading, codes) for s, n in enumerate(reading.nodules, 1)],
            series_instance_uid=uid(f"seg series {reading.series_instance_uid}", context.key),
            series_number=SERIES_NUMBER,
            sop_instance_uid=uid(f"seg {reading.series_instance_uid}", context.key),
            instance_number=1,
            manufacturer=shadows.ascii_text(context.device.manufacturer, 64),
            manufacturer_model_name=MODEL,
            software_versions=shadows.ascii_text(context.device.software_version, 64),
            device_serial_number=shadows.ascii_text(context.device.serial, 64),
            content_label="NODULES",
            content_description=f"AI lung nodules, {RESEARCH}",
            series_description=SERIES_DESCRIPTION,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=True,
        )
        shadows.name_frames(segmentation, shadow.frames)
        return shadows.seal("seg", segmentation, shadow, context, path)


def _describe(segment: int, nodule: Nodule, reading: Reading, codes: Codes) -> hd.seg.SegmentDescription:
    algorithm = main_algorithm(reading.algorithms)
    described = hd.seg.SegmentDescription(
        segment_number=segment,
        segment_label=tracking_text(nodule),
        segmented_property_category=concept(codes.abnormal_structure),
        segmented_property_type=concept(codes.nodule),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=shadows.ascii_text(algorithm.name, 64),
            version=shadows.ascii_text(algorithm.version, 64),
            family=dcm.DCM.ArtificialIntelligence,
            source=shadows.ascii_text(algorithm.maker, 64),
            parameters=algorithm_details(reading.algorithms),
        ),
        tracking_uid=nodule.tracking_uid,
        tracking_id=tracking_text(nodule),
        anatomic_regions=[concept(codes.lung)],
        display_color=hd.color.CIELabColor(*colour_of(nodule.number)),
    )
    side = side_of(nodule, codes)
    if side is not None:  # no argument of highdicom
        described.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [concept(side)]
    return described
