"""Revision and differences of a source tree."""

import subprocess

import pytest

from alf.utils import git_utils


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (tmp_path / "file.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    return tmp_path, git


def test_revision_is_the_commit(repository):
    path, git = repository
    assert git_utils.get_revision(str(path)) == git("rev-parse", "HEAD").strip()
    assert len(git_utils.get_revision(str(path))) == 40


def test_diff_shows_staged_and_unstaged_changes(repository):
    path, git = repository
    assert git_utils.get_diff(str(path)) == ""
    (path / "file.py").write_text("a = 2\n")
    git("add", ".")
    (path / "file.py").write_text("a = 2\nb = 'é'\n")
    diff = git_utils.get_diff(str(path))
    assert "-a = 1" in diff and "+a = 2" in diff and "+b = 'é'" in diff


@pytest.mark.parametrize("function", [git_utils.get_revision, git_utils.get_diff])
def test_no_repository_no_directory_and_no_git_give_nothing(function, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert function(str(tmp_path)) == ""
    assert function(str(tmp_path / "nothing")) == ""
    monkeypatch.setenv("PATH", "")
    assert function(str(tmp_path)) == ""
