"""Every setting, frozen, with unit, default and reason.

The types and their sentences are in `values.py`, reading a file in `load.py`.
`Field(description=...)` is the comment that `dicom-node init` writes, and the text of docs/settings.md.
"""

from collections import Counter
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from config.values import (
    AeTitle,
    DatabaseUrl,
    Days,
    Folder,
    Hl7Text,
    Host,
    Line,
    Listen,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    Port,
    PositiveFloat,
    PositiveInt,
    Share,
    TimeZone,
    Word,
)


class Section(BaseModel):
    """A table of the configuration file: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Site(Section):
    """The hospital."""

    timezone: TimeZone = Field(
        description="IANA time zone of the site, for results of sources that name none.",
        examples=["Europe/Zurich"],
    )
    name: Line = Field(default="", max_length=64, description="Name of the hospital, for logs and the status page.")
    assigning_authority: Hl7Text = Field(
        default="",
        max_length=20,
        description="Assigning authority of patient IDs when the images name no Issuer of Patient ID (PID-3.4).",
    )
    allow_unvalidated: bool = Field(
        default=False,
        description="Let results of detectors that were never measured leave the node; they still say so.",
    )
    device_serial: Line = Field(
        default="",
        max_length=64,
        description="Serial number of this installation in results; empty: made once and kept in the state folder.",
    )


class Paths(Section):
    """Where things lie."""

    state: Folder = Field(
        default="/var/lib/dicom-node",
        description="Folder of the spool, the ledger and the models; mode 0700, on a local disk.",
    )


class DatabaseSettings(Section):
    """The ledger."""

    url: DatabaseUrl = Field(
        default="", description="SQLAlchemy URL of the ledger; empty: SQLite in paths.state. PostgreSQL comes later."
    )


class Receive(Section):
    """The C-STORE SCP."""

    ae_title: AeTitle = Field(
        default="DICOMNODE", description="Our AE title; a caller that calls another one is rejected."
    )
    host: Host = Field(default="0.0.0.0", description="Address to listen on.")
    port: Port = Field(default=11112, description="Port to listen on.")
    calling_ae_titles: tuple[AeTitle, ...] = Field(
        default=(), description="AE titles that may send to us. Empty: nobody may, and `check` says so."
    )
    any_calling_ae: bool = Field(default=False, description="Take any caller. Loosens security; for demonstrations.")
    any_called_ae: bool = Field(default=False, description="Take any called AE title. Loosens security.")
    associations_max: PositiveInt = Field(
        default=50, description="Associations at a time; above it a transient rejection."
    )
    pdu_bytes_max: PositiveInt = Field(default=131072, description="Largest PDU that we take, bytes.")
    network_timeout_s: PositiveFloat = Field(
        default=60, description="Silence on an association after which it is aborted, s."
    )
    object_mib_max: PositiveInt = Field(default=2048, description="Largest object that we take, MiB.")


class Index(Section):
    """From incoming files to the ledger."""

    poll_s: PositiveFloat = Field(default=0.2, description="Time between looks into spool/incoming, s.")
    batch_max: PositiveInt = Field(default=64, description="Files of one transaction.")
    header_timeout_s: PositiveFloat = Field(
        default=20, description="Time for reading one header before its child is killed, s."
    )


class Assembly(Section):
    """When a series is complete."""

    proof_quiet_s: PositiveFloat = Field(
        default=5,
        description="Quiet time after which a series without gaps whose associations all ended is complete, s.",
    )
    quiet_s: PositiveFloat = Field(default=60, description="Quiet time after which any series is complete, s.")
    aborted_quiet_s: PositiveFloat = Field(default=900, description="The same after an aborted association, s.")
    wait_s_max: PositiveFloat = Field(
        default=5400, description="Longest wait from the first slice or the last change, s."
    )
    sweep_s: PositiveFloat = Field(default=1, description="Time between sweeps, s.")


class StudySettings(Section):
    """When a study is complete, and how often it may be reported again."""

    quiet_s: PositiveFloat = Field(
        default=30, description="Quiet time after the last instance of any kind before the study is chosen from, s."
    )
    revisions_max: PositiveInt = Field(default=5, description="Results of one study; a further change holds it.")
    revision_h_max: PositiveFloat = Field(
        default=24, description="Hours after the first result in which a change makes a new one by itself."
    )


class Select(Section):
    """Which series are for us and can be read."""

    age_h_max: NonNegativeFloat = Field(
        default=72,
        description="Acquired longer ago than this when it comes here: prior or backlog, no report, h. 0: off.",
    )
    age_years_min: NonNegativeInt = Field(
        default=18, description="Youngest patient read, years (where the age is known)."
    )
    thickness_mm_max: PositiveFloat = Field(default=3.0, description="Thickest slices read, mm (+ 0.05).")
    stack_mm_min: PositiveFloat = Field(
        default=150, description="A shorter stack that nothing calls chest is not for us, mm."
    )
    gap: Literal["refuse", "partial"] = Field(
        default="refuse", description="What to do with a series that lacks slices inside."
    )
    for_processing: bool = Field(
        default=False,
        description="Read X-ray images For Processing too (detector values, without the maker's display).",
    )
    words_chest: tuple[Word, ...] = Field(
        default=("chest", "thorax", "thorac", "lung", "pulmo", "cxr"),
        description="Words that call a series or study chest.",
    )
    words_other: tuple[Word, ...] = Field(
        default=(
            "head",
            "brain",
            "skull",
            "neck",
            "sinus",
            "orbit",
            "dental",
            "knee",
            "ankle",
            "foot",
            "hand",
            "wrist",
            "elbow",
            "hip",
            "pelvis",
            "leg",
            "arm",
            "extremity",
            "lspine",
            "cspine",
        ),
        description="Words that name parts without lungs; whole words, any case.",
    )
    words_phantom: tuple[Word, ...] = Field(
        default=("phantom", "phantoms", "fantom", "catphan", "lungman"),
        description="Words that call the patient, series, study or scanner a phantom; whole words, any case.",
    )
    words_animal: tuple[Word, ...] = Field(
        default=("canine", "feline", "equine", "veterinary", "tierklinik", "tierarzt"),
        description="Words that call the patient an animal; whole words of descriptions and of the institution.",
    )
    phantoms: bool = Field(
        default=False,
        description="Read phantoms too; their results say so. For demonstrations and quality assurance.",
    )


class Read(Section):
    """The inference worker."""

    detector: Name = Field(default="nodule-net", description="Catalogue entry of the nodule detector.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where to compute.")
    attempts_max: PositiveInt = Field(
        default=3, description="Attempts at a series before it is quarantined, and at a study before it is held."
    )
    wall_s_max: PositiveFloat = Field(
        default=1800, description="Longest time for one series, s; then its processes are killed."
    )
    silence_s_max: PositiveFloat = Field(
        default=300, description="Longest time between two progress reports of the reader, s."
    )
    decoder_mib_max: PositiveInt = Field(default=6144, description="Memory limit of the decoder, MiB.")
    reader_mib_max: PositiveInt = Field(default=8192, description="Memory limit of the reader, MiB.")
    jobs_per_reader_max: PositiveInt = Field(default=200, description="Jobs after which the reader is started afresh.")
    lease_s: PositiveFloat = Field(
        default=60, description="Length of a lease on a study; renewed while the job runs, s."
    )
    backoff_s: PositiveFloat = Field(default=30, description="Wait before another attempt, s (doubled each time).")
    poll_s: PositiveFloat = Field(default=0.5, description="Time between looks for work, s.")
    nodules_max: PositiveInt = Field(
        default=30,
        description="Nodules of a result at most; with more, the highest ranked are shown and the result says so. "
        "A detector may name a lower number of its own.",
    )


class Guideline(Section):
    """A research line in results: what a guideline makes of the nodules. Words are whole words of study, series, protocol, order."""

    screening_words: tuple[Word, ...] = Field(
        default=(), description="Words that call a study lung cancer screening: Lung-RADS v2022. Empty: never."
    )
    first_words: tuple[Word, ...] = Field(
        default=(),
        description="Words that call a screening study the patient's first. Without them the earlier CT is named as missing.",
    )
    incidental_words: tuple[Word, ...] = Field(
        default=(), description="Words that call a study one of findings by chance: Fleischner 2017. Empty: never."
    )
    incidental_eligible: bool = Field(
        default=False,
        description="The site sees to it that patients of such studies have no known cancer and a sound immune system.",
    )


class Delivery(Section):
    """Sending results. Off until the site enables it (shadow mode)."""

    enabled: bool = Field(
        default=False, description="Send results. False: results are kept and shown, nothing leaves (shadow mode)."
    )
    intended_use: Line = Field(
        default="",
        max_length=200,
        description="What the site uses the results for, in its own words; required when enabled.",
    )
    attempts_max: PositiveInt = Field(
        default=8, description="Refusals or silences after sending before a delivery is dead."
    )
    age_h_max: PositiveFloat = Field(
        default=168, description="Age at which a delivery that never reached its destination is dead, h."
    )
    backoff_s_min: PositiveFloat = Field(default=5, description="First wait after a failed attempt, s.")
    backoff_s_max: PositiveFloat = Field(default=900, description="Longest wait between attempts, s.")
    timeout_s: PositiveFloat = Field(default=30, description="Longest wait for an answer of a destination, s.")
    lease_s: PositiveFloat = Field(default=120, description="Length of a lease on a delivery, s.")
    poll_s: PositiveFloat = Field(default=0.5, description="Time between looks for due deliveries, s.")


class Pacs(Section):
    """A DICOM destination; `[[pacs]]` may stand any number of times."""

    name: Name = Field(description="Our name for it, in commands and logs.", examples=["pacs-main"])
    ae_title: AeTitle = Field(description="Its AE title.", examples=["PACS"])
    host: Host = Field(description="Its address.", examples=["pacs.example.org"])
    port: Port = Field(description="Its port.", examples=[104])
    kinds: tuple[Literal["seg", "sr"], ...] = Field(
        default=("seg", "sr"), description="What it is sent, in this order."
    )
    rejection_notes: bool = Field(default=True, description="It takes IOCM rejection notes for what is withdrawn.")


class Ehr(Section):
    """An HL7 destination (MLLP); `[[ehr]]` may stand any number of times."""

    name: Name = Field(description="Our name for it.", examples=["his-main"])
    host: Host = Field(description="Its address.", examples=["interfaces.example.org"])
    port: Port = Field(description="Its port.", examples=[2575])
    receiving_application: Hl7Text = Field(default="EHR", max_length=20, description="MSH-5.")
    receiving_facility: Hl7Text = Field(default="HOSP", max_length=20, description="MSH-6.")
    charset: Literal["UNICODE UTF-8", "8859/1", "ASCII"] = Field(
        default="UNICODE UTF-8", description="MSH-18 and the bytes sent."
    )
    accession_in: Literal["OBR-18", "OBR-2", "OBR-19", "none"] = Field(
        default="OBR-18", description="Where the accession number goes."
    )
    not_analysed: bool = Field(default=True, description="Send 'not analysed because ...' messages.")


class Oru(Section):
    """What all ORU messages say, and what they wait for."""

    sending_application: Hl7Text = Field(default="DICOMNODE", max_length=20, description="MSH-3.")
    sending_facility: Hl7Text = Field(default="RADIOLOGY", max_length=20, description="MSH-4.")
    processing_id: Literal["P", "T", "D"] = Field(default="P", description="MSH-11: production, training or debugging.")
    service_code: Hl7Text = Field(default="AICHEST", max_length=20, description="OBR-4.1, a local code of our own.")
    service_text: Line = Field(
        default="AI chest analysis, RESEARCH - NOT FOR DIAGNOSIS", max_length=100, description="OBR-4.2."
    )
    after: tuple[Name, ...] = Field(
        default=(), description="Names of the [[pacs]] that must have the DICOM objects first."
    )
    after_state: Literal["sent", "committed"] = Field(default="sent", description="What counts as having them.")
    wait_s_max: PositiveFloat = Field(
        default=900, description="Longest wait for them; then the message goes all the same, with an alarm, s."
    )


class Disk(Section):
    """Limits before the disk is full."""

    free_mib_min: PositiveInt = Field(
        default=5120, description="Below this much free space C-STORE is answered A700H, MiB."
    )
    used_max: Share = Field(default=0.90, description="Above this share of the disk C-STORE is answered A700H.")
    alarm_used: Share = Field(default=0.80, description="Share of the disk from which an alarm is raised.")
    reserve_mib: PositiveInt = Field(default=512, description="Kept for our own results below free_mib_min, MiB.")


class Retention(Section):
    """How long things are kept."""

    images_h: PositiveFloat = Field(default=72, description="Images of a study after it is done, h.")
    results_d: Days = Field(default=30, description="Results after they were delivered, days.")
    records_d: Days = Field(default=400, description="Manifests, journal, events and tombstones, days.")


class Http(Section):
    """Readiness, metrics and the status page (later)."""

    listen: Listen = Field(default="127.0.0.1:8042", description="Address and port.")


class Log(Section):
    """Logs go to standard error, one line a move, without identifiers."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level shown.")


