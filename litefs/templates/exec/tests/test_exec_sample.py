"""Everything that litefs relies on, and what this policy says."""

from __future__ import annotations

import litefs_exec_sample

from litefs.extensions import ExecContext
from litefs.testing import ExecConformance

HERE = ExecContext("here", candidate=True, is_primary=True, primary="here")
THERE = ExecContext("there", candidate=False, is_primary=False, primary="here")


class TestConformance(ExecConformance):
    plugin = litefs_exec_sample
    key = "sample"
    cases = (
        (["here"], HERE, True),
        (["here"], THERE, False),
        (["here", "there"], THERE, True),
    )
    refused = ("here", [], [""], True)
