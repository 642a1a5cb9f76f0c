"""One process at a time changes the stack (review E: two `up` at once)."""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio.subprocess import PIPE

from autoregistry.stack.down import take_down
from autoregistry.stack.lock import WAITING, stack_lock
from autoregistry.stack.steps import Step, StepDone, StepStarted
from autoregistry.stack.up import Up
from tests.fakes.engine import IDENTITY, FakeEngine
from tests.helpers.waiting import until

_HOLDER = """
import sys
from autoregistry.stack.lock import stack_lock
with stack_lock(sys.argv[1], print):
    print("held", flush=True)
    sys.stdin.read()
"""


def _ignore(_: Step) -> None:
    pass


async def test_second_up_waits_and_leaves_the_replacement_of_the_first_alone(
    engine: FakeEngine,
) -> None:
    Up(engine.daemon, _ignore, is_local=False).run({})
    replacement = {**engine.containers["autoregistry"], "Id": "new", "Name": "/autoregistry-new"}
    steps: list[Step] = []

    with stack_lock(IDENTITY, _ignore):
        engine.containers["autoregistry-new"] = replacement
        second = threading.Thread(
            target=Up(engine.daemon, steps.append, is_local=False).run, args=({},)
        )
        second.start()
        await until(lambda: StepStarted(WAITING) in steps)
        assert "autoregistry-new" in engine.containers
        del engine.containers["autoregistry-new"]
    second.join()

    assert StepDone(WAITING, "done", has_changed=False) in steps
    assert StepDone("autoregistry", "unchanged, healthy", has_changed=False) in steps


async def test_down_waits_for_up(engine: FakeEngine) -> None:
    steps: list[Step] = []

    with stack_lock(IDENTITY, _ignore):
        second = threading.Thread(
            target=take_down, args=(engine.daemon, steps.append), kwargs={"volumes": False}
        )
        second.start()
        await until(lambda: StepStarted(WAITING) in steps)
    second.join()

    assert StepDone(WAITING, "done", has_changed=False) in steps


async def test_killed_process_releases_the_lock(engine: FakeEngine) -> None:
    steps: list[Step] = []
    command = (sys.executable, "-c", _HOLDER, IDENTITY)
    holder = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert holder.stdout
    assert await holder.stdout.readline() == b"held\n"
    second = threading.Thread(target=_hold_once, args=(steps,))
    second.start()
    await until(lambda: StepStarted(WAITING) in steps)
    holder.kill()
    await holder.wait()
    second.join()

    assert steps[-1] == StepDone(WAITING, "done", has_changed=False)


def _hold_once(steps: list[Step]) -> None:
    with stack_lock(IDENTITY, steps.append):
        pass


def test_another_daemon_has_another_lock(engine: FakeEngine) -> None:
    steps: list[Step] = []
    with stack_lock("first", _ignore), stack_lock("second", steps.append):
        assert steps == []
