"""Where a user may have no user namespace: commands on images work without, those on containers name the remedy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from unionfs.cli.store_option import container_option, store_option
from unionfs.rootless import entry
from unionfs.rootless.id_mapping import NoNamespaceError


@click.command()
@store_option
def on_images(root: Path | None) -> None:
    click.echo(f"images of {root}")


@click.command()
@container_option
def on_containers(root: Path | None) -> None:
    click.echo(f"containers of {root}")


@pytest.fixture(autouse=True)
def a_user_without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_environment: Mapping[str, str]) -> None:
        raise NoNamespaceError("user namespace", "cannot be made", "ask for it")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(entry, "ensure_root", refuse)


def test_command_on_images_works_as_the_user() -> None:
    assert CliRunner().invoke(on_images, ["--root", "here"]).output == "images of here\n"


def test_command_on_containers_names_the_remedy() -> None:
    ended = CliRunner().invoke(on_containers, ["--root", "here"])
    assert isinstance(ended.exception, NoNamespaceError)
    assert str(ended.exception) == "user namespace: cannot be made; ask for it"
    assert ended.output == ""


def test_help_and_wrong_usage_need_no_namespace() -> None:
    assert CliRunner().invoke(on_containers, ["--help"]).exit_code == 0
    assert CliRunner().invoke(on_containers, ["--absent"]).exit_code == 2
