"""A site that errs in its configuration reads all of its errors at once, each with the right name beside it."""

import json
from pathlib import Path

import pytest

from config.errors import ConfigurationError
from config.keys import Key, Kind, as_toml, keys
from config.load import load
from config.settings import Settings

SITE = '[site]\ntimezone = "Europe/Zurich"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def loaded(file: Path, text: str, **environ: str) -> Settings:
    file.write_text(SITE + text, encoding="utf-8")
    return load(file, environ)


def report(file: Path, text: str, **environ: str) -> list[str]:
    """The lines of the report, without the first, which counts them."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(file, text, **environ)
    first, *lines = str(caught.value).split("\n  ")
    assert first == f"{file}: {'1 fault' if len(lines) == 1 else f'{len(lines)} faults'}"
    return lines


def test_a_file_with_the_time_zone_alone_gives_the_defaults(file: Path) -> None:
    assert loaded(file, "") == Settings(site={"timezone": "Europe/Zurich"})  # type: ignore[arg-type]


def test_the_environment_goes_before_the_file(file: Path) -> None:
    settings = loaded(
        file,
        "[receive]\nport = 104\n",
        DICOM_NODE__RECEIVE__PORT="11113",
        DICOM_NODE__RECEIVE__ANY_CALLING_AE="True",
        DICOM_NODE__RECEIVE__CALLING_AE_TITLES="PACS, CT1",
        DICOM_NODE__SELECT__WORDS_CHEST='["chest", "a, b"]',
        DICOM_NODE__INDEX__POLL_S="1",
        DICOM_NODE__SITE__NAME="12",
        DICOM_NODE__DISK='{"reserve_mib": 100}',
        HOME="/root",
    )
    assert settings.receive.port == 11113
    assert settings.receive.any_calling_ae is True
    assert settings.receive.calling_ae_titles == ("PACS", "CT1")
    assert settings.select.words_chest == ("chest", "a, b")
    assert settings.index.poll_s == 1.0
    assert settings.site.name == "12"
    assert settings.disk.reserve_mib == 100


def test_the_environment_alone_is_enough() -> None:
    assert load(None, {"DICOM_NODE__SITE__TIMEZONE": "UTC"}).site.timezone == "UTC"
    with pytest.raises(ConfigurationError, match=r"environment: 1 fault\n  site.timezone: missing"):
        load(None, {})


def test_entries_of_the_environment_have_their_place(file: Path) -> None:
    pacs = '[[pacs]]\nname = "one"\nae_title = "A"\nhost = "h"\nport = 104\n'
    settings = loaded(
        file,
        pacs,
        DICOM_NODE__PACS__1__HOST="other",
        DICOM_NODE__PACS__2__NAME="two",
        DICOM_NODE__PACS__2__AE_TITLE="B",
        DICOM_NODE__PACS__2__HOST="h2",
        DICOM_NODE__PACS__2__PORT="105",
    )
    assert [(p.name, p.ae_title, p.host, p.port) for p in settings.pacs] == [
        ("one", "A", "other", 104),
        ("two", "B", "h2", 105),
    ]
    entries = json.dumps([{"name": "n", "host": "h", "port": 2575}])
    assert [ehr.name for ehr in loaded(file, "", DICOM_NODE__EHR=entries).ehr] == ["n"]
    assert report(file, pacs, DICOM_NODE__PACS__0__HOST="x", DICOM_NODE__PACS__3__HOST="x") == [
        "DICOM_NODE__PACS__0__HOST: entries are counted from 1, without holes; [[pacs]] has 1",
        "DICOM_NODE__PACS__3__HOST: entries are counted from 1, without holes; [[pacs]] has 1",
    ]


def test_ten_entries_are_put_in_their_order() -> None:
    environ = {"DICOM_NODE__SITE__TIMEZONE": "UTC"}
    for place in range(1, 13):
        environ |= {
            f"DICOM_NODE__EHR__{place}__NAME": f"ehr{place}",
            f"DICOM_NODE__EHR__{place}__HOST": "h",
            f"DICOM_NODE__EHR__{place}__PORT": "1",
        }
    assert [ehr.name for ehr in load(None, environ).ehr] == [f"ehr{place}" for place in range(1, 13)]


def test_all_faults_come_in_one_report(file: Path) -> None:
    text = """
