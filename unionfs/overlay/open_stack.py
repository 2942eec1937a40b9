"""The open stack of a union: its layers, and what is found out about them once."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import replace

from unionfs.overlay.data_layers import DataLayers
from unionfs.overlay.fd_pool import FdPool
from unionfs.overlay.index import Index, has_index
from unionfs.overlay.layer import Layer, RealDir, Stack, layer_label, open_lower, open_upper, open_upper_read_only
from unionfs.overlay.layer_owners import choose_owners
from unionfs.overlay.lower_stack import LowerStack
from unionfs.overlay.metacopy import Metacopies, was_upper
from unionfs.overlay.options import Options
from unionfs.overlay.origin import Origins
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.whiteouts import Whiteouts
from unionfs.overlay.work_dir import WorkDir

_log = logging.getLogger("unionfs.overlay")


class OpenStack:
    """The layers of one union, open, and what belongs to them: work directory, index, origins, ways from layer to layer."""

    def __init__(self, stack: Stack, options: Options, pool_limit: int | None = None) -> None:
        """Open the layers; ``pool_limit``: how many files and directories may be open at a time, default: from RLIMIT_NOFILE.

        Raises:
            OSError: one cannot be opened or used, or the work directory cannot be emptied.  Nothing stays open.
        """
        self.pool = FdPool(pool_limit)
        self.xattrs = PrivateXattrs(options.userxattr)
        self.lowers: list[Layer] = []
        self.data_only: list[Layer] = []
        self.upper: Layer | None = None
        self._work: WorkDir | None = None
        self._whiteouts: Whiteouts | None = None
        self.index: Index | None = None
        self.upper_was_empty = True
        """Whether all that is in the upper came there in this mount, and so is marked as we mark it."""
        try:
            self._open_layers(stack, options)
            self.upper_was_empty = self.upper is None or not os.listdir(self.upper.root.fd)
            # Whether any layer has owners in extended attributes; how owners are shown (None: as they really are).
            self.has_overrides, self.ids = choose_owners(self.upper, self.lowers, options.owners)
            self.origins = Origins(self.lowers, self.upper)
            self._open_index(stack, options)
            self._former_uppers = self._find_former_uppers()
        except OSError:
            self._close_layers()
            raise
        self._follows_redirects = options.follows_redirects
        self._owner_options = options.owners
        self._data_layers = DataLayers(self.data_only, self.pool)
        self._look_in_lowers()

    def _open_layers(self, stack: Stack, options: Options) -> None:
        for index, path in enumerate(stack.lowers):
            self.lowers.append(open_lower(index, path))
        for index, layer in enumerate(self.lowers):
            layer.is_snapshot = index < stack.snapshots or layer.path in stack.former_uppers
        for index, path in enumerate(stack.data):
            self.data_only.append(open_lower(index, path, "data"))
        if stack.upper is not None and stack.read_only:
            self.upper = open_upper_read_only(stack.upper)
        elif stack.upper is not None and stack.work is not None:
            self.upper = open_upper(stack.upper)
            self._work = WorkDir(stack.work)
            self._whiteouts = Whiteouts(self._work, self.xattrs, self.pool, options.whiteout)

    def _open_index(self, stack: Stack, options: Options) -> None:
        if options.index == "off" or self.upper is None or stack.work is None:
            return
        if stack.read_only and not has_index(stack.work):
            return
        try:
            lower = None if stack.goes_on else self.lowers[0]
            self.index = Index(stack.work, self.upper, self.lowers, self.origins, self.xattrs, stack.read_only, lower)
            self.index.place.layer.override = self.upper.override
        except OSError as error:
            if options.index == "on":
                raise
            _log.info("names of one lower file become files of their own by copy-up: %s: %s", error.filename, error.strerror)

    def _look_in_lowers(self) -> None:
        follow = self._follows_redirects
        self.lower_stack = LowerStack(self.lowers, self.pool, self.xattrs, follow)
        self.metacopies = Metacopies(self.lower_stack, self._data_layers, self.pool, self.xattrs, follow, self._former_uppers)

    def _find_former_uppers(self) -> frozenset[Layer]:
        return frozenset(layer for layer in self.lowers if layer.is_snapshot or was_upper(layer, self.xattrs))

    def _close_layers(self) -> None:
        if self._work is not None:
            self._work.close()
        if self.index is not None:
            self.index.close()
        self.pool.close()
        for layer in (*self.lowers, *self.data_only, *([self.upper] if self.upper else ())):
            layer.close()

    @property
    def work(self) -> WorkDir:
        """The work directory.  EROFS for a union without an upper, so whoever is about to change something asks for it first."""
        if self._work is None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return self._work

    @property
    def whiteouts(self) -> Whiteouts:
        """The whiteouts of the upper layer.  EROFS for a union without one."""
        if self._whiteouts is None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return self._whiteouts

    @property
    def upper_layer(self) -> Layer:
        """The upper layer of a union that has one."""
        assert self.upper is not None
        return self.upper

    def possible(self, options: Options) -> Options:
        """What of ``options`` the upper allows; tells of what it does not."""
        whiteouts = self._whiteouts
        if whiteouts is None or self.upper is None:
            return options
        for loss in whiteouts.losses():
            _log.warning("%s: %s", self.upper.path, loss)
        return options if whiteouts.keeps_redirects else replace(options, redirect_dir="follow", metacopy=False)

    def dir_fd(self, real: RealDir) -> int:
        """Descriptor of a real directory, good until the end of the operation."""
        return real.fd if real.fd >= 0 else real.open(self.pool)

    # -- other layers -----------------------------------------------------------------------------------------------------

    def _check_owners(self, lowers: list[Layer]) -> None:
        has_overrides, _ = choose_owners(self.upper, lowers, self._owner_options)
        if has_overrides and not self.has_overrides:
            raise OSError(errno.EINVAL, "it has owners in extended attributes, as no layer had when the union was mounted")

    def _use_lowers(self, lowers: list[Layer]) -> None:
        """``lowers`` are the lower layers of this copy of the stack; the upper and its index are those of all copies."""
        self.lowers, self.origins = lowers, Origins(lowers, self.upper)
        if self.index is not None:
            self.index = self.index.over(lowers, self.origins)
        self._former_uppers = self._find_former_uppers()
        self._look_in_lowers()

    def take_lowers(self, other: OpenStack) -> None:
        """From now on the lower layers are those of ``other``, a copy of this one; the inodes are left to the caller."""
        self.lowers, self.origins, self.index = other.lowers, other.origins, other.index
        self.lower_stack, self.metacopies, self._former_uppers = other.lower_stack, other.metacopies, other._former_uppers
        self._label_lowers()

    def freeze_upper(self, new: Layer, index: Index | None) -> None:
        """The upper is the topmost lower layer from now on, ``new`` the upper; the inodes are left to the caller."""
        self.lowers, self.upper = [self.upper_layer, *self.lowers], new
        self.upper_was_empty = True
        # Nothing is asked of the disk here: what is frozen is so already.
        self._former_uppers |= {self.lowers[0]}
        self.origins, self.index = Origins(self.lowers, new), index
        if index is not None:
            index.take_origins(self.origins)
        self._label_lowers()
        self._look_in_lowers()

    def _label_lowers(self) -> None:
        for index, layer in enumerate(self.lowers):
            layer.label = layer_label("lower", index)
