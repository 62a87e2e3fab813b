"""What llmctl knows of models, tasks and quantizations, and what a file says of itself."""

from llmctl.catalogue.knowledge import Knowledge, load_knowledge, task_names
from llmctl.catalogue.local import from_file, from_header, licence
from llmctl.catalogue.profiles import Catalogue, ProfileProblem, candidates, find, load

__all__ = [
    "Catalogue",
    "Knowledge",
    "ProfileProblem",
    "candidates",
    "find",
    "from_file",
    "from_header",
    "licence",
    "load",
    "load_knowledge",
    "task_names",
]
