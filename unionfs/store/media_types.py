"""Media types of images: OCI (image specification, media-types.md) and docker's v2 schema 2 (distribution, manifest-v2-2.md)."""

from __future__ import annotations

from unionfs.store.errors import CorruptError, StoreError

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"

_INDEXES = {OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"}
_MANIFESTS = {OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"}
_CONFIGS = {OCI_CONFIG, "application/vnd.docker.container.image.v1+json"}
_LAYERS = {
    OCI_LAYER_GZIP,
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
}
_ELSEWHERE = ("application/vnd.oci.image.layer.nondistributable.", "application/vnd.docker.image.rootfs.foreign.")


def is_index(media_type: str, thing: str) -> bool:
    """Whether that is a list of images, else it is a manifest.

    Raises:
        CorruptError: it is neither.
    """
    if media_type in _INDEXES:
        return True
    if media_type in _MANIFESTS:
        return False
    raise _unknown(media_type, thing, "an image")


def check_config(media_type: str, thing: str) -> None:
    """Refuse what is no config of an image: OCI layouts may hold other things (artifacts).

    Raises:
        CorruptError: it is none.
    """
    if media_type not in _CONFIGS:
        raise _unknown(media_type, thing, "the config of an image")


def check_layer(media_type: str, thing: str) -> None:
    """Refuse what is no layer.

    Raises:
        StoreError: it is one that archives do not carry.
        CorruptError: it is none.
    """
    if media_type.startswith(_ELSEWHERE):
        problem = f"a layer of media type {media_type}, which its licence keeps out of archives"
        raise StoreError(thing, problem, "use an image without such layers")
    if media_type not in _LAYERS:
        raise _unknown(media_type, thing, "a layer")


def _unknown(media_type: str, thing: str, wanted: str) -> CorruptError:
    return CorruptError(
        thing, f"unknown media type {media_type!r} for {wanted}", "convert it with skopeo copy --format v2s2 or oci"
    )
