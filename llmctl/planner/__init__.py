"""Plans which model to run with which settings: where it goes, how much memory it takes, how fast it is."""

from llmctl.planner.choose import plan
from llmctl.planner.judge import Allocations

__all__ = ["Allocations", "plan"]
