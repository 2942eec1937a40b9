"""pip, without a network: a wheel with hundreds of modules, installed beside a package of a lower layer."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import random
import sys
import sysconfig
import zipfile
from pathlib import Path

from unionfs.bench.errors import BenchError
from unionfs.bench.program import run_program
from unionfs.bench.workload import Corpora, Place, Workload, WrongResultError

MODULES = 400
MODULES_A_PACKAGE = 25

_OLD, _NEW = "unionfs_bench_old", "unionfs_bench_new"
"""The distribution that is installed in the layer, and the one that is installed into the union."""


def _modules(name: str, count: int) -> dict[str, bytes]:
    """The modules of a distribution: path in the wheel → text."""
    rng = random.Random(name)  # noqa: S311  # reproducible on purpose
    modules = {f"{name}/__init__.py": b""}
    for number in range(count):
        package = f"{name}/part{number // MODULES_A_PACKAGE}"
        modules[f"{package}/__init__.py"] = b""
        lines = [f"    {rng.randbytes(40).hex()!r}," for _ in range(rng.randrange(10, 40))]
        modules[f"{package}/module{number}.py"] = "\n".join(["VALUES = [", *lines, "]", ""]).encode()
    return modules


def _record_line(path: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(content)}\n"


def _make_wheel(directory: Path, name: str, count: int) -> Path:
    """Write a wheel (PEP 427) of `_modules` into ``directory``; where it is."""
    about = f"{name}-1.0.dist-info"
    files = _modules(name, count) | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: unionfs\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(_record_line(*file) for file in files.items()) + f"{about}/RECORD,,\n"
    path = directory / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file, content in {**files, f"{about}/RECORD": record.encode()}.items():
            wheel.writestr(zipfile.ZipInfo(file), content, zipfile.ZIP_DEFLATED)  # ZipInfo: a fixed time, 1980
    return path


def _pip_install(wheel: Path, prefix: Path, home: Path) -> None:
    options = ("--isolated", "--quiet", "--disable-pip-version-check", "--no-input")
    how = ("--no-index", "--no-deps", "--no-compile", "--no-warn-script-location", "--ignore-installed")
    run_program([sys.executable, "-m", "pip", *options, "install", *how, "--prefix", prefix, wheel], home=home)


def _site_packages(prefix: Path) -> Path:
    """Where pip puts pure modules with ``--prefix``."""
    base = {"base": str(prefix), "platbase": str(prefix)}
    return Path(sysconfig.get_path("purelib", sysconfig.get_preferred_scheme("prefix"), vars=base))


def new_wheel(corpora: Corpora) -> Path:
    """The wheel that is installed into the union."""
    count = corpora.scaled(MODULES)

    def make(directory: Path) -> None:
        directory.mkdir()
        _make_wheel(directory, _NEW, count)

    [wheel] = corpora.get(f"pip-wheel-{count}", make).iterdir()
    return wheel


class PipInstall:
    """A pure Python wheel is unpacked, each file hashed on its way, into a directory that holds another package already."""

    name = "pip-install"
    title = f"pip install, {MODULES} modules"
    group = "programs"
    requires: tuple[str, ...] = ()

    def layers(self, corpora: Corpora) -> list[Path]:
        if importlib.util.find_spec("pip") is None:
            raise BenchError(f"no pip in {sys.prefix}; run {sys.executable} -m ensurepip")
        count = corpora.scaled(MODULES)

        def make(layer: Path) -> None:
            layer.mkdir()
            wheel = _make_wheel(layer, _OLD, count)
            _pip_install(wheel, layer / "prefix", home=layer)
            wheel.unlink()

        return [corpora.get(f"pip-prefix-{count}", make)]

    def prepare(self, place: Place) -> None:
        new_wheel(place.corpora)

    def run(self, place: Place) -> None:
        _pip_install(new_wheel(place.corpora), place.merged / "prefix", home=place.scratch)

    def check(self, place: Place) -> None:
        site_packages = _site_packages(place.merged / "prefix")
        for name in (_OLD, _NEW):
            wrong = [
                path
                for path, content in _modules(name, place.corpora.scaled(MODULES)).items()
                if not (site_packages / path).is_file() or (site_packages / path).read_bytes() != content
            ]
            if wrong:
                raise WrongResultError(f"{len(wrong)} modules are missing or not as in the wheel: {wrong[0]}, …")


WORKLOADS: tuple[Workload, ...] = (PipInstall(),)