class Settings(Section):
    """All settings of a node."""

    site: Site
    paths: Paths = Paths()
    database: DatabaseSettings = DatabaseSettings()
    receive: Receive = Receive()
    index: Index = Index()
    assembly: Assembly = Assembly()
    study: StudySettings = StudySettings()
    select: Select = Select()
    read: Read = Read()
    guideline: Guideline = Guideline()
    delivery: Delivery = Delivery()
    pacs: tuple[Pacs, ...] = ()
    ehr: tuple[Ehr, ...] = ()
    oru: Oru = Oru()
    disk: Disk = Disk()
    retention: Retention = Retention()
    http: Http = Http()
    log: Log = Log()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        faults = contradictions(self)
        if faults:
            raise ValueError("\n".join(faults))
        return self


def contradictions(settings: Settings) -> list[str]:
    """What settings of different keys can't mean together, a sentence each."""
    faults = []
    if settings.delivery.enabled and not settings.delivery.intended_use:
        faults.append(
            "delivery.intended_use = '': needed when delivery.enabled is true; what the results are for, in own words"
        )
    destinations: tuple[Pacs | Ehr, ...] = (*settings.pacs, *settings.ehr)
    names = Counter(destination.name for destination in destinations if destination.name)
    faults += [f"name = '{name}' of [[pacs]] and [[ehr]]: stands {n} times" for name, n in names.items() if n > 1]
    faults += [
        f"pacs '{pacs.name}': kinds = {', '.join(pacs.kinds)}: each kind is sent once"
        for pacs in settings.pacs
        if len(set(pacs.kinds)) < len(pacs.kinds)
    ]
    archives = [pacs.name for pacs in settings.pacs]  # only they are sent DICOM objects
    faults += [
        f"oru.after = '{name}': no [[pacs]] is called so; there is {' or '.join(archives) or 'none'}"
        for name in settings.oru.after
        if name not in archives
    ]
    if settings.delivery.backoff_s_min > settings.delivery.backoff_s_max:
        faults.append(
            f"delivery.backoff_s_min = {settings.delivery.backoff_s_min:g}: more than delivery.backoff_s_max, "
            f"{settings.delivery.backoff_s_max:g}"
        )
    return faults
