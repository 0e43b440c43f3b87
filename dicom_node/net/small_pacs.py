"""A small PACS for demonstrations: C-ECHO, C-STORE into a folder, C-FIND (Study Root) with counts.

Not for patients: it is no archive, checks nobody, and keeps what it got as numbered files.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, evt

from dicom_node.net.conformance import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    STORAGE_SOP_CLASSES,
    STUDY_ROOT_FIND,
    SUCCESS,
    TRANSFER_SYNTAXES,
    VERIFICATION,
)
from dicom_node.net.library import prepare

_LEVELS: Final[Mapping[str, str]] = {
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
_PENDING: Final = 0xFF00
_WRONG_IDENTIFIER: Final = 0xA900


class SmallPacs:
    """Listens on a free port of the loopback while it is a context; `folder` gets what comes, in order of arrival.

    `held` are headers that C-FIND knows: what was stored, and what `hold` was told of.
    """

    def __init__(self, folder: Path, ae_title: str, on_stored: Callable[[Path], None] = lambda path: None) -> None:
        prepare()
        self.folder, self.ae_title, self.host = folder, ae_title, "127.0.0.1"
        self._on_stored = on_stored
        self._lock = threading.Lock()
        self._held: dict[str, Dataset] = {}
        self._count = 0
        self._server: Any = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        ae = AE(self.ae_title)
        ae.maximum_associations = 20
        ae.add_supported_context(VERIFICATION)
        ae.add_supported_context(STUDY_ROOT_FIND)
        for sop_class in STORAGE_SOP_CLASSES:
            ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        self._server = ae.start_server(
            (self.host, 0),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)],
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()

    def hold(self, paths: Iterable[Path]) -> None:
        """Know of files that lie elsewhere, so that C-FIND counts them; what is no DICOM file is passed over."""
        for path in paths:
            try:
                self._know(dcmread(path, stop_before_pixels=True))
            except (InvalidDicomError, OSError, ValueError):
                continue

    def headers(self) -> list[Dataset]:
        """All that it knows of."""
        with self._lock:
            return list(self._held.values())

    def _know(self, header: Dataset) -> None:
        with self._lock:
            self._held[str(header.get("SOPInstanceUID", ""))] = header

    def _store(self, event: Any) -> int:
        with self._lock:
            self._count += 1
            number = self._count
        modality = _plain(event.dataset.get("Modality")) or "OT"
        path = self.folder / f"{number:04d}-{modality}.dcm"
        try:
            path.write_bytes(event.encoded_dataset())  # preamble, file meta, data set as it came
            self._know(dcmread(path, stop_before_pixels=True))
        except OSError:
            return OUT_OF_RESOURCES
        except (InvalidDicomError, ValueError):
            return CANNOT_UNDERSTAND
        self._on_stored(path)
        return SUCCESS

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        level = str(query.get("QueryRetrieveLevel", ""))
        if level not in _LEVELS:
            yield _WRONG_IDENTIFIER, None
            return
        for answer in self._answers(query, level):
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield _PENDING, answer

    def _answers(self, query: Dataset, level: str) -> list[Dataset]:
        found: dict[str, list[Dataset]] = {}
        for header in self.headers():
            if all(_matches(query, header, keyword) for keyword in _LEVELS.values()):
                found.setdefault(str(header.get(_LEVELS[level], "")), []).append(header)
        return [_answer(query, level, headers) for headers in found.values()]


def _plain(value: object) -> str:
    """A value that may stand in a file name."""
    return "".join(c for c in str(value or "") if c.isascii() and c.isalnum())[:16]


def _matches(query: Dataset, header: Dataset, keyword: str) -> bool:
    """Single value and list of UID matching (PS3.4 C.2.2.2.1, C.2.2.2.2)."""
    wanted = query.get(keyword)
    if not wanted:
        return True
    wanted = [wanted] if isinstance(wanted, str) else wanted
    return str(header.get(keyword, "")) in {str(uid) for uid in wanted}


def _answer(query: Dataset, level: str, headers: list[Dataset]) -> Dataset:
    """What the query asked for, of the first instance; counts of what is held here (PS3.4 C.3.4)."""
    counts = {
        "NumberOfStudyRelatedSeries": len({str(h.get("SeriesInstanceUID", "")) for h in headers}),
        "NumberOfStudyRelatedInstances": len(headers),
        "NumberOfSeriesRelatedInstances": len(headers),
        "ModalitiesInStudy": sorted({str(h.get("Modality", "")) for h in headers}),
    }
    answer = Dataset()
    if charset := headers[0].get("SpecificCharacterSet"):
        answer.SpecificCharacterSet = charset
    answer.QueryRetrieveLevel = level
    for element in query:
        keyword = keyword_for_tag(element.tag)
        if keyword in counts:
            setattr(answer, keyword, counts[keyword])
        elif element.tag in headers[0] and keyword != "SpecificCharacterSet":
            answer[element.tag] = headers[0][element.tag]
        elif keyword not in ("QueryRetrieveLevel", "SpecificCharacterSet"):
            answer.add_new(element.tag, element.VR, None)
    return answer
