"""Is a series one of ours, and can it be read? By headers alone; pure.

First what is not for us, whatever else is wrong with it: no CT, CR or DX of an adult, or it names only parts without lungs.
Then what stands against reading it: thickness, gaps, tilt, reformats, views. Words of free text only ever widen: one can pass a
series over where nothing calls it chest, never choose it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final, Literal

from config.settings import Select
from inference import geometry
from inference.errors import Unfit
from inference.findings import LeftOut, Reason
from inference.geometry import Stack, number
from inference.headers import Header
from inference.planes import ENHANCED_CLASSES
from inference.volume import same_digest
from inference.words import calls_chest, names_other_part

CT: Final = "1.2.840.10008.5.1.4.1.1.2"  # CT Image Storage
CR: Final = "1.2.840.10008.5.1.4.1.1.1"  # Computed Radiography Image Storage
DX_PRESENTATION: Final = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray Image Storage - For Presentation
DX_PROCESSING: Final = "1.2.840.10008.5.1.4.1.1.1.1.1"  # Digital X-Ray Image Storage - For Processing
RADIOGRAPHS: Final = frozenset({CR, DX_PRESENTATION, DX_PROCESSING})
CT_CLASSES: Final = frozenset({CT, *ENHANCED_CLASSES})
READ_CLASSES: Final = CT_CLASSES | RADIOGRAPHS

THICKNESS_SLACK_MM: Final = 0.05  # 3.0 mm written as 3.04
OFF_AXIS_DEG_MAX: Final = 5.0  # an axial stack laid along the patient's axis; MPRs are turned further
GANTRY_DEG_MAX: Final = 35.0  # no gantry tilts further; beyond it is a reformat
RADIOGRAPH_PIXELS_MIN: Final = 200  # shorter side; less is a thumbnail
REFORMATS: Final = frozenset(
    {
        "MPR",
        "MIP",
        "MINIP",
        "MAXIP",
        "REFORMATTED",
        "CPR",
        "CURVED",
        "VRT",
        "VR",
        "SSD",
        "3D",
        "RADIAL",
        "PROJECTION IMAGE",
        "CSA MPR",
        "CSA MIP",
        "VOLUME RENDERED",
        "SURFACE",
    }
)
PROJECTIONS: Final = frozenset(
    {"MIP", "MINIP", "VRT", "SSD", "CPR"}
)  # as a word of a later value too: the values are no HU then
TECHNIQUES: Final = frozenset(
    {"", "NONE", "MIXED"}
)  # Volume Based Calculation Technique (PS3.3 C.8.16.2.1) of acquired slices
PIXEL_CONTRASTS: Final = frozenset(
    {"MAXIMUM", "MINIMUM", "SUBTRACTION", "DIVISION", "MASKED", "MULTIPLICATION", "STD_DEVIATION"}
    | {"RCBF", "RCBV", "RMTT", "RTTP", "PERFUSION_ROOT_CBF"}
)  # value 4 of an enhanced Image Type (PS3.3 C.8.16.1.4 and what perfusion software writes): no HU of a patient
NOT_HU: Final = frozenset({"OD", "MGML", "Z_EFF", "ED", "EDW", "PCT"})  # Rescale Type (PS3.3 C.11.1.1.2)
LATERALS: Final = frozenset({"LL", "RL", "LAT", "LATERAL", "SEITLICH"})
FRONTALS: Final = frozenset({"PA", "AP"})
HUMAN: Final = ("human", "homo sapiens")

Outcome = Literal["chosen", "passed_over", "declined", "failed", "set_aside"]
Kind = Literal["ct", "radiograph", "none"]


@dataclass(frozen=True)
class Found:
    """What a worker found in these same instances: the outcome (passed_over, declined, failed) and why."""

    outcome: str
    reason: Reason


@dataclass(frozen=True)
class SeriesView:
    """One series as choosing sees it. `received_at` aware, None: age is not judged (the node fetched it, or a demonstration)."""

    series_instance_uid: str
    headers: Sequence[Header]
    received_at: datetime | None = None
    found: Found | None = None


@dataclass(frozen=True)
class Judged:
    """A series with what stands against it (`reason`), or with what ranks it."""

    view: SeriesView
    kind: Kind
    outcome: Outcome = "chosen"
    reason: Reason | None = None
    stack: Stack | None = None
    left_out: tuple[LeftOut, ...] = ()


def place_in_study(view: SeriesView) -> tuple[int, str]:
    """By Series Number, then UID."""
    text = view.headers[0].series_number if view.headers else ""
    return (int(text) if text.isascii() and text.isdigit() else 2**40, view.series_instance_uid)


# ---------------------------------------------------------------- is it ours, can it be read


def judge(view: SeriesView, rules: Select, models: frozenset[str], study_words: str, zone: tzinfo) -> Judged:
    """What one series is, and what stands against reading it; see `selection.choose` for the arguments."""
    images = [h for h in view.headers if h.sop_class_uid in READ_CLASSES]
    if not images:
        text = "objects of a class that is not read" if view.headers else "no image of the series takes part"
        if view.found is not None:
            return Judged(view, "none", _outcome(view.found), view.found.reason)
        return Judged(view, "none", "set_aside", Reason("not_read_class" if view.headers else "no_images", text))
    kind: Kind = "ct" if sum(h.sop_class_uid in CT_CLASSES for h in images) * 2 >= len(images) else "radiograph"
    reason = _not_ours(images, kind, rules, study_words)
    if reason is not None:
        return Judged(view, kind, "passed_over", reason)
    if view.found is not None:
        base = view.found.reason.code == "lung_base" and _calls_itself_chest(images, rules, study_words)
        return Judged(view, kind, "declined" if base else _outcome(view.found), view.found.reason)
    reason = _prior(images, view.received_at, rules, zone)
    if reason is not None:
        return Judged(view, kind, "declined", reason)
    if ("nodule" if kind == "ct" else "radiograph") not in models:
        what = "CT" if kind == "ct" else "chest X-rays"
        return Judged(view, kind, "declined", Reason("no_model", f"no model for {what} is installed"))
    images = [h for h in images if (h.sop_class_uid in CT_CLASSES) == (kind == "ct")]
    return _judge_ct(view, images, rules) if kind == "ct" else _judge_radiographs(view, images, rules)


def _outcome(found: Found) -> Outcome:
    for outcome in ("passed_over", "failed"):
        if found.outcome == outcome:
            return outcome
    return "declined"


def _not_ours(images: Sequence[Header], kind: Kind, rules: Select, study_words: str) -> Reason | None:
    """Why the series is not for us at all, whatever else is wrong with it."""
    reason = _no_patient(images, rules)
    if reason is not None:
        return reason
    ages = [h.age_years for h in images if h.age_years is not None]
    if ages and min(ages) < rules.age_years_min:
        return Reason(
            "child", f"the patient is {int(min(ages))} years old; only adults from {rules.age_years_min} years are read"
        )
    own = [text for h in images for text in (h.body_part, h.protocol, h.series_description)]
    study = [text for h in images for text in (h.study_description, h.requested_procedure)] + [study_words]
    for texts, whose in ((own, "series"), (study, "study")):
        words = " ; ".join(dict.fromkeys(t for t in texts if t))
        if calls_chest(words, rules.words_chest):
            return None
        part = names_other_part(words, rules.words_other)
        if part:
            return Reason("other_part", f"the {whose} names a part of the body without lungs ({part})")
    if kind == "ct":
        return _short(images, rules)
    return None


def _calls_itself_chest(images: Sequence[Header], rules: Select, study_words: str) -> bool:
    """Then too little of the lungs is a fault of what was sent, and a report says so."""
    texts = {t for h in images for t in (h.body_part, *_described(h))} | {study_words}
    return calls_chest(" ; ".join(sorted(texts)), rules.words_chest)


def _no_patient(images: Sequence[Header], rules: Select) -> Reason | None:
    """An animal, or a phantom where the site does not have them read."""
    species = next((h.species for h in images if h.species), "")
    if species and not any(word in species.lower() for word in HUMAN):
        return Reason("not_human", "the patient is no human")
    told = next((h.animal for h in images if h.animal), "")
    if told and not species:
        return Reason("not_human", f"the patient is an animal ({told})")
    words = " ; ".join(dict.fromkeys(text for h in images for text in (*_described(h), h.institution) if text))
    word = "" if species else names_other_part(words, rules.words_animal)
    if word:
        return Reason("not_human", f"the header calls the patient an animal ({word})")
    return None if rules.phantoms else phantom_of(images, rules)


def phantom_of(images: Sequence[Header], rules: Select) -> Reason | None:
    """Whether the headers call what was scanned a phantom, and with which word."""
    texts = [t for h in images for t in (h.patient_name, h.patient_id, h.model, *_described(h))]
    word = names_other_part(" ; ".join(dict.fromkeys(t for t in texts if t)), rules.words_phantom)
    return Reason("phantom", f"a phantom and no patient (the header says {word})") if word else None


def _described(header: Header) -> tuple[str, ...]:
    """What the header calls series, protocol and study."""
    return header.protocol, header.series_description, header.study_description, header.requested_procedure


def _short(images: Sequence[Header], rules: Select) -> Reason | None:
    places = [frame.position for h in images for frame in h.as_frames() if frame.position is not None]
    if not places:
        return None
    extent = max(max(p[axis] for p in places) - min(p[axis] for p in places) for axis in range(3))
    extent += max((h.slice_thickness or 0.0 for h in images), default=0.0)
    if extent >= rules.stack_mm_min:
        return None
    return Reason(
        "short_stack",
        f"a stack of {number(extent)} mm that nothing calls chest (from {number(rules.stack_mm_min)} mm "
        "on the pixels are looked at)",
    )


def _prior(images: Sequence[Header], received_at: datetime | None, rules: Select, zone: tzinfo) -> Reason | None:
    """Acquired long before it came here: a prior or backlog. A date without a time counts to the end of its day."""
    times = [t for h in images if (t := _moment(h.acquired_at, zone)) is not None]
    if received_at is None or not rules.age_h_max or not times:
        return None
    age = received_at - max(times)
    if age <= timedelta(hours=rules.age_h_max):
        return None
    hours = age.total_seconds() / 3600
    said = f"{hours / 24:.0f} days" if hours >= 96 else f"{hours:.0f} h"
    return Reason(
        "prior",
        f"acquired {said} before it came here, select.age_h_max is {number(rules.age_h_max)} h: a prior or backlog",
    )


def _moment(text: str, zone: tzinfo) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if "T" not in text:
        moment += timedelta(days=1)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


# ---------------------------------------------------------------- CT


def _judge_ct(view: SeriesView, images: Sequence[Header], rules: Select) -> Judged:
    """All that stands against reading it, the reason that no resending can mend first."""
    reasons = [_not_a_scan(images), _several_stacks(images)]
    stack = None
    try:
        stack = geometry.stack_headers(images)
        reasons += [_not_axial(stack), _too_thick(stack, rules)]
        stack = geometry.without_repeats(stack, _same_as_far_as_known)
        if stack.gaps and rules.gap == "partial":
            stack = geometry.largest_run(stack)
        reasons += _against_stack(stack, rules)
    except Unfit as error:
        reasons.append(Reason(error.code, error.what))
    against = [reason for reason in reasons if reason is not None]
    if against:
        told = "; ".join(dict.fromkeys(reason.text for reason in against))
        return Judged(view, "ct", "declined", Reason(against[0].code, told), stack)
    foreign = [
        LeftOut(h.sop_instance_uid, "of a class that is not read with the series")
        for h in view.headers
        if h.sop_class_uid not in CT_CLASSES
    ]
    return Judged(view, "ct", stack=stack, left_out=(*(stack.left_out if stack else ()), *foreign))


def _same_as_far_as_known(one: Header, other: Header) -> bool:
    """Headers read without pixel digests can't tell; then the assembly of the volume does. Frames are never the same."""
    if one.frame is not None or other.frame is not None:
        return False
    return same_digest(one, other) or not (one.pixel_sha256 and other.pixel_sha256)


