"""How open a model is in each dimension of the European Open Source AI Index.

The index grades one member of a family, twelve dimensions each ``open``, ``partial`` or ``closed``; a dimension without
a grade was not graded. No number is made of them: one that is open in nothing but its weights and one that is closed
in nothing but its paper are two different things. ``types.openness.Level`` says what may be asked for.
Source: https://osai-index.eu/, CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmctl.files.decode import Table
from llmctl.types.model import Model, Openness
from llmctl.types.openness import DIMENSIONS, NEEDED, Level

ATTRIBUTION = (
    "European Open Source AI Index, https://osai-index.eu/, CC BY 4.0 (Liesenfeld & Dingemanse, FAccT 2024, "
    "doi:10.1145/3630106.3659005; data doi:10.5281/zenodo.15386042); mapped to the models here by llmctl"
)
GRADES = frozenset({"open", "partial", "closed"})
MATCHES = {
    "exact": "this very release was graded",
    "same_release_sibling": "another size of the same release was graded, not this one",
    "family_other_release": "another release of the family was graded, not this one",
    "family_derivative": "a relative of this model was graded, one that it derives from or a sibling, not this one",
}
"""How near the graded model is to the catalogue's, in words."""


def lacking(model: Model, level: Level) -> Mapping[str, str | None]:
    """The dimensions that ``model`` lacks for ``level``, with their grades (None: not graded); none if it is that open.
    A model that was not graded lacks all of them."""
    grades = model.openness.grades if model.openness else {}
    return {name: grades.get(name) for name in DIMENSIONS if name in NEEDED[level] and grades.get(name) != "open"}


def highest(model: Model) -> Level | None:
    """The most open level that ``model`` is of; None where it is of none, or was not graded."""
    return next((level for level in reversed(Level) if not lacking(model, level)), None)


def admits(model: Model, *, level: Level | None = None, licence: str | None = None) -> bool:
    """Whether a model is as open as ``level`` and under ``licence``: an SPDX identifier in any case, a LicenseRef with
    or without that word. None asks for nothing."""
    licensed = licence is None or (model.licence is not None and _plain(model.licence) == _plain(licence))
    return licensed and (level is None or not lacking(model, level))


def _plain(licence: str) -> str:
    return licence.strip().lower().removeprefix("licenseref-")


def entries(tables: Sequence[Table]) -> dict[str, Openness]:
    """A file's ``[[openness]]``, without the match, which is each model's own. Raises FieldError."""
    by_name = {}
    for table in tables:
        grades = table.text_map("grades")
        table.check(set(grades.values()) <= GRADES, "grades", "grades of " + ", ".join(sorted(GRADES)))
        table.check(grades.keys() <= DIMENSIONS.keys(), "grades", "by dimension: " + ", ".join(DIMENSIONS))
        name, graded_on, source = table.text("entry"), table.text("graded_on"), table.text("source")
        by_name[name] = Openness(name, graded_on, "", source, grades, table.day_or_none("date"))
        table.end()
    return by_name


def graded(link: Table | None, entries_of_file: Mapping[str, Openness]) -> Openness | None:
    """A model's ``openness``: the entry it points to, and how near what was graded is. Raises FieldError."""
    if link is None:
        return None
    name, match = link.text("entry"), link.text("match")
    link.check(name in entries_of_file, "entry", "an entry of this file's [[openness]]")
    link.check(match in MATCHES, "match", "one of " + ", ".join(MATCHES))
    link.end()
    entry = entries_of_file[name]
    return Openness(entry.entry, entry.graded_on, match, entry.source, entry.grades, entry.date)
