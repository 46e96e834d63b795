"""What every exec policy has to do, as tests that its author runs; see `litefs.testing.suite` for how.

class TestMyPolicy(ExecConformance):
    plugin = litefs_exec_mine                   # the module (or object) with the hooks
    key = "mine"
    cases = ((["a"], ExecContext("a", candidate=True, is_primary=False), True),)
    refused = ("a", 5)
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from litefs.errors import ConfigError
from litefs.extensions import ExecContext, ExecPolicy
from litefs.plugins import BUILTIN, Plugin, Plugins
from litefs.testing.settings import exec_commands
from litefs.testing.suite import Suite

Case = tuple[Any, ExecContext, "bool | None"]


class ExecConformance(Suite):
    """The suite.  Set the attributes.

    Attributes:
        plugin: the module or object with the hooks.
        key: of the policy, as it stands beside ``cmd``.
        cases: what the policy has to say: the key's value, the node's situation, the answer.
        refused: values that its schema must refuse.
        longest_answer: seconds that one answer may take on average: it is given in the node's event loop.
    """

    plugin: object
    key: str
    cases: Sequence[Case] = ()
    refused: Sequence[Any] = ()
    longest_answer = 0.001

    # ------------------------------------------------------------------------------------------------------ checks

    def check_is_registered(self) -> None:
        """The hook brings the policy, and its key is no other plugin's."""
        assert self._policy.key == self.key
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.key), "a key is lower-case words with dashes"

    def check_reason_can_be_read(self) -> None:
        """The log says why a command does not run."""
        reason = self._policy.reason
        assert reason, "the log would say nothing"
        assert "\n" not in reason
        assert not reason.endswith("."), "the reason goes in the middle of a line"

    def check_values_are_taken(self) -> None:
        """A litefs.yml may have each value of the cases, and the command keeps it."""
        assert self.cases, "give some cases"
        for value, _, _ in self.cases:
            (command,) = exec_commands(self.plugin, [{"cmd": "true", self.key: value}])
            assert command.policies[self.key] == value

    def check_values_are_refused(self) -> None:
        """What makes no sense is an error of litefs.yml, which names the key."""
        for value in self.refused:
            error = self._refusal(value)
            assert error is not None, f"{self.key}: {json.dumps(value)} was taken"
            assert self.key in str(error), error

    def check_answers(self) -> None:
        """The policy says what the cases want."""
        for value, context, wanted in self.cases:
            assert self._policy.admits(value, context) is wanted, (value, context)

    def check_answers_everywhere(self) -> None:
        """It has an answer in each situation a node can be in, the same one twice."""
        for value, context in self._situations():
            answer = self._policy.admits(value, context)
            assert answer is None or isinstance(answer, bool), (value, context, answer)
            assert self._policy.admits(value, context) is answer, (value, context)

    def check_none_is_for_what_ends(self) -> None:
        """Only a command that runs to completion can be the primary's to run."""
        answers = [self._policy.admits(value, context) for value, context in self._situations()]
        if None in answers:
            assert self._policy.service is False, "admits returns None: set service=False"

    def check_is_quick(self) -> None:
        """It neither waits nor computes."""
        situations = list(self._situations())
        asked = 0
        start = time.thread_time()
        while asked < 200:
            for value, context in situations:
                self._policy.admits(value, context)
            asked += len(situations)
        assert (time.thread_time() - start) / asked < self.longest_answer

    # ------------------------------------------------------------------------------------------------------ running

    def run_check(self, check: Callable[[], object]) -> None:
        """Run one check; here none waits for anything."""
        check()

    @property
    def _policy(self) -> ExecPolicy:
        plugins = Plugins([BUILTIN, Plugin("plugin under test", self.plugin)])
        return plugins.exec_policies[self.key]

    def _refusal(self, value: Any) -> ConfigError | None:
        try:
            exec_commands(self.plugin, [{"cmd": "true", self.key: value}])
        except ConfigError as error:
            return error
        return None

    def _situations(self) -> Iterator[tuple[Any, ExecContext]]:
        """Each value of the cases in each situation."""
        assert self.cases, "give some cases"
        names = {context.hostname for _, context, _ in self.cases} | {"another"}
        for value, _, _ in self.cases:
            for name, candidate in itertools.product(sorted(names), (True, False)):
                yield value, ExecContext(name, candidate=candidate, is_primary=False, primary=None)
                yield value, ExecContext(name, candidate=candidate, is_primary=False, primary="elsewhere")
            for name in sorted(names):
                yield value, ExecContext(name, candidate=True, is_primary=True, primary=name)