def _against_stack(stack: Stack, rules: Select) -> list[Reason | None]:
    reasons: list[Reason | None] = []
    for check in (geometry.need_straight, geometry.need_whole, geometry.need_even, geometry.need_one_frame):
        if check is geometry.need_even and stack.gaps:
            continue  # a gap is never even
        try:
            check(stack)
        except Unfit as error:
            reasons.append(Reason(error.code, error.what))
    return [*reasons, _too_far_apart(stack, rules)]


def _not_a_scan(images: Sequence[Header]) -> Reason | None:
    """Image Type and pixel description that no axial slice of HU has."""
    if not any(h.has_pixels for h in images):
        return Reason("no_pixels", "the images carry no pixel data")
    images = [frame for h in images for frame in h.as_frames()]
    if all(geometry.is_localizer(h) for h in images):
        return Reason("localizer", "the series holds nothing but localizers")
    made = next((name for h in images if (name := _reformat_of(h))), None)
    if made:
        return Reason("reformat", f"a reformat, no acquired slices (Image Type {made})")
    lacking = sum(not h.has_pixels for h in images)
    if lacking:
        return Reason("no_pixels", f"{lacking} of {len(images)} images carry no pixel data")
    for header in images:
        if (header.samples_per_pixel or 1) != 1 or header.photometric not in ("", "MONOCHROME1", "MONOCHROME2"):
            return Reason("colour", "colour images hold no HU")
        if header.frames > 1:
            enhanced = header.sop_class_uid in ENHANCED_CLASSES
            what = (
                "several frames that the object does not describe one by one"
                if enhanced
                else ("several frames in one image of a single-frame class")
            )
            return Reason("multiframe", what)
        if header.bits_allocated == 8:
            return Reason("eight_bit", "8-bit images: the HU are destroyed")
        if header.rescale_type.upper() in NOT_HU:
            return Reason("not_hu", f"values in {header.rescale_type}, no HU")
    return None


