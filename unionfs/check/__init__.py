"""Checking the upper and the work directory of a union that is not mounted: ``unionfs check``.

Layout, from the bottom up; each rule looks for one kind of finding and knows how to put it right, if that can be done safely:

``finding``           what a rule reports.
``checked_stack``     the layers, and what the upper holds, directory by directory, with its marks.
``attribute_values``  rule: attributes of the union with a value that means nothing.
``redirects``         rule: redirects that lead nowhere, into themselves, or to what is shown elsewhere.
``metacopies``        rule: files whose data is in no lower layer.
``whiteouts``         rule: whiteouts that hide nothing, or are listed.
``dot_whiteouts``     rule: whiteouts in the ``.wh.`` format.
``impure``            rule: directories without the mark that makes inode numbers stay.
``work_files``        rule: what a crash left in the work directory, and marks that forbid a mount.
``index``             rule: the index of hard links.
``checker``           all rules on one stack, and the repairs.
"""

from unionfs.check.checked_stack import Directories
from unionfs.check.checker import Outcome, check
from unionfs.check.finding import Finding, Severity

__all__ = ["Directories", "Finding", "Outcome", "Severity", "check"]
