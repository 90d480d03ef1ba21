"""Servers of many clients."""

from __future__ import annotations

import gc
import os
import threading
import time

import capnproto_shm_transport as cst
import pytest
from conftest import WAIT, left

CLIENT = """
import sys
import capnproto_shm_transport as cst
with cst.Transport.connect(sys.argv[1], 60) as channel:
    for number in range(10):
        channel.send(bytes([number]))
        assert channel.recv_bytes(60) == bytes([number])
"""


def test_each_client_has_a_channel_of_its_own(name, child):
    with cst.Server.bind(name, slot_size=64, slot_count=16) as server:
        processes = [child(CLIENT, name) for _ in range(3)]

        def serve(channel: cst.Transport) -> None:
            with channel:
                for message in channel:
                    channel.send(message)

        threads = []
        for _ in processes:
            channel = server.accept(WAIT)
            assert channel.peer.pid in [process.pid for process in processes]
            assert channel.peer.uid == os.getuid()
            threads.append(threading.Thread(target=serve, args=(channel,)))
            threads[-1].start()
        assert [process.wait(WAIT) for process in processes] == [0] * 3
        for thread in threads:
            thread.join(WAIT)
        del channel, threads
        assert server.clients == 0


def test_calls_that_do_not_wait_and_timeouts(name):
    with pytest.raises(TimeoutError, match="no server .* after 60ms"):
        cst.Transport.connect(name, timeout=0.06)
    with cst.Server.bind(name) as server:
        assert server.try_accept() is None
        with pytest.raises(TimeoutError):
            server.accept(timeout=0.01)
        with pytest.raises(cst.InUse):
            cst.Server.bind(name)
        assert [info.name for info in cst.servers() if info.name == name] == [name]
        assert repr(server) == f'<Server "{name}">'
    for call in (server.accept, server.try_accept, server.fileno):
        with pytest.raises(cst.Closed):
            call()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_filter_says_who_may_connect(name):
    asked = []

    def filter_(peer: cst.Peer) -> bool:
        asked.append(peer.pid)
        if len(asked) == 2:
            raise ZeroDivisionError
        return len(asked) == 3

    with cst.Server.bind(name, filter=filter_) as server:
        outcomes = []

        def client() -> None:
            for _ in range(2):
                try:
                    cst.Transport.connect(name, WAIT)
                except cst.ChannelError as error:
                    outcomes.append(str(error))
            with cst.Transport.connect(name, WAIT) as channel:
                channel.send(b"in")
                channel.finish(WAIT)

        thread = threading.Thread(target=client)
        thread.start()
        with server.accept(WAIT) as channel:
            assert channel.recv_bytes(WAIT) == b"in"
        thread.join(WAIT)
    assert asked == [os.getpid()] * 3
    assert ["refuses" in outcome for outcome in outcomes] == [True, True]


def test_a_filter_knows_how_many_clients_there_are(name):
    with cst.Server.bind(name, filter=lambda _peer: server.clients < 2) as server:
        outcomes = []

        def client() -> None:
            with cst.Transport.connect(name, WAIT), cst.Transport.connect(name, WAIT):
                with pytest.raises(cst.ChannelError, match="refuses"):
                    cst.Transport.connect(name, WAIT)
                outcomes.append(True)

        thread = threading.Thread(target=client)
        thread.start()
        channels = [server.accept(WAIT), server.accept(WAIT)]
        while not outcomes:
            assert server.try_accept() is None
        thread.join(WAIT)
        assert len(channels) == 2


@pytest.mark.parametrize("closes", ["thread", "filter"])
def test_closing_ends_the_wait_for_a_client(name, closes):
    with cst.Server.bind(name, filter=lambda _peer: server.close()) as server:
        ended = []

        def accept() -> None:
            try:
                server.accept()
            except cst.Closed as error:
                ended.append(str(error))

        thread = threading.Thread(target=accept)
        thread.start()
        with pytest.raises(RuntimeError, match="another call uses this server"):
            while True:
                server.fileno()
        assert server.clients == 0
        if closes == "filter":
            while thread.is_alive():
                with pytest.raises((cst.ChannelError, TimeoutError)):
                    cst.Transport.connect(name, 0.5)
        else:
            server.close()
        thread.join(WAIT)
    assert ended == ["this server was closed"]
    with pytest.raises(cst.Closed, match="this server was closed"):
        server.accept()


def test_a_filter_may_take_its_time(name):
    # A client asks once, so the filter is asked once, however long it thinks.
    asked = []

    def slow(peer: cst.Peer) -> bool:
        time.sleep(0.2)
        asked.append(peer.pid)
        return True

    with cst.Server.bind(name, filter=slow) as server:

        def client() -> None:
            with cst.Transport.connect(name, WAIT) as channel:
                channel.send(b"in")
                channel.finish(WAIT)

        thread = threading.Thread(target=client)
        thread.start()
        with server.accept(WAIT) as channel:
            assert channel.recv_bytes(WAIT) == b"in"
        thread.join(WAIT)
    assert asked == [os.getpid()]


def test_a_client_that_is_killed_disturbs_nobody(name, child):
    program = """
import os, sys
import capnproto_shm_transport as cst
channel = cst.Transport.connect(sys.argv[1], 60)
channel.send(b"last")
os.kill(os.getpid(), 9)
"""
    with cst.Server.bind(name, slot_count=16) as server:
        child(program, name)
        with server.accept(WAIT) as channel:
            assert channel.recv_bytes(WAIT) == b"last"
            with pytest.raises(cst.PeerDead):
                channel.recv(WAIT)
        process = child(CLIENT, name)
        with server.accept(WAIT) as channel:
            for message in channel:
                channel.send(message)
        assert process.wait(WAIT) == 0


def test_a_server_that_its_filter_knows_is_collected(name):
    class Keeper:
        def __init__(self) -> None:
            self.server = cst.Server.bind(name, filter=self.may)

        def may(self, _peer: cst.Peer) -> bool:
            return self.server.clients < 2

    keeper = Keeper()
    assert left(name)
    del keeper
    gc.collect()
    assert left(name) == []


def test_a_server_ends_with_the_interpreter(name, child):
    program = """
import sys
import capnproto_shm_transport as cst
server = cst.Server.bind(sys.argv[1], filter=lambda peer: server.clients < 2)
"""
    assert child(program, name).wait(WAIT) == 0
    assert left(name) == []


def test_what_a_dead_server_left_is_removed(name, child):
    with pytest.raises(FileNotFoundError, match=name):
        cst.Server.remove(name)
    with cst.Server.bind(name), pytest.raises(cst.InUse, match=name):
        cst.Server.remove(name)
    program = """
import os, sys
import capnproto_shm_transport as cst
server = cst.Server.bind(sys.argv[1])
os.kill(os.getpid(), 9)
"""
    assert child(program, name).wait(WAIT) == -9
    assert left(name)
    cst.Server.remove(name)
    assert left(name) == []
