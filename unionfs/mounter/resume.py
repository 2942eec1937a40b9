"""The program that goes on holding a mount in place of another one, in the same process (``unionfs restart``)."""

from __future__ import annotations

import sys

from unionfs.journal.storage import FORMAT
from unionfs.mounter.daemon import go_on
from unionfs.mounter.held import Handover


def main(arguments: list[str]) -> int:
    """``[--check] DESCRIPTOR``; with ``--check`` only all that is needed is loaded."""
    *options, descriptor = arguments
    handover = Handover.read(int(descriptor))
    if options == ["--check"]:
        if handover.held.journal_format != FORMAT:
            print("it keeps its journal in another form; unmount, and mount anew", file=sys.stderr)
            return 1
        import unionfs.mounter.serving  # noqa: F401

        return 0
    return go_on(handover)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
