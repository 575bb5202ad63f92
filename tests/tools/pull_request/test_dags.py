"""DAGs and tasks that differ between two parses."""

import json
import os
import subprocess
import sys
from pathlib import Path

from include.settings import ROOT
from tools.pull_request.dags import DagChange, compare


def dag(tags: tuple[str, ...] = ("daily",), **tasks: dict) -> dict:
    return {"properties": {"tags": list(tags), "doc_md": "### One\nline"}, "tasks": tasks}


def test_the_same_dags_do_not_differ() -> None:
    one = {"a": dag(load={"pool": "p"})}
    assert compare(one, json.loads(json.dumps(one))) == []


def test_tasks_added_changed_and_gone_are_named_with_what_changed() -> None:
    before = {"a": dag(load={"pool": "p", "downstream_task_ids": ["old"]}, old={"retries": 2})}
    after = {"a": dag(load={"pool": "q", "downstream_task_ids": ["new"]}, new={"retries": 2})}
    assert compare(before, after) == [
        DagChange(
            "a",
            "changed",
            (),
            (("load", "downstream_task_ids: +new, -old; pool: p → q"), ("new", "added"), ("old", "gone")),
        )
    ]


def test_what_changed_of_a_dag_itself_is_short() -> None:
    after = dag(("daily", "new")) | {"properties": {"tags": ["daily", "new"], "doc_md": "### Two\nlines"}}
    assert compare({"a": dag()}, {"a": after}) == [DagChange("a", "changed", ("doc_md", "tags: +new"), ())]


def test_a_dag_that_comes_or_goes_is_named_with_its_tasks() -> None:
    one = {"a": dag(load={"pool": "p"})}
    assert compare({}, one) == [DagChange("a", "added", (), (("load", "added"),))]
    assert compare(one, {}) == [DagChange("a", "gone", (), (("load", "gone"),))]


def test_the_parse_of_this_tree_tells_domains_streams_and_times(manifest: Path, tmp_path: Path) -> None:
    target = tmp_path / "dags.json"
    command = [sys.executable, "-m", "tools.pull_request.parse", str(target)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"AIRFLOW_HOME": str(tmp_path)}, check=True, capture_output=True)
    found = json.loads(target.read_text())
    assert found["errors"] == {}
    daily = found["dags"]["nightscout_daily"]
    assert (daily["file"], daily["domain"]) == ("dags/nightscout_daily.py", "nightscout")
    assert daily["streams"] == ["entries", "treatments", "devicestatus", "profile"]
    assert found["dags"]["lake_backup"]["domain"] is None
    assert 0 < found["seconds"]["dags/nightscout_daily.py"] < 30
    assert "include/orchestration/tasks.py" in found["modules"]
    assert str(ROOT) not in target.read_text()
