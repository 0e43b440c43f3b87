"""A Report as a Comprehensive 3D SR, TID 1500 Imaging Measurement Report (PS3.16).

Each nodule is one volumetric group (TID 1411: its numbers, the SEG segment) and one planar group (TID 1410: a circle
on the key slice)
under one Tracking UID; each number stands in exactly one of the two. Viewers merge groups by that UID, and with a
segment alone one
of them shows a black screen. Exam-level words stand in a Qualitative Evaluations container, with groups and without:
the status of
the analysis, what it says (`inference.findings.sentences`), and "Nodule: not detected" only where whole lungs were
read.
A device observes, never a person; nothing is ever verified or final.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import highdicom as hd
import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dcm
from pydicom.uid import UID, ExplicitVRLittleEndian

from config.codes import DEFAULT, Code, Codes
from dicom_node.results import shadow as shadows
from dicom_node.results.context import MODEL, OrderNumbers, ResultContext, Written
from dicom_node.results.errors import SourceUnusable
from dicom_node.results.terms import (
    PRIVATE_SCHEME,
    PRIVATE_SCHEME_NAME,
    algorithm_details,
    concept,
    main_algorithm,
    side_of,
    texture_of,
    tracking_text,
)
from dicom_node.results.uids import uid
from inference.findings import LUNG_RADS, Finding, Nodule, Reading, Report, Status, sentences

SERIES_NUMBER: Final = 9002
SERIES_DESCRIPTION: Final = "AI lung nodules SR - RESEARCH"
_QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")  # TID 1500
_COMMENT: Final = Code("121106", "DCM", "Comment")
_Group = (
    hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | hd.sr.MeasurementsAndQualitativeEvaluations
)
_READ: Final = (Status.COMPLETED, Status.PARTIAL)


@dataclass(frozen=True)
class _Segmented:
    """The SEG of a reading, and the number of its segment by Tracking UID."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    segments: Mapping[str, int]


def write_sr(
    report: Report,
    files: Mapping[str, Path],
    segs: Mapping[str, Path],
    context: ResultContext,
    path: Path,
    codes: Codes = DEFAULT,
) -> Written:
    """Write the one SR of a result to `path`, synced: for every outcome that is reported.

    Args:
        report: numbers and Tracking UIDs filled in.
        files: file by SOP Instance UID of every instance read; of a study that was not analysed all that are known.
        segs: the SEG file by Series Instance UID of what was read; none for a reading without nodules.
    Raises:
        SourceUnusable, SourcesDisagree, NotWritten: see `errors.py`.
    """
    read = [r for r in report.readings if r.status in _READ]
    shadow = _sources(read, files)
    images = shadow.instances
    by_uid = {str(d.SOPInstanceUID): d for d in images}
    with shadows.unconcerned():
        segmented = {series: _segmented(file) for series, file in segs.items()}
        groups = [g for r in read for g in _groups(r, by_uid, segmented.get(r.series_instance_uid), codes)]
        root = _tree(report, groups, context, codes)
        root.ContentSequence.append(_qualitative(report, shadow, context, codes))
        document = hd.sr.Comprehensive3DSR(
            evidence=[*_images_first(images), *(_referable(s, images[0]) for s in segmented.values())],
            content=root,
            series_instance_uid=uid("sr series", context.key),
            series_number=SERIES_NUMBER,
            sop_instance_uid=uid("sr", context.key),
            instance_number=1,
            manufacturer=shadows.ascii_text(context.device.manufacturer, 64),
            manufacturer_model_name=MODEL,
            series_description=SERIES_DESCRIPTION,
            is_complete=report.status is Status.COMPLETED,
            requested_procedures=_requested(context.order, str(images[0].StudyInstanceUID)),
            previous_versions=None if context.predecessor is None else [_previous(context.predecessor)],
            coding_schemes=_private_scheme(root),
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
        return shadows.seal("sr", document, shadow, context, path)


def _sources(read: Sequence[Reading], files: Mapping[str, Path]) -> shadows.Shadow:
    """Every instance read; of a study that was not analysed every one that is known."""
    parts = [
        shadows.planes(files, reading.slices_read, reading.frames_read)
        if reading.nodules
        else shadows.references(files, dict.fromkeys(reading.slices_read))
        for reading in read
        if reading.slices_read
    ]
    return shadows.joined(parts or [shadows.references(files, sorted(files))])


def _images_first(sources: Sequence[Dataset]) -> list[Dataset]:
    """highdicom looks up the class of the first, and of that one alone: it must know it.

    Raises:
        SourceUnusable: no image of a class that the standard has.
    """
    images = {str(d.SOPInstanceUID) for d in sources if _is_image(d.SOPClassUID)}
    if not images:
        which = str(sources[0].StudyInstanceUID)
        raise SourceUnusable("no image of a class that the standard knows", which, "a report needs one to point at")
    return sorted(sources, key=lambda d: str(d.SOPInstanceUID) not in images)


def _is_image(sop_class_uid: str) -> bool:
    known = UID(sop_class_uid)
    return "Image Storage" in known.name and not known.is_retired


def _tree(report: Report, groups: Sequence[_Group], context: ResultContext, codes: Codes) -> Dataset:
    """The root container with observer, procedure and groups.

    highdicom refuses a report without groups, which "no nodule" and "not analysed" are: one is built in and taken out
    again.
    """
    device = context.device
    observer = hd.sr.ObserverContext(
        observer_type=dcm.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=device.uid,
            name=shadows.ascii_text(device.ae_title),
            manufacturer_name=shadows.ascii_text(device.manufacturer),
            model_name=MODEL,
            serial_number=shadows.ascii_text(device.serial),
        ),
    )
    modalities = {r.modality for r in report.readings} | {n.modality for n in report.not_read}
    procedure = codes.procedure_radiograph if modalities and "CT" not in modalities else codes.procedure_ct
    placeholder = hd.sr.MeasurementsAndQualitativeEvaluations(
        hd.sr.TrackingIdentifier(uid("none", context.key), "none")
    )
    root: Dataset = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=concept(procedure),
        imaging_measurements=groups or [placeholder],
    )[0]
    if not groups:
        measurements = dcm.DCM.ImagingMeasurements.value
        root.ContentSequence = hd.sr.ContentSequence(
            [item for item in root.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue != measurements]
        )
    return root


