"""What `init` writes can be used as it stands, and shows every setting there is."""

import re
from pathlib import Path

import pytest

from config.errors import ConfigurationError
from config.keys import keys
from config.load import load
from config.settings import Ehr, Pacs, Settings, Site
from config.template import render_page, render_template

DEFAULTS = Settings(site=Site(timezone="Europe/Zurich"))


def test_the_template_with_a_time_zone_gives_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(render_template("Europe/Zurich"))
    assert load(file, {}) == DEFAULTS


def test_the_template_as_it_is_asks_for_the_time_zone_alone(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(render_template())
    with pytest.raises(ConfigurationError) as caught:
        load(file, {})
    assert str(caught.value) == (
        f"{file}: 1 fault\n  site.timezone = '': no such time zone; names are those of IANA, as in Europe/Zurich"
    )


def test_every_setting_uncommented_gives_the_defaults_and_an_example_of_each_destination(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(re.sub(r"(?m)^#(?=\S)", "", render_template("Europe/Zurich")))
    settings = load(file, {})
    assert settings == DEFAULTS.model_copy(
        update={
            "pacs": (Pacs(name="pacs-main", ae_title="PACS", host="pacs.example.org", port=104),),
            "ehr": (Ehr(name="his-main", host="interfaces.example.org", port=2575),),
        }
    )


def test_the_template_has_every_key_once_with_an_explanation() -> None:
    lines = render_template().splitlines()
    shown = [line.lstrip("#").split(" = ")[0] for line in lines if re.match(r"#?[a-z_]+ = ", line)]
    assert shown == [key.name for key in keys().values()]
    assert max(map(len, (line for line in lines if line.startswith("# ")))) <= 100


@pytest.mark.parametrize("key", keys().values(), ids=lambda key: key.path)
def test_every_setting_explains_itself(key) -> None:  # type: ignore[no-untyped-def]
    assert key.description.endswith((".", ")"))
    if key.required:
        assert key.example is not None


def test_the_page_of_settings_is_what_the_code_says() -> None:
    page = Path(__file__).parents[3] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == render_page(), "python -m config.template --docs > docs/settings.md"
