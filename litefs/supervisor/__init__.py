"""The commands a node runs, and the signals that end both."""

from litefs.supervisor.child import Child, ExecError
from litefs.supervisor.command import Command, from_arguments, from_line
from litefs.supervisor.supervisor import Supervisor, say

__all__ = ["Child", "Command", "ExecError", "Supervisor", "from_arguments", "from_line", "say"]
