"""What llmctl knows of models, tasks and quantizations, and what a file of the user's own says of itself."""

from llmctl.catalogue.knowledge import Knowledge, load_knowledge, task_names
from llmctl.catalogue.local import from_file
from llmctl.catalogue.profiles import Catalogue, ProfileProblem, candidates, find, load

__all__ = [
    "Catalogue",
    "Knowledge",
    "ProfileProblem",
    "candidates",
    "find",
    "from_file",
    "load",
    "load_knowledge",
    "task_names",
]