def _groups(
    reading: Reading, sources: Mapping[str, Dataset], segmented: _Segmented | None, codes: Codes
) -> Iterator[_Group]:
    for nodule in reading.nodules or ():
        yield _volumetric(nodule, reading, sources, segmented, codes)
        yield _planar(nodule, reading, sources, codes)
    for finding in reading.findings or ():
        if finding.reported:
            yield _scored(finding, reading, sources, codes)


def _common(nodule: Nodule, reading: Reading, codes: Codes) -> dict[str, Any]:
    side = side_of(nodule, codes)
    site = hd.sr.FindingSite(concept(codes.lung), laterality=None if side is None else concept(side))
    return {
        "tracking_identifier": hd.sr.TrackingIdentifier(uid=nodule.tracking_uid, identifier=tracking_text(nodule)),
        "finding_category": concept(codes.abnormal_structure),
        "finding_type": concept(codes.nodule),
        "finding_sites": [site],
        "algorithm_id": _algorithm(reading),
    }


def _algorithm(reading: Reading) -> hd.sr.AlgorithmIdentification:
    algorithm = main_algorithm(reading.algorithms)
    details = algorithm_details(reading.algorithms)
    return hd.sr.AlgorithmIdentification(
        name=shadows.ascii_text(algorithm.name),
        version=shadows.ascii_text(algorithm.version),
        parameters=[f"{task}: {what}" for task, what in details.items()],
    )


def _volumetric(
    nodule: Nodule, reading: Reading, sources: Mapping[str, Dataset], segmented: _Segmented | None, codes: Codes
) -> _Group:
    """TID 1411: the numbers, on the segment of the SEG."""
    if segmented is None or nodule.tracking_uid not in segmented.segments:
        raise SourceUnusable("no segment for a nodule", f"nodule {nodule.number}", "write the SEG before the SR")
    first = nodule.mask.start[0]
    frames: dict[str, list[int]] = {}
    for k in first + np.flatnonzero(nodule.mask.voxels.any(axis=(1, 2))):
        number = reading.frames_read[k] if reading.frames_read else None
        frames.setdefault(reading.slices_read[k], []).extend([] if number is None else [number])
    segment = hd.sr.ReferencedSegment(
        sop_class_uid=segmented.sop_class_uid,
        sop_instance_uid=segmented.sop_instance_uid,
        segment_number=segmented.segments[nodule.tracking_uid],
        source_images=[
            hd.sr.SourceImageForSegmentation(
                str(sources[s].SOPClassUID), str(sources[s].SOPInstanceUID), sorted(numbers) or None
            )
            for s, numbers in frames.items()
        ],
    )
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        **_common(nodule, reading, codes),
        referenced_segment=segment,
        measurements=list(_numbers(nodule, codes)),
        qualitative_evaluations=list(_attributes(nodule, codes)) or None,
    )