def _several_stacks(images: Sequence[Header]) -> Reason | None:
    """Multi-frame objects may hold several volumes: stacks, or moments of one place. Those are for a person to take apart."""
    frames = [frame for h in images for frame in h.as_frames() if frame.frame is not None]
    stacks = {frame.stack for frame in frames}
    if len(stacks) > 1:
        return Reason("not_one_acquisition", f"{len(stacks)} stacks of frames in one series")
    phases = {frame.phase for frame in frames}
    if len(phases) > 1 and len({frame.position for frame in frames}) < len(frames):
        named = "; ".join(sorted(phase or "not named" for phase in phases)[:3])
        return Reason("not_one_acquisition", f"{len(phases)} moments of one place in one series ({named})")
    return None


def _reformat_of(header: Header) -> str | None:
    """The word of Image Type that says so: value 3 as a whole, or a projection named in a later one."""
    if header.technique.upper() not in TECHNIQUES:
        return header.technique
    if header.sop_class_uid in ENHANCED_CLASSES:
        contrast = next((v for v in header.image_type[3:4] if v.upper() in PIXEL_CONTRASTS), None)
        if contrast or header.presentation.upper() == "COLOR":
            return contrast or "COLOR"
    values = [value.upper().replace("_", " ") for value in header.image_type[2:]]
    if values and values[0] in REFORMATS:
        return values[0]
    return next((word for value in values for word in value.split() if word in PROJECTIONS), None)


