"""The commands a node runs, and the signals that end both."""

from litefs.supervisor.child import Child, ExecError, describe
from litefs.supervisor.command import Command, from_arguments, from_line
from litefs.supervisor.supervisor import Supervisor, say

__all__ = ["Child", "Command", "ExecError", "Supervisor", "describe", "from_arguments", "from_line", "say"]
