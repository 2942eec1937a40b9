"""All mounts of a container together: which one counts where several have one target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unionfs.containers.mount_specs.rules import clean_target
from unionfs.containers.mount_specs.spec import Kind, MountSpec
from unionfs.store.errors import wrong_usage


def merged_mounts(
    explicit: Sequence[MountSpec], inherited: Iterable[MountSpec] = (), image_volumes: Iterable[str] = ()
) -> tuple[MountSpec, ...]:
    """The mounts, in the order in which they are to be made: what lies inside another comes after it.

    As docker has it, what is asked for explicitly hides what is inherited, the later inherited the earlier, and all of these
    anonymous volumes, whether the image declares them or ``-v /TARGET`` does.

    Raises:
        StoreError: two that are asked for have one target (exit status 2).
    """
    found: dict[str, MountSpec] = {spec.target: spec for spec in inherited}
    named = [spec for spec in explicit if not _is_plain_anonymous(spec)]
    _refuse_twice(named)
    found.update((spec.target, spec) for spec in named)
    for spec in (*filter(_is_plain_anonymous, explicit), *map(_declared, image_volumes)):
        found.setdefault(spec.target, spec)
    return tuple(sorted(found.values(), key=lambda spec: spec.target.split("/")))


def _is_plain_anonymous(spec: MountSpec) -> bool:
    return spec == MountSpec(Kind.VOLUME, spec.target, driver=spec.driver)


def _declared(target: str) -> MountSpec:
    return MountSpec(Kind.VOLUME, clean_target(target, f"VOLUME {target}"))


def _refuse_twice(specs: Sequence[MountSpec]) -> None:
    seen = set()
    for spec in specs:
        if spec.target in seen:
            raise wrong_usage(spec.target, "two mounts have this target", "leave one of them out")
        seen.add(spec.target)
