import io
import json
import logging
import re

import pytest

from litefs.logging import configure


@pytest.fixture
def lines():
    """Factory: configure the log with the given options, and read what is logged as lines."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()

    def start(**options):
        configure(stream=stream, **options)
        return lambda: stream.getvalue().splitlines()

    yield start
    root.handlers[:] = before
    root.setLevel(level)
    logging.getLogger("litefs").setLevel(logging.NOTSET)
    logging.captureWarnings(False)


log = logging.getLogger("litefs.somewhere")


def test_text(lines):
    read = lines()
    log.info("LiteFS mounted to: %s", "/litefs")
    log.warning("word")
    log.error('a "quoted" one\nand a line')
    log.debug("not shown")
    assert read() == [
        'level=INFO msg="LiteFS mounted to: /litefs"',
        "level=WARN msg=word",
        r'level=ERROR msg="a \"quoted\" one\nand a line"',
    ]


def test_timestamp_and_debug(lines):
    read = lines(timestamp=True, debug=True)
    log.debug("x")
    assert re.fullmatch(r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d level=DEBUG msg=x", read()[0])


def test_json(lines):
    read = lines(format="json")
    log.warning("été %d", 3)
    assert json.loads(read()[0]) == {"level": "WARN", "msg": "été 3"}


def test_exceptions(lines):
    read = lines()
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("failed")
    assert read()[0] == 'level=ERROR msg=failed error="ValueError: no"'
    assert read()[-1] == "ValueError: no"


def test_libraries_are_quiet(lines):
    read = lines(debug=True)
    logging.getLogger("hypercorn").info("x")
    logging.getLogger("hypercorn").warning("y")
    assert read() == ["level=WARN msg=y"]


@pytest.mark.parametrize(
    ("format", "shown"), [("text", ' ms=1.5 target="/a b"'), ("json", '"ms": 1.5, "target": "/a b"')]
)
def test_fields_of_a_record(lines, format, shown):
    read = lines(format=format)
    log.info("request", extra={"fields": {"ms": 1.5, "target": "/a b"}})
    assert shown in read()[0]
