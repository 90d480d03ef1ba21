#!/usr/bin/env python3
"""Reads the Cap'n Proto messages of a recording with pycapnp, each by the type that the recording names.

    pip install mcap pycapnp
    python3 crates/cli/examples/read_recording.py schema/quotes.capnp quotes.mcap [TOPIC]

A topic is CHANNEL/a_to_b or CHANNEL/b_to_a. A file that is cut, because its recorder was killed, is read up to its last whole
chunk.
"""

import struct
import sys

import capnp
from mcap.exceptions import McapError
from mcap.reader import NonSeekingReader

capnp.remove_import_hook()


def types_of(scope, found=None):
    """Every struct of a schema, those within others too, by its id as recordings write it."""
    found = {} if found is None else found
    for name in dir(scope):
        inner = getattr(scope, name)
        if not name.startswith("_") and hasattr(inner, "schema") and hasattr(inner, "from_bytes"):
            type_id = f"{inner.schema.node.id:#018x}"
            if type_id not in found:
                found[type_id] = inner
                types_of(inner, found)
    return found


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    schema, recording, *topics = sys.argv[1:]
    types = types_of(capnp.load(schema))
    with open(recording, "rb") as file:
        messages = NonSeekingReader(file).iter_messages(topics=topics or None, log_time_order=False)
        try:
            for _, channel, message in messages:
                if channel.message_encoding != "capnp":
                    continue
                type_id = channel.metadata["type_id"]
                if type_id not in types:
                    sys.exit(f"{schema} has no type {type_id}, which {channel.topic} carries")
                with types[type_id].from_bytes(message.data) as decoded:
                    print(f"{message.log_time} {channel.topic}\n{decoded}")
        except (McapError, EOFError, RuntimeError, struct.error) as cut:
            sys.exit(f"the recording is cut short: {cut}")


if __name__ == "__main__":
    main()