def _planar(nodule: Nodule, reading: Reading, sources: Mapping[str, Dataset], codes: Codes) -> _Group:
    """TID 1410: a circle on the key slice, for the eye; no number stands here."""
    column, row = nodule.key_slice.centre_px
    radius = max(nodule.key_slice.radius_px, 0.5)
    source = sources[nodule.key_slice.sop_instance_uid]
    region = hd.sr.ImageRegion(
        graphic_type=hd.sr.GraphicTypeValues.CIRCLE,  # centre, then a point on the rim (PS3.3 C.18.6.1.2)
        graphic_data=np.array([(column, row), (column - radius if column > radius else column + radius, row)]),
        source_image=hd.sr.SourceImageForRegion(
            str(source.SOPClassUID),
            str(source.SOPInstanceUID),
            None if nodule.key_slice.frame is None else [nodule.key_slice.frame],
        ),
    )
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        **_common(nodule, reading, codes), referenced_region=region
    )


def _numbers(nodule: Nodule, codes: Codes) -> Iterator[hd.sr.Measurement]:
    """Every number of the nodule, as `inference` rounded it; where a code demands %, times 100."""

    def number(name: Code, value: float, unit: Code, derivation: Code | None = None) -> hd.sr.Measurement:
        return hd.sr.Measurement(
            name=concept(name),
            value=value,
            unit=concept(unit),
            derivation=None if derivation is None else concept(derivation),
        )

    yield number(codes.long_axis, nodule.long_axis_mm, codes.unit_mm)
    yield number(codes.short_axis, nodule.short_axis_mm, codes.unit_mm)
    yield number(codes.diameter, nodule.mean_diameter_mm, codes.unit_mm, codes.mean)
    yield number(codes.volume, nodule.volume_mm3, codes.unit_mm3)
    yield number(codes.attenuation, nodule.mean_hu, codes.unit_hu, codes.mean)
    if nodule.mass_mg is not None:
        yield number(codes.mass, nodule.mass_mg, codes.unit_mg)
    for name, score in (
        (codes.detection_score, nodule.confidence),
        (codes.suspicion_score, nodule.malignancy),
        (codes.spiculation, nodule.spiculation),
        (codes.lobulation, nodule.lobulation),
    ):
        if score is not None:
            yield number(name, score, codes.unit_one)


def _attributes(nodule: Nodule, codes: Codes) -> Iterator[hd.sr.QualitativeEvaluation]:
    texture = texture_of(nodule, codes)
    if texture is not None:
        yield hd.sr.QualitativeEvaluation(name=concept(codes.texture), value=concept(texture))
    if nodule.calcified is not None:
        value = codes.present if nodule.calcified else codes.absent
        yield hd.sr.QualitativeEvaluation(name=concept(codes.calcification), value=concept(value))


def _scored(finding: Finding, reading: Reading, sources: Mapping[str, Dataset], codes: Codes) -> _Group:
    """TID 1501: one label of a radiograph with its score, on its image."""
    source = sources[finding.sop_instance_uid]
    name = shadows.ascii_text(finding.label.replace("_", " "), 64)
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=uid(f"finding {finding.label}", finding.sop_instance_uid), identifier=name
        ),
        finding_type=concept(Code(_private_value(finding.label), PRIVATE_SCHEME, name)),
        algorithm_id=_algorithm(reading),
        measurements=[
            hd.sr.Measurement(name=concept(codes.radiograph_score), value=finding.score, unit=concept(codes.unit_one))
        ],
        source_images=[hd.sr.SourceImageForMeasurementGroup(str(source.SOPClassUID), str(source.SOPInstanceUID))],
    )


def _private_value(label: str) -> str:
    return "AIX" + "".join(c for c in label.upper() if c.isascii() and c.isalnum())[:13]


def _qualitative(report: Report, shadow: shadows.Shadow, context: ResultContext, codes: Codes) -> Dataset:
    """The container of exam-level words (TID 1500, Qualitative Evaluations)."""
    container = hd.sr.ContainerContentItem(
        name=concept(_QUALITATIVE_EVALUATIONS), relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )
    items: list[hd.sr.ContentItem] = [_code(codes.summary_of_analyses, _status(report, codes))]
    if _none_marked(report):
        items.append(_code(codes.nodule, codes.not_detected))
    if report.assessment is not None and report.assessment.guideline == LUNG_RADS and report.assessment.category:
        items.append(_code(codes.lung_rads, codes.lung_rads_value(report.assessment.category)))
    items.append(_words(codes.conclusion, sentences(report)))
    items.append(_words(_COMMENT, _provenance(report, shadow, context)))
    container.ContentSequence = hd.sr.ContentSequence(items)
    return container


def _code(name: Code, value: Code) -> hd.sr.CodeContentItem:
    return hd.sr.CodeContentItem(concept(name), concept(value), hd.sr.RelationshipTypeValues.CONTAINS)


