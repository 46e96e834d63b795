"""What a request handler raises becomes the error number that the application sees."""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import trio
from pyfuse3 import FUSEError

from litefs.errors import BadName, DatabaseNotFound, LitefsError
from litefs.mount.readloop import handing_over

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def request(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make a method the handler of a request; nothing but `FUSEError` and cancellation comes out of it."""

    @functools.wraps(method)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handing_over(method(*args, **kwargs))
        except OSError as error:
            if error.errno in (errno.EIO, errno.ENOSPC):
                log.warning("%s: %s", method.__name__, error)
            raise FUSEError(error.errno or errno.EIO) from None
        except DatabaseNotFound:
            raise FUSEError(errno.ENOENT) from None
        except BadName:
            raise FUSEError(errno.EINVAL) from None
        except KeyError:
            raise FUSEError(errno.ESTALE) from None
        except LitefsError as error:
            log.error("%s: %s", method.__name__, error)
            raise FUSEError(errno.EIO) from None
        except (FUSEError, trio.Cancelled):
            raise
        except Exception:
            log.exception("request %s failed", method.__name__)
            raise FUSEError(errno.EIO) from None

    return wrapper
