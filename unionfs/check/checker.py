"""All rules on one stack, and the repairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from unionfs.check.attribute_values import attribute_values
from unionfs.check.checked_stack import CheckedStack, Directories
from unionfs.check.dot_whiteouts import dot_whiteouts
from unionfs.check.finding import Finding, Severity
from unionfs.check.impure import missing_impure_mark
from unionfs.check.index import index
from unionfs.check.metacopies import dangling_metacopies
from unionfs.check.redirects import Redirects
from unionfs.check.whiteouts import unannounced_whiteouts, useless_whiteouts
from unionfs.check.work_files import work_files


class Outcome(NamedTuple):
    """A finding and what became of it: ``error`` is why its repair failed."""

    finding: Finding
    repaired: bool = False
    error: OSError | None = None

    @property
    def is_left(self) -> bool:
        """Whether something is still wrong."""
        return not self.repaired and self.finding.severity is Severity.PROBLEM


def check(directories: Directories, repair: bool = False) -> list[Outcome]:
    """Everything that is to be said about a stack that is not mounted (the caller sees to that).

    Without ``repair`` nothing is changed.  With it, whatever has a `Repair` is repaired, after all was looked at.

    Raises:
        OSError: a directory cannot be read.
    """
    stack = CheckedStack(directories, writable=repair)
    try:
        findings = list(_findings(stack))
        return [_repaired(finding) if repair else Outcome(finding) for finding in findings]
    finally:
        stack.close()


def _findings(stack: CheckedStack) -> Iterator[Finding]:
    work = stack.directories.work
    if work is not None:
        yield from work_files(work)
        yield from index(stack, work)
    redirects = Redirects()
    rules = (
        attribute_values,
        redirects.malformed,
        redirects.astray,
        dangling_metacopies,
        unannounced_whiteouts,
        useless_whiteouts,
        dot_whiteouts,
        missing_impure_mark,
    )
    for visited in stack.visit():
        for rule in rules:
            yield from rule(stack, visited)


def _repaired(finding: Finding) -> Outcome:
    if finding.repair is None:
        return Outcome(finding)
    try:
        finding.repair.run()
    except OSError as error:
        return Outcome(finding, error=error)
    return Outcome(finding, repaired=True)
