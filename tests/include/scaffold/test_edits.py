"""Insertions keep what is there, and refuse what they cannot be sure of."""

import pytest
import yaml

from include.scaffold.edits import append_source, insert
from include.scaffold.names import ScaffoldError
from include.settings import ROOT


def test_elements_are_added_to_what_a_name_is_assigned() -> None:
    source = 'A = (\n    "one",\n)\nB: dict[str, int] = {\n    "x": 1,\n}\n'
    assert insert(source, "A", '"two",', "f.py") == source.replace('"one",\n', '"one",\n    "two",\n')
    assert insert(source, "B", '"y": 2,', "f.py") == source.replace('"x": 1,\n', '"x": 1,\n    "y": 2,\n')


def test_a_comprehension_is_added_to_where_it_goes_through() -> None:
    path = ROOT / "include/sources/saas/streams.py"
    changed = insert(path.read_text(), "STREAMS", '_table("refunds", ("refund_id",), subject=COMPANY),', "streams.py")
    names: dict = {}
    exec(compile(changed, "streams.py", "exec"), names)
    assert list(names["STREAMS"])[-1] == "refunds"
    assert len(changed.splitlines()) == len(path.read_text().splitlines()) + 1


@pytest.mark.parametrize(
    "source",
    [
        "A = ()\n",
        'A = ("one",)\n',
        'B = (\n    "one",\n)\n',
        "A = make(\n    1,\n)\n",
        'A = (\n    "one"\n)\n',  # no comma: what is added would join the text
    ],
)
def test_what_cannot_be_added_to_is_said_with_what_to_add(source: str) -> None:
    with pytest.raises(ScaffoldError, match=r'f.py assigns no list.*Nothing was written.*\n"two",'):
        insert(source, "A", '"two",', "f.py")


def test_a_table_is_added_at_the_end_of_a_sources_file() -> None:
    path = ROOT / "dbt/models/bronze/saas/_saas__sources.yml"
    before = yaml.safe_load(path.read_text())["sources"][0]["tables"]
    changed = append_source(path.read_text(), "- name: refunds\n  identifier: saas_refunds\n", str(path))
    assert changed.startswith(path.read_text())
    assert yaml.safe_load(changed)["sources"][0]["tables"] == [
        *before,
        {"name": "refunds", "identifier": "saas_refunds"},
    ]
    with pytest.raises(ScaffoldError, match="does not end with the tables of one source"):
        append_source(f"{path.read_text()}\nexposures: []\n", "- name: refunds\n", "sources.yml")
