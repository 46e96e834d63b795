"""The commands a node runs, and the signals that end both."""

from litefs.supervisor.child import ExecError, describe
from litefs.supervisor.command import Command, from_arguments, from_entry, from_line
from litefs.supervisor.policies import Policies
from litefs.supervisor.supervisor import Supervisor, say

__all__ = [
    "Command",
    "ExecError",
    "Policies",
    "Supervisor",
    "describe",
    "from_arguments",
    "from_entry",
    "from_line",
    "say",
]
