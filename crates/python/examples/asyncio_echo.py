"""A server that answers many clients, in one event loop.

python crates/python/examples/asyncio_echo.py              # the server and three clients, in processes of their own
python crates/python/examples/asyncio_echo.py --uvloop     # the same in uvloop
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import time

import capnproto_shm_transport as cst

PATIENCE = 30.0


async def answer(channel: cst.Transport) -> int:
    """Answer one client until it closes."""
    count = 0
    with channel:
        async for message in channel:
            await channel.send_async(message)
            count += 1
    return count


async def serve(name: str, clients: int) -> list[int]:
    """Serve so many clients, each in a task."""
    with cst.Server.bind(name, slot_count=64) as server:
        tasks = [asyncio.create_task(answer(await server.accept_async())) for _ in range(clients)]
        return await asyncio.gather(*tasks)


async def ask(name: str, rounds: int) -> None:
    """Ask so often, and say how long an answer takes."""
    with cst.Transport.connect(name, PATIENCE) as channel:
        began = time.perf_counter()
        for number in range(rounds):
            await channel.send_async(number.to_bytes(8, "little"))
            with await channel.recv_async() as message:
                if int.from_bytes(message, "little") != number:
                    text = f"another answer than {number}"
                    raise RuntimeError(text)
        each = (time.perf_counter() - began) / rounds
    print(f"client {os.getpid()}: {rounds} answers, {each * 1e6:.0f} µs each")


def client(name: str, rounds: int) -> None:
    """Be a client, in a process of its own."""
    asyncio.run(ask(name, rounds))


def main() -> None:
    """Start the clients and serve them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--uvloop", action="store_true")
    args = parser.parse_args()

    factory = None
    if args.uvloop:
        import uvloop  # noqa: PLC0415 - only if it is wanted

        factory = uvloop.new_event_loop
    name = f"asyncio-echo-{os.getpid()}"
    # A forked child could not use a channel of its parent's.
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=client, args=(name, args.rounds)) for _ in range(args.clients)]
    for process in processes:
        process.start()
    with asyncio.Runner(loop_factory=factory) as runner:
        answered = runner.run(serve(name, args.clients))
    for process in processes:
        process.join()
        if process.exitcode != 0:
            raise SystemExit(process.exitcode or 1)
    print(f"server: {sum(answered)} answers to {args.clients} clients")


if __name__ == "__main__":
    main()
