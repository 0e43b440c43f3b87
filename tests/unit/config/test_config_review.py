"""`check` tells what a site has loosened and what looks forgotten; the digest moves with what reaches a result."""

from typing import Any

import pytest

from config.keys import keys
from config.review import RESULT_SECTIONS, digest, doubts, loosened
from config.settings import Delivery, Ehr, Pacs, Settings, Site


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"site": {"timezone": "Europe/Zurich"}} | sections)


PACS = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 104}
EHR = {"name": "his", "host": "h", "port": 2575}


def test_the_defaults_loosen_nothing() -> None:
    assert loosened(settings()) == []


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("receive", "any_calling_ae", True),
        ("receive", "any_called_ae", True),
        ("assembly", "proof_quiet_s", 1),
        ("assembly", "quiet_s", 5),
        ("assembly", "aborted_quiet_s", 5),
        ("assembly", "wait_s_max", 60),
        ("study", "quiet_s", 1),
        ("study", "revisions_max", 50),
        ("study", "revision_h_max", 48),
        ("select", "age_h_max", 0),
        ("select", "age_h_max", 500),
        ("select", "age_years_min", 0),
        ("select", "thickness_mm_max", 5),
        ("select", "gap", "partial"),
        ("disk", "free_mib_min", 100),
        ("disk", "used_max", 0.99),
        ("disk", "alarm_used", 0.95),
        ("disk", "reserve_mib", 10),
        ("retention", "images_h", 1),
        ("retention", "results_d", 1),
        ("retention", "records_d", 1),
        ("oru", "service_text", "AI chest"),
        ("http", "listen", "0.0.0.0:8042"),
    ],
)
def test_what_a_site_loosens_is_told_with_key_and_value(section: str, key: str, value: object) -> None:
    [told] = loosened(settings(**{section: {key: value}}))
    assert told.startswith(f"{section}.{key} = ")


def test_what_a_site_tightens_is_not_told() -> None:
    assert loosened(settings(select={"age_h_max": 24, "thickness_mm_max": 1.5}, assembly={"quiet_s": 120})) == []


def test_letting_unmeasured_results_out_is_told() -> None:
    told = loosened(
        Settings(
            site=Site(timezone="Europe/Zurich", allow_unvalidated=True),
            delivery=Delivery(enabled=True, intended_use="a trial"),
        )
    )
    assert [line.split(" ")[0] for line in told] == ["site.allow_unvalidated", "delivery.enabled"]


def test_a_destination_that_is_told_less_is_told() -> None:
    told = loosened(settings(pacs=[PACS | {"rejection_notes": False}], ehr=[EHR | {"not_analysed": False}]))
    assert [line.split(":")[0] for line in told] == ["pacs 'pacs'", "ehr 'his'"]


def test_nobody_may_send_is_a_warning_and_no_fault() -> None:
    assert any("nobody may send" in doubt for doubt in doubts(settings()))
    assert not any("nobody may send" in doubt for doubt in doubts(settings(receive={"any_calling_ae": True})))
    assert not any("nobody" in doubt for doubt in doubts(settings(receive={"calling_ae_titles": ["PACS"]})))


def test_shadow_mode_and_nowhere_to_send_are_told() -> None:
    assert any("shadow mode" in doubt for doubt in doubts(settings()))
    enabled = Delivery(enabled=True, intended_use="a trial")
    assert any("to send to" in doubt for doubt in doubts(settings(delivery=enabled)))
    open_door = {"delivery": enabled, "pacs": [PACS], "receive": {"calling_ae_titles": ["PACS"]}}
    assert doubts(settings(**open_door)) == []  # what ships was measured
    demonstration = open_door | {"read": {"detector": "hessian-dot"}}
    (kept_back,) = doubts(settings(**demonstration))
    assert kept_back.startswith("site.allow_unvalidated = false")
    quiet = doubts(settings(**demonstration, site={"timezone": "Europe/Zurich", "allow_unvalidated": True}))
    assert quiet == []


def test_limits_that_undo_each_other_are_told() -> None:
    told = doubts(
        settings(
            disk={"alarm_used": 0.95, "reserve_mib": 6000},
            assembly={"proof_quiet_s": 90, "wait_s_max": 30},
        )
    )
    assert sum("disk." in doubt for doubt in told) == 2
    assert sum("assembly." in doubt for doubt in told) == 2


def test_the_digest_is_the_same_for_defaults_written_out() -> None:
    written_out = {key.name: key.default for key in keys().values() if key.section == "select"}
    assert digest(settings()) == digest(settings(select=written_out))
    assert digest(settings()) == digest(settings(), reversed(RESULT_SECTIONS))


@pytest.mark.parametrize(
    ("section", "key", "value", "moves"),
    [
        ("select", "thickness_mm_max", 5, True),
        ("read", "nodules_max", 3, True),
        ("guideline", "screening_words", ["screening"], True),
        ("oru", "service_code", "X", True),
        ("read", "wall_s_max", 5, False),
        ("receive", "port", 104, False),
        ("delivery", "attempts_max", 3, False),
        ("log", "level", "debug", False),
    ],
)
def test_the_digest_moves_with_what_reaches_a_result(section: str, key: str, value: object, moves: bool) -> None:
    assert (digest(settings()) != digest(settings(**{section: {key: value}}))) is moves


def test_a_name_that_is_no_section_is_no_digest() -> None:
    with pytest.raises(KeyError):
        digest(settings(), ["selct"])


def test_settings_that_contradict_each_other_are_refused_in_code_too() -> None:
    with pytest.raises(ValueError, match=r"oru\.after = 'his'"):
        settings(pacs=[PACS], ehr=[EHR], oru={"after": ["his"]})
    with pytest.raises(ValueError, match="each kind is sent once"):
        settings(pacs=[PACS | {"kinds": ["seg", "seg"]}])
    assert settings(pacs=[PACS], ehr=[EHR], oru={"after": ["pacs"]}).oru.after == ("pacs",)
    assert isinstance(settings(pacs=[PACS], ehr=[EHR]).ehr[0], Ehr)
    assert isinstance(settings(pacs=[PACS]).pacs[0], Pacs)
