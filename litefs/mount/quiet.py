"""One line of pyfuse3's that is no error: nobody waits any more for the answer to a closed file.

When the mount goes while a program closes its file, the kernel drops the request and takes no answer to it. The file is
released here all the same. Every other answer that fails is told of as before.
"""

from __future__ import annotations

import errno
import logging
import os

_MESSAGE = "fuse_release(): fuse_reply_* failed with %s"
_GONE = frozenset((os.strerror(code),) for code in (errno.ENOENT, errno.ENOTCONN))


def _wanted(record: logging.LogRecord) -> bool:
    return record.msg != _MESSAGE or record.args not in _GONE


def install() -> None:
    """Have pyfuse3 keep it to itself; any number of times."""
    logging.getLogger("pyfuse3").addFilter(_wanted)
