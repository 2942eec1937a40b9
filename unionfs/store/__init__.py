"""Layers, images and snapshots on disk, content-addressed, with their metadata in SQLite.

A *layer* is a directory in the kernel OverlayFS's format, known by its diff ID (the digest of its uncompressed tar), and there
once however many images and containers use it.  An *image* is a config and the layers that it names.  A *snapshot* is a stack of
layers that something may be mounted on, read-only or with a writable directory of its own.

Below the root (`unionfs.store.location`)::

    store.db            metadata (`unionfs.store.database`)
    layers/HEX/diff     an unpacked layer
    layers/HEX/recipe   how its tar is put together again, byte for byte
    blobs/HEX           configs of images
    snapshots/ID/       upper and work directories
    staging/            what is being made
    containers/ID/      bundles, logs
    locks/              lock files

Nothing half-done is ever visible: a directory is made complete in ``staging/``, synced and renamed into its place, and only then
one transaction makes it known.  What goes is first forgotten by a transaction, then renamed into ``staging/``, then removed.  So
what a killed process leaves behind are directories that no row names; the next `gc` removes those whose maker is gone.
"""