def _not_axial(stack: Stack) -> Reason | None:
    tilted = stack.tilt_deg > geometry.TILT_DEG_MAX and stack.off_axis_deg < GANTRY_DEG_MAX
    if stack.off_axis_deg <= OFF_AXIS_DEG_MAX or tilted:  # of a tilt `need_straight` tells
        return None
    return Reason(
        "not_axial",
        f"not axial: the slices' normal lies {number(stack.off_axis_deg)} degrees off the patient's long axis",
    )


def _too_thick(stack: Stack, rules: Select) -> Reason | None:
    thickest = max((h.slice_thickness or 0.0 for h in stack.headers), default=0.0)
    if thickest <= rules.thickness_mm_max + THICKNESS_SLACK_MM:
        return None
    return Reason("too_thick", f"slices of {number(thickest)} mm; up to {number(rules.thickness_mm_max)} mm are read")


def _too_far_apart(stack: Stack, rules: Select) -> Reason | None:
    limit = rules.thickness_mm_max + THICKNESS_SLACK_MM
    if stack.step_mm <= limit or _too_thick(stack, rules) is not None:
        return None
    return Reason(
        "spacing", f"slices lie {number(stack.step_mm)} mm apart; up to {number(rules.thickness_mm_max)} mm are read"
    )


# ---------------------------------------------------------------- radiographs


