"""The commands on the control socket. A command returns only after the change has taken effect or failed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from runner.errors import EXIT_FAILURE, EXIT_OK, RunnerError
from runner.invocation import invocation
from runner.supervisor.control.follow import Answer, Followed, Send, line_object
from runner.supervisor.control.note import add_note
from runner.supervisor.control.status_report import status_of
from runner.supervisor.control.watch import Watchers
from runner.supervisor.loop import Supervisor
from runner.supervisor.output.line import HOLD, Line
from runner.supervisor.processes.usage import Sampler
from runner.supervisor.service import Service
from runner.supervisor.slot_keeper import Keeper
from runner.supervisor.slot_lifecycle import SlotState

#: Seconds for which a command waits for a WAITING slot. Afterwards, the command fails with the reason, but the slot
#: continues to wait.
WAITING_TIME = 5.0
#: The maximum number of instances of a service, equal to the limit in config.yaml.
MOST_INSTANCES = 64

Request = dict[str, Any]
#: The states that a slot leaves without any request.
_MOVING = (SlotState.STARTING, SlotState.STOPPING)


class CommandFailed(RunnerError):
    """The error of a command that failed or cannot be executed."""

    def __init__(self, text: str, exit_code: int = EXIT_FAILURE) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Commands:
    """The commands on the control socket.

    ``reload`` is called on a thread to apply changed files, and returns an exit code.
    """

    def __init__(self, supervisor: Supervisor, sampler: Sampler, reload: Callable[[], int]) -> None:
        self._supervisor, self._sampler, self._reload = supervisor, sampler, reload
        self._watchers = Watchers(supervisor, sampler)

    async def run(self, request: Request, send: Send) -> Answer:
        """Execute a request, and return the last response. Raises CommandFailed with the reason."""
        match request.get("command"):
            case "status":
                return status_of(self._supervisor, self._sampler)
            case "logs":
                return await self._logs(request, send)
            case "watch":
                await self._watchers.serve(send)
            case "note":
                return self._note(request)
            case "start" | "stop" | "restart" | "scale" | "reload" | "down" as name:
                if self._supervisor.is_stopping and name != "down":
                    raise CommandFailed("the supervisor is stopping; wait for its exit, and start it again")
                async with self._reporting(send):
                    return await self._change(name, request)
        raise CommandFailed(
            f"unknown command, {request.get('command')!r}; restart the supervisor, which runs another version"
        )

    def _note(self, request: Request) -> Answer:
        try:
            add_note(self._supervisor.timeline, request)
        except ValueError as error:
            raise CommandFailed(str(error)) from None
        return {}

    def _did(self, command: str, subject: object) -> None:
        """Add a command to the timeline. Called when the command begins to change the system."""
        self._supervisor.timeline.add("command", str(subject), command)

    async def _change(self, name: str, request: Request) -> Answer:
        match name:
            case "start":
                return await self._start(request)
            case "stop":
                return await self._stop(request)
            case "restart":
                return await self._restart(request)
            case "scale":
                return await self._scale(request)
            case "reload":
                return await self._apply_files()
        self._did("down", "supervisor")
        self._supervisor.stop_as_asked("requested by 'down'")
        await asyncio.Event().wait()  # the supervisor closes the connection when it exits
        return {}

    async def _start(self, request: Request) -> Answer:
        service, keepers = self._target(request)
        self._did(f"start {request['target']}", request["target"])
        service.start(keepers)
        self._supervisor.advance()
        await self._until_running(service, keepers)
        ended = all(keeper.slot.state is SlotState.EXITED for keeper in keepers)
        return {"done": f"{_names(keepers)} {'done' if ended else 'running'}"}

    async def _stop(self, request: Request) -> Answer:
        service, keepers = self._target(request)
        self._did(f"stop {request['target']}", request["target"])
        if keepers == list(service.keepers.values()):
            service.stop()
        for keeper in keepers:
            keeper.stop()
        self._supervisor.advance()
        numbers = {keeper.number for keeper in keepers}
        await self._until(lambda: all(one.is_over for one in service.all_keepers() if one.number in numbers))
        return {"done": f"{_names(keepers)} stopped"}

    async def _restart(self, request: Request) -> Answer:
        service, keepers = self._target(request)
        self._did(f"restart {request['target']}", request["target"])
        numbers = [keeper.number for keeper in keepers]
        for keeper in keepers:
            service.replace(keeper)
        self._supervisor.advance()
        # Only the stopped slots still need to start. The processes of all other slots were replaced.
        service.start([service.keepers[number] for number in numbers if number in service.keepers])
        self._supervisor.advance()
        await self._until_settled([service])
        await self._until_running(service, [service.keepers[one] for one in numbers if one in service.keepers])
        return {"done": f"{_names(keepers)} restarted"}

    async def _scale(self, request: Request) -> Answer:
        service, count = self._service(request), request.get("instances")
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MOST_INSTANCES:
            raise CommandFailed(f"instances: out of range, {count!r}; allowed: 0 to {MOST_INSTANCES}")
        if not service.program.after_prepare:
            raise CommandFailed(f"{service.name} cannot be scaled, because only one process can use its data")
        if (scale := service.program.autoscale) is not None:
            limits = f"{scale.min} to {scale.max}"
            raise CommandFailed(
                f"{service.name} is scaled automatically, from {limits}; change autoscale in config.yaml"
            )
        self._did(f"scale {service.name} {count}", service.name)
        before, service.instances, service.problem = service.instances, count, ""
        if count != before:
            self._supervisor.timeline.add("scaled", service.name, f"scaled from {before} to {count}")
        self._supervisor.advance()
        await self._until_settled([service])
        await self._until_running(service, [one for one in service.keepers.values() if one.slot.wanted])
        return {"done": f"{service.name} scaled from {before} to {count}"}

    async def _apply_files(self) -> Answer:
        before = {one.name for one in self._failing()}
        self._did("reload", "files")
        if (code := await _on_thread(self._reload)) != EXIT_OK:
            raise CommandFailed("not reloaded", code)
        await self._until_settled(list(self._supervisor.services.values()))
        await self._until(lambda: not any(one.slot.state in _MOVING for one in self._supervisor.keepers()))
        await self._until(lambda: not self._supervisor.after_update.is_running)
        if failing := {one.name: one for one in self._failing() if one.name not in before}:
            report = "; ".join(f"{name} {one.slot.state}: {one.slot.why}" for name, one in failing.items())
            raise CommandFailed(f"reloaded, but {report}")
        return {"done": "reloaded"}

    def _failing(self) -> list[Keeper]:
        return [one for one in self._supervisor.keepers() if one.slot.state in (SlotState.BACKOFF, SlotState.FATAL)]

    # Waiting.

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._supervisor.is_stopping:
                raise CommandFailed("the supervisor is stopping")
            await self._supervisor.changed()

    async def _until_settled(self, services: Sequence[Service]) -> None:
        def is_under_way(service: Service) -> bool:
            return not service.is_settled and not service.is_waiting

        while not all(service.is_settled for service in services):
            await self._until(lambda: not any(is_under_way(service) for service in services))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAITING_TIME):
                    await self._until(lambda: not any(service.is_waiting for service in services))
            if waiting := next((service for service in services if service.is_waiting), None):
                reason = self._supervisor.waiting_for(waiting)
                raise CommandFailed(f"{waiting.name} is waiting for {reason}; the replacement will follow")
        if problems := [service.problem for service in services if service.problem]:
            raise CommandFailed("; ".join(problems))

    async def _until_running(self, service: Service, keepers: Sequence[Keeper]) -> None:
        def check(keeper: Keeper) -> bool:
            slot = keeper.slot
            if slot.state in (SlotState.BACKOFF, SlotState.FATAL) or (
                slot.state is SlotState.EXITED and slot.last_exit != 0
            ):
                logs = invocation("logs", service.name)
                raise CommandFailed(f"{keeper.name} {slot.state}: {slot.why}; see: {logs}")
            return slot.state in (SlotState.RUNNING, SlotState.EXITED, SlotState.STOPPED)

        try:
            async with asyncio.timeout(WAITING_TIME):
                await self._until(lambda: all(check(one) or one.slot.state in _MOVING for one in keepers))
        except TimeoutError:
            reason = self._supervisor.waiting_for(service)
            raise CommandFailed(f"{service.name} is waiting for {reason}; the start will follow") from None
        await self._until(lambda: all(check(one) for one in keepers))

    # Targets.

    def _service(self, request: Request) -> Service:
        name = str(request.get("target"))
        services = self._supervisor.services
        if name not in services:
            raise CommandFailed(f"unknown service, {name!r}; allowed: {', '.join(sorted(services))}")
        return services[name]

    def _target(self, request: Request) -> tuple[Service, list[Keeper]]:
        name = str(request.get("target"))
        base, dot, number = name.rpartition(".")
        if not dot:
            service = self._service(request)
            if not service.keepers:
                remedy = f"add an instance with: {invocation('scale', service.name, '1')}"
                raise CommandFailed(f"{service.name} has no instances; {remedy}")
            return service, list(service.keepers.values())
        service = self._service({"target": base})
        keepers = [keeper for keeper in service.keepers.values() if str(keeper.number) == number]
        if dot and not keepers:
            raise CommandFailed(f"unknown slot, {name!r}; allowed: {_names(list(service.keepers.values())) or 'none'}")
        return service, keepers

    # Lines.

    @contextlib.asynccontextmanager
    async def _reporting(self, send: Send) -> AsyncIterator[None]:
        """Send the supervisor's log lines to the client for the duration of a command."""
        followed = Followed(asyncio.get_running_loop(), lambda line: line.slot == "runner")
        self._supervisor.journal.follow(followed.take)
        task = asyncio.create_task(followed.send(send))
        try:
            yield
        finally:
            self._supervisor.journal.unfollow(followed.take)
            await asyncio.sleep(0)  # so that lines from other threads arrive first
            followed.finish()
            await task

    async def _logs(self, request: Request, send: Send) -> Answer:
        lines, is_wanted = request.get("lines", 100), self._wanted(request)
        if not isinstance(lines, int) or isinstance(lines, bool) or lines < 0:
            raise CommandFailed(f"lines: invalid number, {lines!r}; allowed: 0 or more")
        followed = Followed(asyncio.get_running_loop(), is_wanted, HOLD)
        if request.get("follow"):
            self._supervisor.journal.follow(followed.take)
        try:
            for line in self._supervisor.journal.last(lines, is_wanted):
                await send(line_object(line))
            if not request.get("follow"):
                return {}
            await followed.send(send)
            return {}
        finally:
            self._supervisor.journal.unfollow(followed.take)

    def _wanted(self, request: Request) -> Callable[[Line], bool]:
        target, order = request.get("target"), str(request.get("order") or "")
        if target is not None:
            base, dot, _ = str(target).rpartition(".")
            if target != "runner" and not self._supervisor.journal.last(1, lambda line: line.slot == target):
                # The name of a removed slot is valid as long as the journal contains lines from the slot.
                self._target(request) if dot else self._service({"target": base or target})

        def is_wanted(line: Line) -> bool:
            is_meant = target is None or line.slot == target or line.slot.rpartition(".")[0] == target
            return is_meant and (not order or order in line.shown)

        return is_wanted


async def _on_thread(job: Callable[[], int]) -> int:
    """Run a blocking job on a thread, and return its result.

    The thread is a daemon thread, because asyncio waits at exit for the threads of its own pool.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[int] = loop.create_future()

    def finish(result: int | BaseException) -> None:
        if done.done():
            return
        if isinstance(result, BaseException):
            done.set_exception(result)
        else:
            done.set_result(result)

    def work() -> None:
        result: int | BaseException
        try:
            result = job()
        except BaseException as error:  # noqa: BLE001 - raised again by the waiting task
            result = error
        if not loop.is_closed():
            # Callbacks that the job has scheduled run before this callback.
            loop.call_soon_threadsafe(finish, result)

    threading.Thread(target=work, name="reload", daemon=True).start()
    return await done


def _names(keepers: Sequence[Keeper]) -> str:
    return ", ".join(keeper.name for keeper in keepers)
