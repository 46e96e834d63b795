import socket

import pytest

from litefs.systemd import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_notify(tmp_path, monkeypatch, abstract):
    name = f"@litefs-{tmp_path}" if abstract else str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1) if abstract else name)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        assert notify(READY="1", STATUS="primary")
        assert manager.recv(100) == b"READY=1\nSTATUS=primary"


def test_no_service_manager(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY="1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/no/such/socket")
    assert not notify(READY="1")
