"""TLS from PEM files: for the API, and for whoever asks another node's."""

from __future__ import annotations

import ssl

from litefs.errors import ConfigError


def server_context(certificate: str, key: str, client_ca: str = "") -> ssl.SSLContext:
    """TLS for the API.

    Args:
        certificate, key: files of this node.
        client_ca: file with the authorities one of which must have signed the certificate of a client; without it
            clients need none.

    Raises:
        ConfigError: a file is missing or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 or newer
    context.set_alpn_protocols(["h2", "http/1.1"])
    _load_own(context, certificate, key)
    if client_ca:
        _load_authorities(context, client_ca, "http.tls-client-ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(ca: str = "", certificate: str = "", key: str = "") -> ssl.SSLContext:
    """TLS towards a node: its certificate and its name are verified.

    Args:
        ca: file with the authorities that are trusted; the system's without it.
        certificate, key: files to show where the node asks for a certificate.

    Raises:
        ConfigError: a file is missing or not what it should be.
    """
    if ca:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks host names
        _load_authorities(context, ca, "http.tls-ca")
    else:
        context = ssl.create_default_context()
    if certificate:
        _load_own(context, certificate, key)
    return context


def _load_own(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        # The empty password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(certificate, key or None, password="")
    except (OSError, ssl.SSLError) as error:
        files = f"http.tls-cert {certificate} and http.tls-key {key}"
        hint = "both must be PEM without a password, and belong together"
        raise ConfigError(f"cannot use {files}: {error.strerror or error}", hint) from error


def _load_authorities(context: ssl.SSLContext, path: str, name: str) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        hint = "it must be PEM and hold at least one certificate"
        raise ConfigError(f"cannot use {name} {path}: {error.strerror or error}", hint) from error