def _words(name: Code, lines: Sequence[str]) -> hd.sr.TextContentItem:
    text = shadows.ascii_text("\r\n".join(lines))
    return hd.sr.TextContentItem(concept(name), text, hd.sr.RelationshipTypeValues.CONTAINS)


def _status(report: Report, codes: Codes) -> Code:
    """CID 6042. "Failed" is ours to mend, "Not Attempted" is a series that can't be read."""
    if report.status is Status.COMPLETED:
        return codes.succeeded
    if report.status is Status.PARTIAL:
        return codes.partially_succeeded
    ended_badly = any(r.status is Status.FAILED for r in report.readings) or any(
        n.outcome == "failed" for n in report.not_read
    )
    return codes.failed if ended_badly else codes.not_attempted


def _none_marked(report: Report) -> bool:
    looked = [r for r in report.readings if r.nodules is not None]
    return report.status is Status.COMPLETED and bool(looked) and not report.nodules


def _provenance(report: Report, shadow: shadows.Shadow, context: ResultContext) -> list[str]:
    """What was read, with what, and what was left out: enough to say later why the result is what it is."""
    lines = [f"Result key {context.key}."]
    if context.settings_sha256:
        lines.append(f"Settings sha256:{context.settings_sha256}.")
    for reading in report.readings:
        lines.append(f"Series {reading.series_instance_uid}: {len(reading.slices_read)} images read.")
        lines += [f"{task}: {what}." for task, what in algorithm_details(reading.algorithms).items()]
        lines += filter(None, [_errors(nodule) for nodule in reading.nodules or ()])
        left_out: dict[str, list[str]] = {}
        for instance in reading.slices_left_out:
            frame = "" if instance.frame is None else f" frame {instance.frame}"
            left_out.setdefault(instance.why, []).append(instance.sop_instance_uid + frame)
        lines += [f"Left out ({why}): {', '.join(sorted(uids))}." for why, uids in sorted(left_out.items())]
    lines += [f"{remark}." for remark in shadow.remarks]
    if context.predecessor is not None:
        lines.append("This report replaces the one named as its predecessor.")
    return lines


def _errors(nodule: Nodule) -> str:
    """In words: TID 1419 has no place for an uncertainty under a number (validators take it for a fault)."""
    said = [
        f"{what} by {error:g} {unit}"
        for what, error, unit in (
            ("a length", nodule.size_error_mm, "mm"),
            ("the volume", nodule.volume_error_mm3, "mm3"),
            ("the mass", nodule.mass_error_mg, "mg"),
        )
        if error is not None
    ]
    return f"{tracking_text(nodule)}: the voxel size alone can change {', '.join(said)}." if said else ""


def _segmented(file: Path) -> _Segmented:
    found = dcmread(
        file,
        stop_before_pixels=True,
        specific_tags=["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SegmentSequence"],
    )
    segments = {str(s.TrackingUID): int(s.SegmentNumber) for s in found.SegmentSequence}
    return _Segmented(str(found.SOPClassUID), str(found.SOPInstanceUID), str(found.SeriesInstanceUID), segments)


def _referable(segmented: _Segmented, source: Dataset) -> Dataset:
    item = Dataset()
    item.SOPClassUID, item.SOPInstanceUID = segmented.sop_class_uid, segmented.sop_instance_uid
    item.StudyInstanceUID, item.SeriesInstanceUID = source.StudyInstanceUID, segmented.series_instance_uid
    return item


def _previous(file: Path) -> Dataset:
    return dcmread(file, specific_tags=["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])


def _requested(order: OrderNumbers, study_instance_uid: str) -> list[Dataset] | None:
    """Referenced Request Sequence (PS3.3 C.17.2), all its type 2 attributes; None without an order."""
    if order == OrderNumbers():
        return None
    item = Dataset()
    item.StudyInstanceUID = study_instance_uid
    item.ReferencedStudySequence = []
    item.RequestedProcedureCodeSequence = []
    for keyword, text in (
        ("AccessionNumber", order.accession),
        ("PlacerOrderNumberImagingServiceRequest", order.placer),
        ("FillerOrderNumberImagingServiceRequest", order.filler),
        ("RequestedProcedureID", order.procedure_id),
        ("RequestedProcedureDescription", order.procedure_description),
    ):
        setattr(item, keyword, text if text.isascii() else "")  # the object's own Accession Number has the bytes
    return [item]


def _private_scheme(root: Dataset) -> list[CodingSchemeIdentificationItem] | None:
    if f'"{PRIVATE_SCHEME}"' not in root.to_json():
        return None
    return [CodingSchemeIdentificationItem(PRIVATE_SCHEME, name=PRIVATE_SCHEME_NAME, responsible_organization=MODEL)]
