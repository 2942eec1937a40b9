"""What a worker was about to do when it died: read from the request that it served."""

from __future__ import annotations

from collections.abc import Callable

from unionfs.fuse import wire
from unionfs.fuse.negotiation import Negotiated
from unionfs.fuse.protocol import InitFlag, Opcode
from unionfs.journal.journal import RESENT
from unionfs.journal.records import Act
from unionfs.journal.recovered import Intent
from unionfs.journal.storage import IN_PLACE
from unionfs.linux.rename import RENAME_EXCHANGE

_BEFORE_NAME = {
    Opcode.MKNOD: wire.MKNOD_IN.size,
    Opcode.MKDIR: wire.MKDIR_IN.size,
    Opcode.CREATE: wire.CREATE_IN.size,
    Opcode.LINK: wire.LINK_IN.size,
    Opcode.SYMLINK: 0,
}
"""Requests that make a name, and how much stands before it in their bodies."""

ReadIntent = Callable[[int, memoryview], Intent]


def intents_of(negotiated: Negotiated) -> ReadIntent:
    """What makes an `Intent` of its form and of a request, on a connection that agreed on this."""
    extended = bool(negotiated.flags & InitFlag.SETXATTR_EXT)

    def intent_of(form: int, request: memoryview) -> Intent:
        _, opcode, unique, node, *_ = wire.REQUEST_HEADER.decode(request)
        body = request[wire.REQUEST_HEADER.size :]
        unique &= ~RESENT
        if opcode in _BEFORE_NAME:
            (made,) = wire.LINK_IN.decode(body) if opcode == Opcode.LINK else (0,)
            (name,) = wire.decode_strings(body, _BEFORE_NAME[Opcode(opcode)], 1)
            return Intent(unique, opcode, Act.CREATE if form & IN_PLACE else Act.APPEAR, node, name, made=made)
        if opcode == Opcode.SETXATTR:
            name, value, *_ = wire.decode_setxattr(body, extended)
            return Intent(unique, opcode, Act.SET_XATTR, node, name, value=value)
        if opcode in (Opcode.RENAME, Opcode.RENAME2):
            return _rename(unique, opcode, node, body)
        act = Act.REMOVE_XATTR if opcode == Opcode.REMOVEXATTR else Act.REMOVE
        return Intent(unique, opcode, act, node, wire.decode_strings(body, 0, 1)[0])

    return intent_of


def _rename(unique: int, opcode: int, node: int, body: memoryview) -> Intent:
    new_parent, flags, start = wire.RENAME_IN.decode(body)[0], 0, wire.RENAME_IN.size
    if opcode == Opcode.RENAME2:
        (new_parent, flags), start = wire.RENAME2_IN.decode(body), wire.RENAME2_IN.size
    name, new_name = wire.decode_strings(body, start, 2)
    act = Act.EXCHANGE if flags & RENAME_EXCHANGE else Act.MOVE
    return Intent(unique, opcode, act, node, name, new_parent, new_name)
