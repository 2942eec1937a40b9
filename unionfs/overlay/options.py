"""What a user may choose of a union's behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from unionfs.overlay.id_map import IdRange

RedirectDir = Literal["on", "follow", "off", "nofollow"]
UseIndex = Literal["on", "auto", "off"]
Fsync = Literal["auto", "strict", "volatile"]
WhiteoutForm = Literal["auto", "dev", "xattr", "wh"]
Overrides = Literal["none", "privileged", "containers"]


@dataclass(frozen=True, slots=True)
class OwnerOptions:
    """Whose the objects of a union are.  Meanings are those of the mount options of fuse-overlayfs.

    Attributes:
        uids, gids: which ids of the layers are shown as which (``uidmapping``, ``gidmapping``); none: as they are.
        squash_uid, squash_gid: what all owners are shown as; None: as what they are.
        overrides: which extended attribute of the upper layer has owner and mode instead of the real ones
            (``xattr_permissions``): ``privileged``, ``containers``; ``none``: no one, unless ``detects_overrides``.
        detects_overrides: whether layers whose root directory has such an attribute are used in that way, as they always are with
            an attribute in the upper layer.
    """

    uids: tuple[IdRange, ...] = ()
    gids: tuple[IdRange, ...] = ()
    squash_uid: int | None = None
    squash_gid: int | None = None
    overrides: Overrides = "none"
    detects_overrides: bool = False

    @property
    def maps_ids(self) -> bool:
        """Whether any owner is shown as another."""
        return bool(self.uids or self.gids) or self.squash_uid is not None or self.squash_gid is not None


@dataclass(frozen=True, slots=True)
class Options:
    """Names and meanings are those of the mount options of OverlayFS.

    Attributes:
        redirect_dir: ``on``: directories with lower parts can be renamed; ``follow``, and ``off``, which is the same as in
        kernels
            that always follow: they cannot (EXDEV), but redirects that are there are followed; ``nofollow``: nor that.
        userxattr: keep the union's own attributes in ``user.overlay.`` instead of ``trusted.overlay.``, which takes no privilege.
            Redirects are then neither written nor followed, because any owner of a file could forge one.
        metacopy: chmod, chown and the like on a lower file copy its metadata only; the data follows at the first write.
        index: ``on``: the names of one lower file stay names of one file when it is copied up; ``auto``: where that is possible
            (see `unionfs.overlay.index.Index`); ``off``: each name becomes a file of its own.
        fsync: ``auto``: the data of a file is made durable before its copy-up is complete, and whatever fsync(2) asks for;
            ``strict``: so are the metadata of files and directories that are copied up; ``volatile``: nothing is, and a power cut
            may cost what was written.
        owners: see there.
        acl: false (``noacl``): the kernel does not heed access control lists; they are attributes as any other.
        xattrs: false (``noxattrs``): users see no extended attributes and set none.
        static_nlink: all directories have one link, whatever their filesystem counts.
        ino32: inode numbers fit in 32 bits.
        max_inodes: how many inodes may be known before the kernel is asked to forget some; 0: any number.
        whiteout: the form of whiteouts, see `unionfs.overlay.whiteouts`; ``auto``: the best one that the upper allows.
    """

    redirect_dir: RedirectDir = "on"
    userxattr: bool = False
    metacopy: bool = False
    index: UseIndex = "off"
    fsync: Fsync = "auto"
    owners: OwnerOptions = field(default_factory=OwnerOptions)
    acl: bool = True
    xattrs: bool = True
    static_nlink: bool = False
    ino32: bool = False
    max_inodes: int = 0
    whiteout: WhiteoutForm = "auto"

    def __post_init__(self) -> None:
        if self.metacopy and not self.writes_redirects:
            raise ValueError("metacopy=on needs redirect_dir=on and no userxattr: a renamed file could not find its data")

    @property
    def follows_redirects(self) -> bool:
        """Whether redirects of the layers are followed."""
        return self.redirect_dir != "nofollow" and not self.userxattr

    @property
    def writes_redirects(self) -> bool:
        """Whether directories with lower parts can be renamed."""
        return self.redirect_dir == "on" and not self.userxattr
