"""A rejection note: a Key Object Selection that tells archives to hide what we sent (IHE RAD IOCM; PS3.3 A.35.4, TID
2010).

113037 takes a result back from the wrong patient, 113001 for every other cause; nothing else is ours to say. It names
each object
that was *sent*, under the patient and study that these objects carry.
"""

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Final

import highdicom as hd
from pydicom.sr.codedict import codes as dcm
from pydicom.uid import ExplicitVRLittleEndian

from config.codes import Code
from dicom_node.results import shadow as shadows
from dicom_node.results.context import MODEL, ResultContext, Written
from dicom_node.results.terms import concept
from dicom_node.results.uids import uid
from inference.findings import RESEARCH

SERIES_NUMBER: Final = 9003
SERIES_DESCRIPTION: Final = "AI lung nodules rejection note - RESEARCH"


class Rejection(Enum):
    """Why results are taken back (CID 7011)."""

    QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")
    WRONG_PATIENT = Code("113037", "DCM", "Rejected for Patient Safety Reasons")


def write_note(objects: Sequence[Path], rejection: Rejection, context: ResultContext, path: Path) -> Written:
    """Write a rejection note of results of ours to `path`, synced.

    Args:
        objects: the files of the SEG and SR that were sent, of one study; in any order.
        context: `key` is that of the withdrawal, so that two withdrawals differ.
    Raises:
        SourceUnusable, SourcesDisagree, NotWritten: see `errors.py`.
    """
    found = shadows.references({str(p): p for p in objects}, sorted(str(p) for p in objects))
    shadow = replace(found, datasets=tuple(sorted(found.datasets, key=lambda d: str(d.SOPInstanceUID))))
    # Two destinations may have been sent different objects: a note of other content is another note
    content = " ".join([rejection.value.value, *(str(d.SOPInstanceUID) for d in shadow.datasets)])
    device = context.device
    with shadows.unconcerned():
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
        document = hd.ko.KeyObjectSelectionDocument(
            evidence=list(shadow.datasets),
            content=hd.ko.KeyObjectSelection(
                document_title=concept(rejection.value),
                referenced_objects=list(shadow.datasets),
                observer_device_context=observer,
                description=f"AI results withdrawn. {RESEARCH}",
            ),
            series_instance_uid=uid(f"note series {content}", context.key),
            series_number=SERIES_NUMBER,
            sop_instance_uid=uid(f"note {content}", context.key),
            instance_number=1,
            manufacturer=shadows.ascii_text(device.manufacturer, 64),
            manufacturer_model_name=MODEL,
            series_description=SERIES_DESCRIPTION,
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
        return shadows.seal("note", document, shadow, context, path)
