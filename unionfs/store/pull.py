"""Pulling images through skopeo, which knows registries, their credentials and their formats."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unionfs.store.errors import StoreError
from unionfs.store.images import Image
from unionfs.store.progress import Progress
from unionfs.store.reference import Reference, parse_reference
from unionfs.store.sources.archive import import_image
from unionfs.store.staging import staged
from unionfs.store.store import Store

# containers-transports(5).  A registry with a port, host:5000/name, has none of these words before its colon.
_TRANSPORTS = (
    "docker",
    "oci",
    "oci-archive",
    "docker-archive",
    "dir",
    "containers-storage",
    "docker-daemon",
    "ostree",
    "sif",
    "tarball",
)


class RegistryAccess(NamedTuple):
    """How a registry is talked to: whether over TLS with a certificate that can be trusted, and the file with credentials, as
    skopeo login writes it (its own place where None is given; containers-auth.json(5))."""

    tls_verify: bool = True
    authfile: Path | None = None

    def arguments(self) -> list[str]:
        """For skopeo copy."""
        found = [] if self.tls_verify else ["--src-tls-verify=false"]
        return [*found, f"--src-authfile={self.authfile}"] if self.authfile else found


def source_of(reference: str) -> str:
    """What skopeo calls it: with its transport, ``docker`` where it has none."""
    return reference if reference.partition(":")[0] in _TRANSPORTS else f"docker://{reference}"


def name_of(reference: str) -> Reference:
    """What an image that is pulled from a registry is called here.

    Raises:
        StoreError: its reference makes no name (it has a digest, or another transport).
    """
    try:
        return parse_reference(reference.removeprefix("docker://"))
    except StoreError as error:
        new = StoreError(reference, "makes no name for an image here", f"give one: unionfs image pull {reference} NAME[:TAG]")
        new.exit_status = 2
        raise new from error


def pull_image(
    store: Store,
    reference: str,
    name: Reference | None,
    progress: Progress | None = None,
    *,
    access: RegistryAccess | None = None,
    show: bool = False,
) -> Image:
    """Fetch ``reference`` (as podman pull has them; other transports of skopeo's too) and import it under ``name``, its own
    where None is given.  ``show``: let skopeo draw its progress on the terminal.

    Raises:
        StoreError: skopeo is missing or failed (its last words are in the error), or the import failed.
        OSError: the store cannot be written.
    """
    if name is None:
        name = name_of(reference)
    program = shutil.which("skopeo")
    if program is None:
        raise StoreError("skopeo", "not installed, and pulling goes through it", "install it (apt-get install skopeo)")
    with staged(store.root) as directory:
        layout = directory / "layout"
        options = [*(access or RegistryAccess()).arguments(), *([] if show else ["--quiet"])]
        _run([*_ending_with_us(), program, "copy", *options, source_of(reference), f"oci:{layout}:pulled"], reference, show)
        return import_image(store, layout, name, progress)


def _ending_with_us() -> list[str]:
    """What goes before a command that shall not go on when we are killed (setpriv of util-linux 2.33 or later): it would write to
    what a collection removes."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _run(command: Sequence[str], reference: str, show: bool) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=None if show else subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        remedy = "see whether the name is right and the registry can be reached (skopeo inspect, skopeo login)"
        raise StoreError(reference, f"skopeo copy failed ({done.returncode}): {_message(said[-1])}", remedy)


def _message(line: str) -> str:
    """skopeo logs as ``time="…" level=fatal msg="…"``."""
    _, found, rest = line.partition('msg="')
    return rest.rstrip('"').replace('\\"', '"') if found else line
