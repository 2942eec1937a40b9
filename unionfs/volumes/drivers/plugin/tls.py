"""The encryption between us and a plugin that listens on a network address."""

from __future__ import annotations

import ssl

from unionfs.volumes.drivers.plugin.discovery import Plugin, TlsFiles
from unionfs.volumes.drivers.plugin.errors import PluginError


def tls_context(plugin: Plugin, files: TlsFiles) -> ssl.SSLContext:
    """What a connection to ``plugin`` is encrypted with.

    As docker's client (github.com/docker/go-connections, tlsconfig): TLS 1.2 or later; the authorities of ``CAFile`` are trusted
    besides those of the system.

    Raises:
        PluginError: a file is not there or holds something else.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.skips_verification:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    current = files.ca
    try:
        if files.ca:
            context.load_verify_locations(files.ca)
        if files.certificate:
            current = f"{files.certificate}, {files.key}"
            # A key with a passphrase would be asked for on the terminal.
            context.load_cert_chain(files.certificate, files.key, password=_no_passphrase)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise PluginError(
            plugin.name, f"TLS: {current}: {error}", f"give PEM files without passphrases in {plugin.source}"
        ) from error
    return context


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")
