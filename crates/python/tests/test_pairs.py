"""Every pair of languages as creator and opener, for every kind of message.

The environment says where the others are: CSHM_PEER_RUST, and CSHM_PEER_CPP, see `ci/python`.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import WAIT, left

PEERS = {
    "python": [sys.executable, "-X", "dev", str(Path(__file__).with_name("peer.py"))],
    "rust": os.environ.get("CSHM_PEER_RUST", "").split(),
    "cpp": os.environ.get("CSHM_PEER_CPP", "").split(),
}
PAIRS = [pair for pair in itertools.product(PEERS, repeat=2) if "python" in pair]
ENDINGS = [
    ("closes", "sees-close"),
    ("sees-close", "closes"),
    ("dies", "sees-death"),
    ("sees-death", "dies"),
    ("streams", "sees-stream"),
    ("waits", "wrong"),
]


@pytest.mark.parametrize("endings", ENDINGS, ids="-".join)
@pytest.mark.parametrize("kind", ["raw", "values", "capnp"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_pair(name, pair, kind, endings):
    if not all(PEERS[language] for language in pair):
        pytest.skip("the environment names no such peer")
    start = [
        [*PEERS[language], side, kind, ending, name]
        for language, side, ending in zip(pair, ("create", "open"), endings, strict=True)
    ]
    pipe = subprocess.PIPE
    a, b = (subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for command in start)  # noqa: S603
    try:
        if endings[0] == "streams":
            assert b.stdout.readline() == "there\n"
            # Whenever it is, nothing may be lost.
            time.sleep(random.random() / 100)  # noqa: S311
            a.kill()
        b.communicate(timeout=3 * WAIT)
        a.communicate(timeout=3 * WAIT)
        died = (-9, -9)
        assert a.returncode == (died[0] if endings[0] in ("dies", "streams") else 0)
        assert b.returncode == (died[1] if endings[1] == "dies" else 0)
    finally:
        for process in (a, b):
            process.kill()
            process.communicate()
        if endings[0] in ("dies", "streams"):
            # A dead side A leaves files, which the next one would reclaim.
            for path in left(name):
                path.unlink()
