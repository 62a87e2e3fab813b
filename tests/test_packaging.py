"""What pyproject.toml says of the package. `tests/bench/dependencies.py` builds and installs it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
STUBS = re.compile(r"types-|llmctl\[")


def test_what_goes_into_the_distributions_is_there() -> None:
    build = PROJECT["tool"]["hatch"]["build"]["targets"]
    wheel, sdist = build["wheel"], build["sdist"]
    listed = [*wheel["packages"], *wheel["force-include"], *wheel["shared-data"], *sdist["include"]]
    assert [name for name in listed if not (ROOT / name).exists()] == []


def test_every_dependency_has_a_lowest_version() -> None:
    project = PROJECT["project"]
    lines = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    assert [line for line in lines if ">=" not in line and not STUBS.match(line)] == []


def test_the_completions_that_are_installed_are_named_as_shells_look_for_them() -> None:
    places = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert places["completions/llmctl.bash"].endswith("bash-completion/completions/llmctl")
    assert places["completions/_llmctl"].endswith("site-functions/_llmctl")
    assert places["docs/llmctl.1"] == "share/man/man1/llmctl.1"
