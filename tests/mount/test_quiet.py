"""What pyfuse3 says of answers that nobody waits for."""

from __future__ import annotations

import logging

import pytest

from litefs.mount import quiet


@pytest.mark.parametrize(
    ("message", "args", "told"),
    [
        ("fuse_release(): fuse_reply_* failed with %s", ("No such file or directory",), False),
        ("fuse_release(): fuse_reply_* failed with %s", ("Transport endpoint is not connected",), False),
        ("fuse_release(): fuse_reply_* failed with %s", ("Input/output error",), True),
        ("fuse_read(): fuse_reply_* failed with %s", ("No such file or directory",), True),
        ("something else", (), True),
    ],
)
def test_only_the_late_release_is_silent(
    caplog: pytest.LogCaptureFixture, message: str, args: tuple[str, ...], told: bool
) -> None:
    for _ in range(2):
        quiet.install()
    log = logging.getLogger("pyfuse3")
    assert log.filters.count(quiet._wanted) == 1
    try:
        log.error(message, *args)
    finally:
        log.removeFilter(quiet._wanted)
    assert bool(caplog.records) is told