[assembly]
quiet_seconds = 60
[receive]
port = 70000
calling_ae_titles = ["PACS", "RADIOLOGY_PACS_MAIN"]
[delivery]
enabled = true
[[pacs]]
name = "pacs"
ae_title = "RADIOLOGY_PACS_MAIN"
host = "pacs"
port = "104"
[[ehr]]
name = "pacs"
host = "his"
port = 2575
[oru]
after = ["pacs-main"]
"""
    assert report(file, text, DICOM_NODE__INDEX__POLL_S="often", DICOM_NODE_RECEIVE_PORT="104") == [
        "DICOM_NODE_RECEIVE_PORT: no such variable; the nearest is DICOM_NODE__RECEIVE__PORT",
        "receive.port = 70000: a port is 1 to 65535",
        "receive.calling_ae_titles[2] = 'RADIOLOGY_PACS_MAIN': 19 characters, an AE title has 1 to 16 (PS3.5 6.2)",
        "index.poll_s = 'often' (from DICOM_NODE__INDEX__POLL_S): it is a text, and a number is needed",
        "assembly.quiet_seconds: no such setting; the nearest is assembly.quiet_s (seconds)",
        "pacs.ae_title = 'RADIOLOGY_PACS_MAIN': 19 characters, an AE title has 1 to 16 (PS3.5 6.2)",
        "pacs.port = '104': it is a text, and a whole number is needed",
        "delivery.intended_use = '': needed when delivery.enabled is true; what the results are for, in own words",
        "name = 'pacs' of [[pacs]] and [[ehr]]: stands 2 times",
        "oru.after = 'pacs-main': no [[pacs]] is called so; there is pacs",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[recieve]\nport = 1", "recieve: no such section; the nearest is receive"),
        ("[assembly]\nquiet = 1", "assembly.quiet: no such setting; the nearest is assembly.quiet_s (seconds)"),
        ("[study]\nage_h_max = 1", "study.age_h_max: no such setting; the nearest is select.age_h_max (hours)"),
        ("[log]\nxyzzy = 1", "log.xyzzy: no such setting; those of log are level"),
        (
            '[select]\ngap = "partail"',
            "select.gap = 'partail': one of refuse, partial is needed; the nearest is partial",
        ),
        ('[log]\nlevel = "all"', "log.level = 'all': one of debug, info, warning, error is needed"),
        ("[pacs]\nname = 'x'", "pacs = {'name': 'x'}: each destination begins with [[pacs]], also a single one"),
        ("[[receive]]\nport = 1", "receive = [{'port': 1}]: a table is needed: [receive] once"),
        ("[receive]\nport = 104.0", "receive.port = 104.0: it is a number, and a whole number is needed"),
        ("[receive]\nport = true", "receive.port = true: it is true or false, and a whole number is needed"),
        ("[receive]\nany_calling_ae = 1", "it is a whole number, and true or false is needed"),
        ('[receive]\ncalling_ae_titles = "PACS"', "it is a text, and a list of texts is needed"),
        ("[select]\nage_h_max = nan", "select.age_h_max = nan: no number"),
        ("[disk]\nused_max = inf", "disk.used_max = inf: a share is more than 0 and at most 1"),
        ('[oru]\nservice_code = "AN-AI-CHEST-SERVICE-CODE"', "24 characters, at most 20 are possible"),
        ('[read]\ndetector = "hesian-dot"', "read.detector = 'hesian-dot': no detector of this name in the catalogue"),
        ("[delivery]\nbackoff_s_min = 1000", "delivery.backoff_s_min = 1000: more than delivery.backoff_s_max, 900"),
    ],
)
def test_a_fault_names_key_value_and_the_nearest_right_one(file: Path, text: str, told: str) -> None:
    [line] = report(file, text)
    assert told in line


def test_a_key_above_all_sections_is_told_where_it_belongs(file: Path) -> None:
    file.write_text("quiet_s = 3\n" + SITE)
    with pytest.raises(
        ConfigurationError, match=r"quiet_s: no such section; assembly.quiet_s \(seconds\) or study.quiet_s"
    ):
        load(file, {})


def test_what_an_entry_lacks_is_told_with_an_example(file: Path) -> None:
    lines = report(file, '[[pacs]]\nname = "a"\nae_title = "A"\nhost = "h"\nport = 1\n[[pacs]]\nname = "b"\n')
    assert lines == [
        "pacs[2].ae_title: missing, and needed. Its AE title. As in ae_title = 'PACS'",
        "pacs[2].host: missing, and needed. Its address. As in host = 'pacs.example.org'",
        "pacs[2].port: missing, and needed. Its port. As in port = 104",
    ]


def test_a_missing_file_is_named_and_init_with_it(file: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(file, {})
    assert (
        str(caught.value) == f"{file}: there is no such configuration file; `dicom-node init` writes one with comments"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[site\n", "no TOML: Expected ']'"),
        (b"[site]\ntimezone = Europe\n", "line 2"),
        (b'[site]\nname = "Z\xfcrich"\n', "line 2 is not UTF-8"),
        (b"[receive]\n[receive]\n", "[receive] may stand once"),
        (b"[pacs]\n[pacs]\n", "each destination begins with [[pacs]]"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(file: Path, content: bytes, told: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(file, {})
    assert told in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_folder_in_place_of_the_file_is_an_error_of_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read"):
        load(tmp_path, {})


def test_a_byte_order_mark_of_an_editor_does_no_harm(file: Path) -> None:
    file.write_text(SITE, encoding="utf-8-sig")
    assert load(file, {}).site.timezone == "Europe/Zurich"


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("DICOM_NODE__RECEIVE__PROT", "DICOM_NODE__RECEIVE__PORT"),
        ("DICOM_NODE_RECEIVE__PORT", "DICOM_NODE__RECEIVE__PORT"),
        ("dicom_node__log__level", "DICOM_NODE__LOG__LEVEL"),
        ("DICOMNODE__LOG__LEVEL", "DICOM_NODE__LOG__LEVEL"),
        ("DICOM_NODE_CONFG", "DICOM_NODE_CONFIG"),
        ("DICOM_NODE__PACS__HOST", "DICOM_NODE__PACS__1__HOST"),
        ("DICOM_NODE__LOG__LEVEL__X", "DICOM_NODE__LOG__LEVEL"),
    ],
)
def test_a_mistyped_variable_is_a_fault_with_the_nearest_name(file: Path, variable: str, nearest: str) -> None:
    [line] = report(file, "", **{variable: "1"})
    assert line == f"{variable}: no such variable; the nearest is {nearest}"


def test_variables_of_other_use_are_let_alone(file: Path) -> None:
    loaded(
        file,
        "",
        DICOM_NODE_CONFIG="/etc/x",
        DICOM_NODE_SHARED="/data",
        DICOM_NODE_DIE_AT="renamed",
        DICOM_NODE_SERVICE_HOST="10.0.0.1",
        DICOM_NODE_PORT="tcp://10.0.0.1:11112",
        DICOM_NODE_PORT_11112_TCP_ADDR="10.0.0.1",
        DICOM_NODE_RECEIVER_SERVICE_PORT_DICOM="11112",
    )


def test_bytes_that_are_no_text_are_told(file: Path) -> None:
    assert report(file, "", DICOM_NODE__SITE__NAME="Z\udcfcrich") == ["DICOM_NODE__SITE__NAME: the value is not UTF-8"]


def test_no_report_speaks_the_language_of_a_library(file: Path) -> None:
    """Every key with a value of a wrong type, and every text that is too long: the words are ours."""
    wrong = {Kind.TEXT: 5, Kind.WHOLE_NUMBER: "x" * 300, Kind.NUMBER: "x", Kind.SWITCH: "x", Kind.TEXTS: [{}]}
    lines = [
        line
        for key in keys().values()
        if key.section not in ("site", "pacs", "ehr")
        for value in (wrong[key.kind], "x" * 300)
        if key.kind is not Kind.TEXT or key.choices or key.unit or value == 5
        for line in report(file, f"[{key.section}]\n{key.name} = {as_toml(value).replace('{}', '{a = 1}')}\n")
    ]
    assert len(lines) > 100
    for line in lines:
        assert not any(
            word in line.lower() for word in ("input should", "pydantic", "valid", "^[", "tuple", "dict", "_type")
        )
        assert " is needed" in line
        assert len(line) < 200


@pytest.mark.parametrize("key", [key for key in keys().values() if not key.repeated], ids=lambda key: key.path)
def test_every_setting_can_be_set_by_its_variable(key: Key) -> None:
    """Its default, written as a person would, changes nothing; so the variable is known and its text is understood."""
    value = key.example if key.required else key.default
    text = value if key.kind is Kind.TEXT else as_toml(value)
    variable = f"DICOM_NODE__{key.section}__{key.name}".upper()
    zone = {"DICOM_NODE__SITE__TIMEZONE": "Europe/Zurich"}
    assert load(None, zone | {variable: text}) == load(None, zone)
