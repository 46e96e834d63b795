"""Authorities and certificates for tests, made by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import find_tool

KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"


@dataclass(frozen=True)
class Certificate:
    """PEM files of a certificate and its key."""

    cert: str
    key: str


class Authority:
    """Signs certificates; its own is `ca`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self.ca = str(folder / f"{name}.ca.pem")
        self._key = str(folder / f"{name}.ca.key")
        _openssl(f"req -x509 {KEY} -days 2 -subj /CN={name} -keyout {self._key} -out {self.ca}")

    def sign(self, name: str, alternatives: str = "DNS:localhost,IP:127.0.0.1") -> Certificate:
        """A certificate for a name and what else it goes by."""
        base = self._folder / f"{self._name}.{name}"
        request, cert, key, extra = (f"{base}.{suffix}" for suffix in ("csr", "pem", "key", "ext"))
        _openssl(f"req {KEY} -subj /CN={name} -keyout {key} -out {request}")
        Path(extra).write_text(f"subjectAltName={alternatives}\n")
        _openssl(f"x509 -req -in {request} -CA {self.ca} -CAkey {self._key} -days 2 -extfile {extra} -out {cert}")
        return Certificate(cert, key)


def _openssl(arguments: str) -> None:
    subprocess.run([find_tool("openssl", "it makes certificates"), *arguments.split()], check=True, capture_output=True)
