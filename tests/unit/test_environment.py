"""What a run ran on: packages, Python, and the code's commit with what differs from it."""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from perron.environment import Code, code_of, environment_of


def git(folder: Path, *words: str) -> str:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **who, **quiet},
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "system.py").write_text("one\n")
    (folder / "project").mkdir()
    (folder / "project" / "a.py").write_text("a\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_the_environment_names_python_and_every_package() -> None:
    found = environment_of()
    assert found["python"] == platform.python_version()
    assert str(found["platform"]).startswith(sys.platform)
    packages = found["packages"]
    assert isinstance(packages, list)
    assert packages == sorted(set(packages))
    names = {name.split("==")[0] for name in packages}
    assert {"numpy", "pyarrow", "scikit-learn"} <= names
    assert f"numpy=={metadata.version('numpy')}" in packages
    json.dumps(found)


def test_what_a_package_carries_inside_itself_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site-packages"
    (site / "mine-1.0.dist-info").mkdir(parents=True)
    (site / "ray" / "thirdparty_files" / "carried-2.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(site)])
    before = environment_of()
    assert before["packages"] == ["mine==1.0"]
    monkeypatch.setattr(sys, "path", [str(site / "ray" / "thirdparty_files"), *sys.path])  # as `import ray` does
    assert environment_of() == before


def test_a_clean_checkout_is_its_commit(repository: Path) -> None:
    assert code_of(repository) == Code(git(repository, "rev-parse", "HEAD"), None)
    assert code_of(repository / "project") == code_of(repository)


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_of(tmp_path / "nowhere") == Code(None, None)
    monkeypatch.setenv("PATH", "")
    assert code_of(tmp_path) == Code(None, None)


def test_before_the_first_commit_there_is_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert code_of(tmp_path) == Code(None, None)


def test_every_change_changes_the_digest_and_taking_it_back_restores_it(repository: Path) -> None:
    clean = code_of(repository)
    seen = {clean.dirty}

    def changed() -> None:
        code = code_of(repository)
        assert code.commit == clean.commit
        assert code == code_of(repository)
        assert code.dirty not in seen
        seen.add(code.dirty)

    (repository / "system.py").write_text("two\n")
    changed()
    git(repository, "add", "system.py")
    (repository / "system.py").write_text("three\n")
    changed()
    (repository / "new file é.py").write_text("1\n")
    changed()
    (repository / "new file é.py").write_text("2\n")
    changed()
    (repository / "project" / "deep").mkdir()
    (repository / "project" / "deep" / "b.py").write_bytes(b"\xff")
    changed()
    (repository / "project" / "a.py").unlink()
    changed()
    git(repository, "reset", "-q", "--hard")
    git(repository, "clean", "-fdq")
    assert code_of(repository) == clean


def test_what_git_ignores_is_no_change(repository: Path) -> None:
    (repository / "run.log").write_text("x")
    assert code_of(repository).dirty is None


def test_changes_beside_the_folder_are_no_changes_of_it(repository: Path) -> None:
    (repository / "system.py").write_text("two\n")
    (repository / "other.py").write_text("new\n")
    assert code_of(repository / "project").dirty is None
    (repository / "project" / "new.py").write_text("new\n")
    assert code_of(repository / "project").dirty is not None


def test_a_link_to_nowhere_is_a_change_and_no_error(repository: Path) -> None:
    (repository / "link").symlink_to(repository / "nowhere")
    assert code_of(repository).dirty is not None


def test_looking_leaves_the_repository_alone(repository: Path) -> None:
    (repository / "system.py").write_text("two\n")
    index = (repository / ".git" / "index").read_bytes()
    code_of(repository)
    assert (repository / ".git" / "index").read_bytes() == index
