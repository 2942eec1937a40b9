"""What is asked of /dev/cpu_dma_latency, on a file in its place; and of the real one."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from unionfs.linux import cpu_latency
from unionfs.linux.cpu_latency import CpuLatency


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cpu_dma_latency"
    path.touch()
    monkeypatch.setattr(cpu_latency, "_PATH", str(path))
    return path


def test_holding_asks_for_no_latency_and_letting_go_for_any(device: Path) -> None:
    latency = CpuLatency()
    assert not latency.is_held
    latency.hold()
    assert latency.is_held
    latency.let_go()
    assert not latency.is_held
    latency.close()
    assert struct.unpack("=ii", device.read_bytes()) == (0, 2_000_000_000)


def test_without_the_device_there_is_an_error(device: Path) -> None:
    device.unlink()
    with pytest.raises(FileNotFoundError):
        CpuLatency()


def test_the_kernel_takes_what_is_asked() -> None:
    if not os.access("/dev/cpu_dma_latency", os.W_OK):
        with pytest.raises(OSError, match="cpu_dma_latency"):
            CpuLatency()
        return
    latency = CpuLatency()
    latency.hold()
    latency.let_go()
    latency.close()
