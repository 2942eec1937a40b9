"""Volumes: directories that containers use past the union, kept until somebody removes them.

Layout, from the bottom up:

``names``       names of volumes.
``volume``      what a volume is, and who has it mounted.
``rows``        the same, as the database knows it.
``filters``     which volumes somebody means.
``drivers/``    where the data is: ``local``, ``overlay``, foreign plugins.
``places``      the directories of volumes.
``elsewhere``   whether a container, or anybody, has a directory mounted.
``stale``       users that are gone and have not said so.
``manager``     making, using and removing them: the Python interface that the commands are a thin skin over.
``upkeep``      putting them in order again.
``opening``     the manager of a store, with all drivers.

On disk, in ``volumes/NAME`` of the store: ``_data``, and what the driver keeps beside it.
"""

from unionfs.volumes.manager import Pruned, VolumeManager
from unionfs.volumes.opening import open_volumes
from unionfs.volumes.volume import Filling, Peer, Volume, VolumeMount

__all__ = ["Filling", "Peer", "Pruned", "Volume", "VolumeManager", "VolumeMount", "open_volumes"]
