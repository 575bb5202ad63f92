from pathlib import Path

import pytest

from include.errors import SetupError
from include.local.nightscout import NightscoutSite, serve
from include.sources.nightscout.sites import Site, read_sites


def sites_file(folder: Path, text: str) -> Path:
    path = folder / "sites.yaml"
    path.write_text(text)
    return path


def test_sites_file_is_read_with_defaults(tmp_path: Path) -> None:
    path = sites_file(
        tmp_path,
        """
sites:
  - site: my-own
    time_zone: Europe/Berlin
    units: mmol/l
  - {site: "2133-004", time_zone: UTC, connection_id: shared, optional: true, url: "https://ns.example.org"}
""",
    )
    assert read_sites(path) == (
        Site("my-own", "Europe/Berlin", "mmol/l", "nightscout_my_own"),
        Site("2133-004", "UTC", "mg/dl", "shared", optional=True, url="https://ns.example.org"),
    )


def test_sites_file_of_the_demo_is_read(tmp_path: Path) -> None:
    with serve([NightscoutSite("amber", time_zone="Australia/Adelaide", units="mmol/l")]) as server:
        text = server.sites_yaml()
    assert read_sites(sites_file(tmp_path, text)) == (Site("amber", "Australia/Adelaide", "mmol/l"),)


def test_missing_file_says_which_setting_names_it(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="LAKE_NIGHTSCOUT_SITES"):
        read_sites(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("sites: []", "lists no site"),
        ("sites: [a", "is not YAML"),
        ("- site: a", "one key, 'sites'"),
        ("sites: [{site: a, time_zone: UTC}]\nmore: 1", "one key, 'sites'"),
        ("sites: [a]", "Entry 1 .* is not a list of 'key: value'"),
        ("sites: [{time_zone: UTC}]", "Entry 1 .* lacks site"),
        ("sites: [{site: a}]", "lacks time_zone"),
        ("sites: [{site: a, time_zone: UTC, token: x}]", "unknown key token"),
        ("sites: [{site: A b, time_zone: UTC}]", "Site id 'A b'"),
        ("sites: [{site: 2133, time_zone: UTC}]", "Site id 2133 must be text"),
        ("sites: [{site: a, time_zone: Mars/Olympus}]", "time zone 'Mars/Olympus'; expected an IANA name"),
        ("sites: [{site: a, time_zone: ../etc/passwd}]", "expected an IANA name"),
        ("sites: [{site: a, time_zone: 1}]", "expected an IANA name"),
        ("sites: [{site: a, time_zone: UTC, units: mmol}]", "units 'mmol'; expected mg/dl or mmol/l"),
        ("sites: [{site: a, time_zone: UTC, optional: perhaps}]", "expected true or false"),
        ("sites: [{site: a, time_zone: UTC}, {site: a, time_zone: UTC}]", "lists a more than once"),
    ],
)
def test_wrong_sites_file_fails_with_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        read_sites(sites_file(tmp_path, text))
