"""What a worker was about to do when it died: read from the request that it served."""

from __future__ import annotations

from collections.abc import Callable

from unionfs.fuse import wire
from unionfs.fuse.negotiation import Negotiated
from unionfs.fuse.protocol import InitFlag, Opcode
from unionfs.fuse.repeated import MAKING
from unionfs.journal.records import Act
from unionfs.journal.recovered import Intent
from unionfs.journal.storage import IN_PLACE, NOT_RESENT
from unionfs.linux.rename import RENAME_EXCHANGE

ReadIntent = Callable[[int, memoryview], Intent]


def intents_of(negotiated: Negotiated) -> ReadIntent:
    """What makes an `Intent` of its form and of a request, on a connection that agreed on this."""
    extended = bool(negotiated.flags & InitFlag.SETXATTR_EXT)

    def intent_of(form: int, request: memoryview) -> Intent:
        _, opcode, unique, node, *_ = wire.REQUEST_HEADER.decode(request)
        body = request[wire.REQUEST_HEADER.size :]
        intent = Intent(unique & NOT_RESENT, request, Act.REMOVE, node)
        if opcode in MAKING:
            (made,) = wire.LINK_IN.decode(body) if opcode == Opcode.LINK else (0,)
            (name,) = wire.decode_strings(body, MAKING[Opcode(opcode)], 1)
            return intent._replace(act=Act.CREATE if form & IN_PLACE else Act.APPEAR, name=name, made=made)
        if opcode == Opcode.SETXATTR:
            name, value, *_ = wire.decode_setxattr(body, extended)
            return intent._replace(act=Act.SET_XATTR, name=name, value=value)
        if opcode in (Opcode.RENAME, Opcode.RENAME2):
            return _rename(intent, opcode, body)
        (name,) = wire.decode_strings(body, 0, 1)
        return intent._replace(act=Act.REMOVE_XATTR if opcode == Opcode.REMOVEXATTR else Act.REMOVE, name=name)

    return intent_of


def _rename(intent: Intent, opcode: int, body: memoryview) -> Intent:
    if opcode == Opcode.RENAME:
        (new_parent,), flags, start = wire.RENAME_IN.decode(body), 0, wire.RENAME_IN.size
    else:
        (new_parent, flags), start = wire.RENAME2_IN.decode(body), wire.RENAME2_IN.size
    name, new_name = wire.decode_strings(body, start, 2)
    act = Act.EXCHANGE if flags & RENAME_EXCHANGE else Act.MOVE
    return intent._replace(act=act, name=name, new_parent=new_parent, new_name=new_name)
