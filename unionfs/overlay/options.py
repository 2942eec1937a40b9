"""What a user may choose of a union's behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RedirectDir = Literal["on", "follow", "off", "nofollow"]
UseIndex = Literal["on", "auto", "off"]
Fsync = Literal["auto", "strict", "volatile"]


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
    """

    redirect_dir: RedirectDir = "on"
    userxattr: bool = False
    metacopy: bool = False
    index: UseIndex = "off"
    fsync: Fsync = "auto"

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
