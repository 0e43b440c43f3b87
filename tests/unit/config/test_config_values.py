"""Each type of a setting takes what a site may write, and says in a sentence why it takes nothing else."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from config import values


def reason(kind: Any, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    return str(caught.value.errors()[0]["ctx"]["error"])


def taken(kind: Any, value: object) -> object:
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        (values.AeTitle, " PACS ", "PACS"),
        (values.AeTitle, "A" * 16, "A" * 16),
        (values.AeTitle, "store scp 1", "store scp 1"),
        (values.Host, "pacs.example.org", "pacs.example.org"),
        (values.Host, "0.0.0.0", "0.0.0.0"),
        (values.Host, "::1", "::1"),
        (values.Host, "orthanc_1", "orthanc_1"),
        (values.Listen, "127.0.0.1:8042", "127.0.0.1:8042"),
        (values.Name, "pacs-main_2", "pacs-main_2"),
        (values.Port, 65535, 65535),
        (values.PositiveFloat, 0.2, 0.2),
        (values.NonNegativeFloat, 0, 0.0),
        (values.NonNegativeInt, 0, 0),
        (values.PositiveInt, 1, 1),
        (values.Share, 1, 1.0),
        (values.Days, 400, 400.0),
        (values.TimeZone, "Europe/Zurich", "Europe/Zurich"),
        (values.Line, " Spital Zürich ", "Spital Zürich"),
        (values.Folder, "/var/lib/dicom-node", "/var/lib/dicom-node"),
        (values.DatabaseUrl, "", ""),
        (values.DatabaseUrl, "sqlite:////var/lib/ledger.db", "sqlite:////var/lib/ledger.db"),
    ],
)
def test_what_a_site_may_write_is_taken(kind: Any, given: object, kept: object) -> None:
    assert taken(kind, given) == kept


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        (values.AeTitle, "RADIOLOGY_PACS_MAIN", "19 characters, an AE title has 1 to 16 (PS3.5 6.2)"),
        (values.AeTitle, "   ", "empty"),
        (values.AeTitle, "A\\B", "without backslash"),
        (values.AeTitle, "A\tB", "printable ASCII"),
        (values.AeTitle, "RÖNTGEN", "holds 'Ö'"),
        (values.Host, "http://pacs", "without scheme"),
        (values.Host, "pacs:104", "the port has a setting of its own"),
        (values.Host, "[::1]", "without brackets"),
        (values.Host, "300.1.1.1", "looks like an address"),
        (values.Host, "pacs main", "holds ' '"),
        (values.Host, "a..b", "parts of a host name"),
        (values.Host, "", "empty"),
        (values.Listen, "127.0.0.1", "an address and a port"),
        (values.Listen, "127.0.0.1:0", "an address and a port"),
        (values.Name, "PACS", "lower-case"),
        (values.Name, "2nd", "starts with a letter"),
        (values.Name, "a" * 33, "33 characters"),
        (values.Port, 0, "a port is 1 to 65535"),
        (values.Port, 65536, "a port is 1 to 65535"),
        (values.PositiveFloat, 0, "more than 0"),
        (values.PositiveFloat, float("inf"), "at most 1 000 000"),
        (values.PositiveFloat, float("nan"), "no number"),
        (values.NonNegativeFloat, -0.1, "0 or more"),
        (values.PositiveInt, 0, "1 or more"),
        (values.NonNegativeInt, -1, "0 or more"),
        (values.Share, 0, "more than 0 and at most 1"),
        (values.Share, float("nan"), "more than 0 and at most 1"),
        (values.Days, 1e6, "at most 100 000"),
        (values.TimeZone, "Zurich", "as in Europe/Zurich"),
        (values.TimeZone, "../etc/passwd", "no such time zone"),
        (values.TimeZone, "", "no such time zone"),
        (values.Line, "two\nlines", "control character"),
        (values.Hl7Text, "HOSP^1", "delimiters of HL7"),
        (values.Word, " ", "found in every text"),
        (values.Folder, "state", "starts with /"),
        (values.DatabaseUrl, "postgresql://x", "SQLite"),
    ],
)
def test_what_it_may_not_write_is_told_in_a_sentence(kind: Any, given: object, told: str) -> None:
    assert told in reason(kind, given)


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("quiet_s", "seconds"),
        ("age_h_max", "hours"),
        ("free_mib_min", "MiB"),
        ("records_d", "days"),
        ("attempts_max", ""),
        ("stack_mm_min", "mm"),
        ("port", ""),
        ("s", ""),
    ],
)
def test_the_unit_of_a_key_is_the_end_of_its_name(key: str, unit: str) -> None:
    assert values.unit_of(key) == unit
