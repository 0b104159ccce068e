"""Files that are derived: YAML that reads back, and people's changes that stay."""

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from perron.errors import DeclarationError, SourceError
from perron.ship.files import MANIFEST, write_files
from perron.ship.grafana import board
from perron.ship.prometheus import ServiceLimits, prometheus_files
from perron.ship.yaml import to_yaml

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    [
        "",
        "yes",
        "NO",
        "null",
        "1",
        "1.5",
        "a: b",
        "# x",
        "- x",
        "{{ $value }}",
        "a b",
        "é",
        "\x7f",
        "\u2028",
        "~",
        "12:30",
    ]
)
PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=12
)


class Loader(yaml.SafeLoader):
    """PyYAML takes `1e-05` for text, which YAML 1.2 and Go's parser don't: the one place where it is told otherwise."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", __import__("re").compile(r"-?\d+(\.\d+)?[eE][-+]?\d+$"), list("-0123456789")
)


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_yaml_reads_back_as_what_was_written(value: dict[str, Any]) -> None:
    assert yaml.load(to_yaml(value, head="a\nb"), Loader) == value


def test_files_are_written_and_then_current(tmp_path: Path) -> None:
    assert write_files(tmp_path / "out", {"a/b.yml": "x\n", "c": "y\n"}) == {"a/b.yml": "written", "c": "written"}
    assert write_files(tmp_path / "out", {"a/b.yml": "x\n", "c": "z\n"}, is_check=True) == {
        "a/b.yml": "current",
        "c": "stale",
    }
    assert write_files(tmp_path / "out", {"a/b.yml": "x\n", "c": "z\n"}) == {"a/b.yml": "current", "c": "written"}
    assert stat.S_IMODE((tmp_path / "out" / "c").stat().st_mode) == 0o644


def test_what_a_person_changed_stays_until_it_is_forced(tmp_path: Path) -> None:
    write_files(tmp_path, {"a": "1", "b": "1"})
    (tmp_path / "a").write_text("mine")
    assert write_files(tmp_path, {"a": "2", "b": "2"}) == {"a": "changed", "b": "written"}
    assert (tmp_path / "a").read_text() == "mine"
    assert write_files(tmp_path, {"a": "2", "b": "2"}, force=True) == {"a": "written", "b": "current"}


@pytest.mark.parametrize("manifest", [None, "{", "[]", '{"files": 1}', '{"format": 1, "files": {"a": 5}}'])
def test_a_file_that_was_there_before_or_whose_record_is_lost_is_a_persons(
    tmp_path: Path, manifest: str | None
) -> None:
    (tmp_path / "a").write_text("mine")
    if manifest is not None:
        (tmp_path / MANIFEST).write_text(manifest)
    assert write_files(tmp_path, {"a": "1"}) == {"a": "changed"}


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(SourceError, match="Can't"):
        write_files(tmp_path / "out", {"a": "1"})


@pytest.mark.parametrize("target", ["127.0.0.1:8000", "ftp://x", "http://", "http://x/metrics", "http://u:p@x"])
def test_a_target_that_is_no_server_is_refused(target: str) -> None:
    with pytest.raises(DeclarationError, match="give a server such as"):
        prometheus_files(["m"], targets=[target])
    with pytest.raises(DeclarationError, match="one scheme"):
        prometheus_files(["m"], targets=["http://a", "https://b"])
    with pytest.raises(DeclarationError, match="no name"):
        prometheus_files(["m"], token_file=" ")


@pytest.mark.parametrize(
    "limits",
    [
        {"max_error_share": 0},
        {"availability": 1},
        {"max_p99_ms": -1},
        {"max_p99_ms": float("nan")},
        {"least_drift_severity": 4},
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match=next(iter(limits))):
        ServiceLimits(**limits)


def test_the_boards_panels_have_ids_and_places_of_their_own() -> None:
    found = board("houses")
    assert found["schemaVersion"] >= 36
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 20
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"] and panel["description"] and panel["datasource"]["uid"] == "perron-prometheus"
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
