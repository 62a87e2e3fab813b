"""What decides how far a prompt may go: the user's policy, a task's, a project's, and the paths that are private."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmctl import paths, settings
from llmctl.errors import ConfigError, PolicyError
from llmctl.settings import Settings
from llmctl.types.listener import SilentListener
from llmctl.workspace.configuration import load
from llmctl.workspace.private_paths import is_private

OFFICE_TABLE = '[endpoints.office]\nurl = "https://llm.example.internal/v1"\nmodel = "m"\n'


@pytest.mark.parametrize(
    ("user", "project", "variable", "task", "expected"),
    [
        ("", "", None, None, "prefer-local"),
        ('policy = "prefer-remote"', "", None, None, "prefer-remote"),
        ('policy = "prefer-remote"', 'policy = "local-only"', None, None, "local-only"),
        ('policy = "local-only"', 'policy = "prefer-local"', None, None, "local-only"),
        ('policy = "remote-only"', 'policy = "prefer-local"', None, None, "prefer-local"),
        ("", 'policy = "local-only"', "remote-only", None, "local-only"),
        ("", "", "remote-only", None, "remote-only"),
        ('policies = {code = "remote-only"}', "", None, "code", "remote-only"),
        ('policies = {code = "remote-only"}', "", None, "chat", "prefer-local"),
        ('policies = {chat = "local-only"}', "", None, None, "local-only"),
        ('policies = {code = "remote-only"}', 'policy = "local-only"', None, "code", "local-only"),
        ('policies = {code = "remote-only"}', 'task = "code"', None, None, "prefer-local"),
        ('policies = {code = "local-only"}', 'task = "code"', None, None, "local-only"),
        ('task = "code"\npolicies = {code = "remote-only"}', "", None, None, "remote-only"),
        ('policies = {code = "remote-only"}', "", "local-only", "code", "local-only"),
    ],
)
def test_the_policy_of_a_prompt(
    user: str,
    project: str,
    variable: str | None,
    task: str | None,
    expected: str,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text(f"{user}\n{OFFICE_TABLE}")
    (tmp_path / "llmctl.toml").write_text(project)
    if variable is not None:
        monkeypatch.setenv("LLMCTL_POLICY", variable)
    loaded = settings.load(tmp_path)
    assert loaded.for_task(task).policy == expected
    assert loaded.project is None or set(loaded.project.values) == {"task"}, "to be stricter makes nothing leave"
    if expected == "local-only":
        with pytest.raises(PolicyError):
            loaded.for_task(task).for_remote()
    else:
        assert loaded.for_task(task).for_remote().for_task("code").policy == "remote-only"


@pytest.mark.parametrize(
    ("user", "project", "says"),
    [
        ('policies = "local-only"', "", "policies must be a table"),
        ('policies = {code = "never"}', "", "policies.code is 'never', it must be one of local-only"),
        ("", 'policy = "never"', "llmctl.toml: policy is 'never'"),
        ("", 'policy = "prefer-remote"', "policy can't be set by a project file to prefer-remote"),
        ("", "private_paths = [1]", "private_paths is [1], it must be a list of files and folders"),
        ('private_paths = ["~/x", ""]', "", "it must be a list of files and folders"),
    ],
)
def test_policies_that_are_none(user: str, project: str, says: str, home: Path, tmp_path: Path) -> None:
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text(user)
    (tmp_path / "llmctl.toml").write_text(project)
    with pytest.raises(ConfigError, match=re.escape(says)):
        settings.load(tmp_path)


def test_private_paths_of_user_and_project(home: Path, tmp_path: Path) -> None:
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text('private_paths = ["~/diary", "/srv/clients"]')
    (tmp_path / "llmctl.toml").write_text('private_paths = ["secrets"]')
    places = settings.load(tmp_path).private_paths
    assert places == (Path.home() / "diary", Path("/srv/clients"), tmp_path / "secrets")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A private folder and a private file, links to both, and what lies beside them."""
    for name in ("secret/deep", "open", "secrets"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("secret/deep/plan.md", "open/notes.md", "secrets/not.md", "one.md"):
        (tmp_path / name).write_text("x")
    (tmp_path / "open/link.md").symlink_to(tmp_path / "secret/deep/plan.md")
    (tmp_path / "secret/to-open.md").symlink_to(tmp_path / "open/notes.md")
    (tmp_path / "way").symlink_to(tmp_path / "secret")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("secret/deep/plan.md", True),
        ("open/link.md", True),
        ("secret/to-open.md", True),
        ("way/deep/plan.md", True),
        ("open/../secret/deep/plan.md", True),
        ("one.md", True),
        ("open/notes.md", False),
        ("secrets/not.md", False),
        ("secret/../open/notes.md", False),
    ],
)
@pytest.mark.parametrize("by", ["name", "link", "from-here"])
def test_private_paths(file: str, expected: bool, by: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = files / ("way" if by == "link" else "secret")
    made = paths_settings(root, files / "one.md")
    given = str(files / file)
    if by == "from-here":
        monkeypatch.chdir(files)
        given = file
    assert is_private(SilentListener(), made, [str(files / "open/notes.md"), given]) is expected


def paths_settings(*private: Path) -> Settings:
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text(f"private_paths = {[str(path) for path in private]}")
    return settings.load()


class Warned(SilentListener):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_a_policy_for_a_task_that_there_is_not() -> None:
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text('policies = {cod = "local-only", code = "local-only"}')
    listener = Warned()
    load(listener)
    assert listener.warnings == [
        f"{paths.config_file()}: policies names a task that there is not, cod; did you mean code?"
    ]
