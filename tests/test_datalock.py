import os
import subprocess
import sys

import pytest

from litefs.datalock import DirectoryInUse, locked
from litefs.errors import StoreError


def test_only_one(tmp_path):
    path = tmp_path / "made" / "data"
    used = pytest.raises(DirectoryInUse, match=f"data directory {path} is in use by process {os.getpid()}")
    with locked(path), used, locked(path):
        pass
    with locked(path):
        pass


def test_not_inherited_by_commands(tmp_path):
    with locked(tmp_path):
        code = "print('up', flush=True); input()"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        child = subprocess.Popen([sys.executable, "-c", code], close_fds=False, **pipes)
    try:
        assert child.stdout.readline() == b"up\n"  # before that it may still be on its way into exec
        with locked(tmp_path):
            pass
    finally:
        child.communicate(b"\n")


def test_unusable_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot use data directory"), locked(tmp_path / "file"):
        pass
