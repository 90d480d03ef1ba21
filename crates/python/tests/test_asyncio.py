"""Tasks of asyncio, in its own loop and in uvloop's."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

import capnproto_shm_transport as cst
import pytest
from conftest import WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine in a loop."""
    if request.param == "asyncio":
        return asyncio.run
    uvloop = pytest.importorskip("uvloop")

    def in_uvloop(coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(coroutine)

    return in_uvloop


ECHO = """
import sys
import capnproto_shm_transport as cst
with cst.Transport.open(sys.argv[1], 60) as b:
    for message in b:
        b.send(message)
"""


def test_round_trips_with_another_process(run, name, child):
    async def main() -> None:
        with cst.Transport.create(name) as a:
            child(ECHO, name)
            for number in range(200):
                await a.send_async(number.to_bytes(4, "little"))
                if number % 2:
                    with await a.recv_async() as message:
                        assert int.from_bytes(message, "little") == number
                else:
                    assert await a.recv_bytes_async() == number.to_bytes(4, "little")

    run(main())


def test_other_tasks_run_while_one_waits(run, name):
    async def main() -> None:
        with cst.Transport.create(name) as a, cst.Transport.open(name, WAIT) as b:
            receiving = asyncio.create_task(b.recv_bytes_async())
            for _ in range(10):
                await asyncio.sleep(0)
            assert not receiving.done()
            a.send(b"hello")
            assert await receiving == b"hello"

    run(main())


def test_a_sender_waits_for_room(run, name):
    async def main() -> None:
        with cst.Transport.create(name, slot_size=16, slot_count=4) as a, cst.Transport.open(name, WAIT) as b:

            async def produce() -> None:
                for number in range(50):
                    await a.send_async(bytes([number]) * (1 + number % 32))
                with await a.reserve_async(64) as slot:
                    slot[:] = bytes(64)
                a.close()

            producing = asyncio.create_task(produce())
            got = [bytes(message) async for message in b]
            await producing
            assert got == [bytes([n]) * (1 + n % 32) for n in range(50)] + [bytes(64)]

    run(main())


def test_a_cancelled_task_has_taken_nothing(run, name):
    async def main() -> None:
        with cst.Transport.create(name) as a, cst.Transport.open(name, WAIT) as b:
            for _ in range(20):
                receiving = asyncio.create_task(b.recv_bytes_async())
                await asyncio.sleep(0)
                receiving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await receiving
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(b.recv_bytes_async(), 0.01)
            a.send(b"hello")
            assert await b.recv_bytes_async() == b"hello"

    run(main())


def test_a_loop_that_is_left_half_way(run, name):
    async def main() -> None:
        with cst.Transport.create(name) as a, cst.Transport.open(name, WAIT) as b:
            a.send_many([b"1", b"2", b"3"])
            async for message in b:
                assert message == b"1"
                break
            with pytest.raises(ValueError, match="released"):
                bytes(message)
            kept = []
            with pytest.raises(BufferError):
                async for message in b:
                    kept.append(memoryview(message)[:])
            assert kept[0] == b"2"
            kept.clear()
            assert await b.recv_bytes_async() == b"3"

    run(main())


def test_the_end_comes_after_the_last_message(run, name, child):
    program = """
import os, signal, sys
import capnproto_shm_transport as cst
a = cst.Transport.create(sys.argv[1])
a.wait_for_peer(60)
a.send(b"last")
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""

    async def main() -> None:
        process = child(program, name)
        with cst.Transport.open(name, WAIT) as b:
            assert await b.recv_bytes_async() == b"last"
            dying = asyncio.create_task(b.recv_async())
            await asyncio.sleep(0)
            process.stdin.write("\n")
            process.stdin.flush()
            with pytest.raises(cst.PeerDead):
                await dying
            with pytest.raises(cst.PeerDead):
                async for _ in b:
                    pass
        # The death is known before the kernel drops the lock.
        process.wait(WAIT)

    run(main())
    cst.Transport.remove(name)


def test_a_second_task_is_refused_and_told_so(run, name):
    async def main() -> None:
        with (
            cst.Transport.create(name, slot_count=1) as a,
            cst.Transport.open(name, WAIT) as b,
            cst.Server.bind(f"{name}s") as server,
        ):
            a.send(b"fills the ring")
            waits = [(b, a.send_async, (b"x",)), (a, a.recv_bytes_async, ()), (server, server.accept_async, ())]
            for _, wait, args in waits:
                first = asyncio.ensure_future(wait(*args))
                await asyncio.sleep(0)
                with pytest.raises(RuntimeError, match="another task (sends|receives|accepts) on this now"):
                    await asyncio.wait_for(wait(*args), WAIT)
                with pytest.raises(RuntimeError, match="another task (sends|receives|accepts) on this now"):
                    await asyncio.to_thread(lambda wait=wait, args=args: asyncio.run(in_loop(wait, args)))
                assert not first.done()
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
            # The first one still gets what comes.
            first = asyncio.ensure_future(a.recv_bytes_async())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError):
                await asyncio.wait_for(a.recv_bytes_async(), WAIT)
            b.send(b"hello")
            assert await asyncio.wait_for(first, WAIT) == b"hello"

    async def in_loop(wait: Callable[..., Any], args: tuple[Any, ...]) -> None:
        await wait(*args)

    run(main())


@pytest.mark.parametrize("kind", LOOPS)
def test_the_next_loop_takes_over_from_one_that_was_closed(name, kind):
    with cst.Transport.create(name) as a, cst.Transport.open(name, WAIT) as b:
        old = asyncio.new_event_loop() if kind == "asyncio" else pytest.importorskip("uvloop").new_event_loop()
        kept = old.create_task(b.recv_bytes_async())
        kept._log_destroy_pending = False
        old.run_until_complete(asyncio.sleep(0))
        old.close()
        a.send(b"hello")
        assert b.recv_bytes(WAIT) == b"hello"

        async def receive() -> bytes:
            receiving = asyncio.ensure_future(b.recv_bytes_async())
            await asyncio.sleep(0)
            a.send(b"again")
            return await asyncio.wait_for(receiving, WAIT)

        assert asyncio.run(receive()) == b"again"
        assert not kept.done()
        # Its remaining objects go without a word.
        del kept, old
        gc.collect()


def test_another_thread_closes_before_the_loop_has_begun_to_watch(run, name):
    async def main() -> None:
        numbers, ended = [], []
        for _ in range(6):
            with cst.Transport.create(name) as a:
                b = cst.Transport.open(name, WAIT)
                receiving = asyncio.ensure_future(b.recv_bytes_async())
                await asyncio.sleep(0)
                numbers.append(b.fileno())
                a.send(b"hello")
                assert await asyncio.wait_for(receiving, WAIT) == b"hello"
                ended.append(asyncio.ensure_future(b.recv_bytes_async()))
                await asyncio.sleep(0)
                thread = threading.Thread(target=b.close)
                thread.start()
                thread.join(WAIT)
        # The numbers of closed descriptors are others' soon.
        assert len(set(numbers)) < len(numbers)
        for receiving in ended:
            with pytest.raises(cst.Closed):
                await asyncio.wait_for(receiving, WAIT)

    run(main())


@pytest.mark.parametrize("run", LOOPS, indirect=True)
def test_a_callback_of_the_loop_receives(run, name):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with cst.Transport.create(name, slot_count=4) as a, cst.Transport.open(name, WAIT) as b:
            got, done = [], loop.create_future()

            def receive() -> None:
                while (message := b.try_recv_bytes()) is not None or not b.arm():
                    if message is not None:
                        got.append(message)
                if len(got) == 50:
                    done.set_result(None)

            loop.add_reader(b.fileno(), receive)
            receive()
            for number in range(50):
                await a.send_async(bytes([number]))
            await asyncio.wait_for(done, WAIT)
            loop.remove_reader(b.fileno())
            assert got == [bytes([number]) for number in range(50)]

    run(main())


def test_one_task_sends_and_another_receives(run, name):
    async def main() -> None:
        with cst.Transport.create(name, slot_count=2) as a, cst.Transport.open(name, WAIT) as b:

            async def echo() -> None:
                async for message in b:
                    await b.send_async(message)

            echoing = asyncio.create_task(echo())

            async def produce() -> None:
                for number in range(100):
                    await a.send_async(bytes([number]))

            producing = asyncio.create_task(produce())
            got = [await a.recv_bytes_async() for _ in range(100)]
            assert got == [bytes([number]) for number in range(100)]
            await producing
            a.close()
            await echoing

    run(main())


def test_a_server_and_its_clients(run, name):
    async def main() -> None:
        with cst.Server.bind(name, slot_count=16) as server:

            async def serve(channel: cst.Transport) -> None:
                with channel:
                    async for message in channel:
                        await channel.send_async(message)

            async def accept() -> None:
                async with asyncio.TaskGroup() as group:
                    for _ in range(5):
                        group.create_task(serve(await server.accept_async()))

            async def client(number: int) -> None:
                channel = await asyncio.to_thread(cst.Transport.connect, name, WAIT)
                with channel:
                    for at in range(10):
                        await channel.send_async(bytes([number, at]))
                        assert await channel.recv_bytes_async() == bytes([number, at])

            async with asyncio.TaskGroup() as group:
                group.create_task(accept())
                for number in range(5):
                    group.create_task(client(number))

    run(main())


@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize("wait", ["recv_async", "recv_bytes_async", "send_async", "reserve_async", "async for"])
def test_closing_ends_the_wait_of_a_task(run, name, wait, thread):
    async def loop_over(channel: cst.Transport) -> None:
        async for _ in channel:
            pass
        raise cst.Closed

    async def main() -> None:
        with cst.Transport.create(name, slot_count=1) as a, cst.Transport.open(name, WAIT) as b:
            b.send(b"fills the ring")
            waits = {
                "recv_async": b.recv_async,
                "recv_bytes_async": b.recv_bytes_async,
                "send_async": lambda: b.send_async(b"x"),
                "reserve_async": b.reserve_async,
                "async for": lambda: loop_over(b),
            }
            task = asyncio.ensure_future(waits[wait]())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if thread:
                await asyncio.to_thread(b.close)
            else:
                b.close()
            with pytest.raises(cst.Closed):
                await asyncio.wait_for(task, WAIT)
        # The numbers of its descriptors are others' now, and the loop takes them.
        with cst.Transport.create(name) as a, cst.Transport.open(name, WAIT) as b:
            task = asyncio.ensure_future(b.recv_bytes_async())
            await asyncio.sleep(0)
            a.send(b"hello")
            assert await asyncio.wait_for(task, WAIT) == b"hello"

    run(main())


def test_a_task_that_runs_while_another_thread_closes_gets_closed(name):
    async def main() -> None:
        for _ in range(300):
            with cst.Transport.create(name) as a, cst.Transport.open(name, WAIT) as b:
                task = asyncio.ensure_future(b.recv_bytes_async())
                await asyncio.sleep(0)
                await asyncio.to_thread(b.close)
                with pytest.raises(cst.Closed):
                    await asyncio.wait_for(task, WAIT)
                a.close()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        asyncio.run(main())
    finally:
        sys.setswitchinterval(before)


def test_closing_ends_the_wait_for_a_client(run, name):
    async def main() -> None:
        with cst.Server.bind(name) as server:
            task = asyncio.ensure_future(server.accept_async())
            await asyncio.sleep(0)
            server.close()
            with pytest.raises(cst.Closed):
                await asyncio.wait_for(task, WAIT)

    run(main())
