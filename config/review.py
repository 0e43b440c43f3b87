"""What `dicom-node check` says of settings that are right: what they loosen, what looks forgotten; and their digest."""

import hashlib
import ipaddress
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from config.catalogue import chain_entries, models_folder
from config.errors import ConfigurationError
from config.keys import as_toml, keys
from config.settings import Settings

RESULT_SECTIONS: Final = (
    "site.timezone",
    "site.assigning_authority",
    "site.device_serial",
    "receive.ae_title",
    "select",
    "read.detector",
    "read.nodules_max",
    "guideline",
    "oru.sending_application",
    "oru.sending_facility",
    "oru.processing_id",
    "oru.service_code",
    "oru.service_text",
)
"""What reaches reading or results: choosing rules, the reader, and the words that objects and messages carry.

Neither where results go nor when, nor what only bounds time and memory.
"""

Looser = Callable[[Any, Any], bool]


def _more(value: Any, default: Any) -> bool:
    return bool(value > default)


def _less(value: Any, default: Any) -> bool:
    return bool(value < default)


def _other(value: Any, default: Any) -> bool:
    return bool(value != default)


def _more_or_off(value: Any, default: Any) -> bool:
    return bool(value == 0 or value > default)


_LOOSENED: Final[tuple[tuple[str, Looser, str], ...]] = (
    ("site.allow_unvalidated", _other, "results of detectors that were never measured may leave the node"),
    ("receive.any_calling_ae", _other, "any AE title may send to the node"),
    ("receive.any_called_ae", _other, "callers need not know the node's AE title"),
    ("assembly.proof_quiet_s", _less, "a late slice more often comes after its series was read"),
    ("assembly.quiet_s", _less, "a late slice more often comes after its series was read"),
    ("assembly.aborted_quiet_s", _less, "a series whose sending was aborted is more often read without its rest"),
    ("assembly.wait_s_max", _less, "a series that is still coming may be read without its rest"),
    ("study.quiet_s", _less, "a better series more often comes after another one was read"),
    ("study.revisions_max", _more, "more results of one study may go out before a person looks"),
    ("study.revision_h_max", _more, "later changes make new results before a person looks"),
    ("select.age_h_max", _more_or_off, "older studies are reported as if they were new"),
    ("select.age_years_min", _less, "younger patients are read"),
    ("select.thickness_mm_max", _more, "thicker slices are read, in which small nodules are missed"),
    ("select.gap", _other, "series that lack slices inside are read"),
    ("delivery.enabled", _other, "results leave the node (out of shadow mode)"),
    ("disk.free_mib_min", _less, "the disk is fuller before images are refused"),
    ("disk.used_max", _more, "the disk is fuller before images are refused"),
    ("disk.alarm_used", _more, "the alarm before a full disk comes later"),
    ("disk.reserve_mib", _less, "less is kept for results when the disk is nearly full"),
    ("retention.images_h", _less, "images go sooner, and a study can't be read again without them"),
    ("retention.results_d", _less, "results go sooner"),
    ("retention.records_d", _less, "the records of who did what go sooner"),
)


def loosened(settings: Settings) -> list[str]:
    """Every setting that loosens security or a promise, compared with the defaults, a sentence each."""
    told = []
    for path, looser, consequence in _LOOSENED:
        value, default = _value(settings, path), keys()[path].default
        if looser(value, default):
            told.append(f"{path} = {as_toml(value)} (default {as_toml(default)}): {consequence}")
    told += [
        f"pacs '{pacs.name}': rejection_notes = false: what is withdrawn stays there"
        for pacs in settings.pacs
        if not pacs.rejection_notes
    ]
    told += [
        f"ehr '{ehr.name}': not_analysed = false: it is not told which studies could not be read"
        for ehr in settings.ehr
        if not ehr.not_analysed
    ]
    if "RESEARCH" not in settings.oru.service_text.upper():
        told.append(f"oru.service_text = {as_toml(settings.oru.service_text)}: the title no longer says RESEARCH")
    if not _is_loopback(settings.http.listen):
        told.append(f"http.listen = {as_toml(settings.http.listen)}: the status page can be seen from other machines")
    return told


def _unmeasured(settings: Settings) -> list[str]:
    """Names of the chain's entries that nobody measured; none of a chain that is damaged, which `check` says by itself."""
    with suppress(ConfigurationError):
        chain = chain_entries(settings.read.detector, models_folder(settings.paths.state))
        return [entry.name for entry in chain if entry.validation == "demonstration"]
    return []


def doubts(settings: Settings) -> list[str]:
    """What is allowed but looks forgotten, a sentence each: warnings of `check`, never a reason not to start."""
    told = []
    receive, delivery, disk, assembly = settings.receive, settings.delivery, settings.disk, settings.assembly
    if not receive.calling_ae_titles and not receive.any_calling_ae:
        told.append("receive.calling_ae_titles = []: nobody may send to the node; list the senders' AE titles")
    if not delivery.enabled:
        told.append("delivery.enabled = false: shadow mode, results are kept and shown, nothing leaves")
    elif not settings.pacs and not settings.ehr:
        told.append("delivery.enabled = true, and no [[pacs]] or [[ehr]] is there to send to")
    unmeasured = ", ".join(_unmeasured(settings))
    if delivery.enabled and unmeasured and not settings.site.allow_unvalidated:
        told.append(
            f"site.allow_unvalidated = false: read.detector = {settings.read.detector!r} reads with what was never measured "
            f"({unmeasured}), its results stay here"
        )
    if settings.oru.after and settings.oru.after_state == "committed":
        told.append(
            'oru.after_state = "committed": storage commitment is not asked for yet, so messages wait oru.wait_s_max'
        )
    if settings.ehr and not settings.site.assigning_authority:
        told.append("site.assigning_authority is empty: patients whose images name no issuer get no message")
    if disk.alarm_used >= disk.used_max:
        told.append("disk.alarm_used is not below disk.used_max: images are refused before the alarm")
    if disk.reserve_mib >= disk.free_mib_min:
        told.append("disk.reserve_mib is not below disk.free_mib_min: results have less room than it promises")
    if assembly.proof_quiet_s > assembly.quiet_s:
        told.append("assembly.proof_quiet_s is above assembly.quiet_s: proof never ends the waiting")
    if assembly.quiet_s > assembly.wait_s_max or assembly.aborted_quiet_s > assembly.wait_s_max:
        told.append("assembly.wait_s_max is below a quiet time: it ends the waiting first")
    return told


def digest(settings: Settings, sections: Iterable[str] = RESULT_SECTIONS) -> str:
    """SHA-256 (hex) over the named sections or `section.key`s, in any order, with defaults written out.

    Raises:
        KeyError: a name is neither.
    """
    tree = settings.model_dump(mode="json")
    wanted = {name: _within(tree, name) for name in sections}
    text = json.dumps(wanted, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _within(tree: Any, name: str) -> Any:
    section, _, key = name.partition(".")
    return tree[section][key] if key else tree[section]


def _value(settings: Settings, path: str) -> Any:
    section, _, key = path.partition(".")
    return getattr(getattr(settings, section), key)


def _is_loopback(listen: str) -> bool:
    host = listen.rpartition(":")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
