"""One running node: its parts, put together, started in order and stopped in reverse."""

from litefs.node.node import Node

__all__ = ["Node"]