def _judge_radiographs(view: SeriesView, images: Sequence[Header], rules: Select) -> Judged:
    against = {h.sop_instance_uid: reason for h in images if (reason := _against_radiograph(h, rules)) is not None}
    if len(against) == len(images):
        first = min(images, key=lambda h: (h.instance_number or 0, h.sop_instance_uid))
        return Judged(view, "radiograph", "declined", against[first.sop_instance_uid])
    left_out = tuple(LeftOut(uid, reason.text) for uid, reason in sorted(against.items()))
    return Judged(view, "radiograph", left_out=left_out)


def _against_radiograph(header: Header, rules: Select) -> Reason | None:
    processing = header.sop_class_uid == DX_PROCESSING or header.presentation_intent.upper() == "FOR PROCESSING"
    if not header.has_pixels:
        return Reason("no_pixels", "the image carries no pixel data")
    if (header.samples_per_pixel or 1) != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return Reason("colour", "a colour picture, no radiograph")
    if min(header.rows or 0, header.columns or 0) < RADIOGRAPH_PIXELS_MIN:
        return Reason("too_small", f"an image of {header.columns} x {header.rows} pixels")
    if processing and not rules.for_processing:
        return Reason("for_processing", "a For Processing image: no pixels for display (select.for_processing is off)")
    view = view_of(header)
    if view == "lateral":
        return Reason("lateral", "a lateral view; only frontal ones are read")
    if view != "frontal":
        named = f"view position {header.view_position}" if header.view_position else "nothing in the header"
        return Reason("not_frontal", f"no frontal view: {named} says that it is one")
    return None


def view_of(header: Header) -> Literal["frontal", "lateral", "other", ""]:
    """The view of a radiograph by View Position, else by its view code, else by its description; "" when nothing tells."""
    position = header.view_position.upper().split()
    if position:
        return "frontal" if position[0] in FRONTALS else "lateral" if position[0] in LATERALS else "other"
    text = header.view_meaning.lower().replace("-", "").replace(" ", "")
    if text:
        frontal = "posteroanterior" in text or "anteroposterior" in text
        return "frontal" if frontal else "lateral" if "lateral" in text else "other"
    words = {
        w.strip(".,:;()/").upper()
        for t in (header.series_description, header.protocol)
        for w in t.replace("_", " ").split()
    }
    if words & LATERALS:
        return "lateral"
    return "frontal" if words & FRONTALS else ""
