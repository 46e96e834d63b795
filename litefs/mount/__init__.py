"""The FUSE mount."""

from litefs.mount.mount import Mount, Options

__all__ = ["Mount", "Options"]
