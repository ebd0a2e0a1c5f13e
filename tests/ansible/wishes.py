"""Tasks, and what is expected of each module whatever runs it."""

from __future__ import annotations

import dataclasses
import json


@dataclasses.dataclass
class Task:
    """A module with its options, for real or in check mode."""

    module: str
    options: dict
    check: bool = False


def task(module, check=False, **options):
    """A task."""
    return Task(module, options, check)


def warned(result):
    """What a task warned of, as one text."""
    return json.dumps(result.get("warnings", []))


class Runner:
    """Runs tasks; how is for those below it to say."""

    # How often a wish that settles is run: whether in check mode, and whether it changes something.
    times = ((True, True), (False, True), (False, False), (True, False))

    def run(self, *tasks, **defaults):
        """What each of the tasks came to."""
        raise NotImplementedError

    def one(self, module, **options):
        """What a task came to."""
        (result,) = self.run(task(module, **options))
        return result

    def settle(self, *wishes):
        """Each wish, `(module, options)`, changes something once: in check mode it says the same and does nothing,
        and once it is so, nothing is left to do in either mode. What each came to."""
        tasks = [task(module, check=check, **options) for module, options in wishes for check, _ in self.times]
        results = self.run(*tasks)
        for at, wish in enumerate(wishes):
            group = results[at * len(self.times):][:len(self.times)]
            for (check, changes), result in zip(self.times, group):
                mode = "in check mode" if check else "for real"
                assert not result["failed"], f"{wish} {mode}: {result['msg']}"
                assert result["changed"] == changes, f"{wish} {mode}: {result}"
            foretold, made, again = group[:3]
            assert foretold["before"] == made["before"], f"check mode changed something: {wish}"
            assert foretold["after"] == made["after"], f"check mode foretold something else: {wish}"
            assert made["diff"] == {"before": made["before"], "after": made["after"]}
            assert again["before"] == again["after"]
        return results[1::len(self.times)]

    def refuse(self, *wishes):
        """Each wish, `(module, options, says)`, is refused in check mode and for real, with these words."""
        tasks = [task(module, check=check, **options) for module, options, _ in wishes for check in (True, False)]
        for at, result in enumerate(self.run(*tasks)):
            module, options, says = wishes[at // 2]
            mode = "for real" if at % 2 else "in check mode"
            assert result["failed"], f"{module} {options} {mode} was not refused: {result}"
            assert says in result["msg"], f"{module} {options} {mode}: {result['msg']}"
            assert "Traceback" not in json.dumps(result), result
