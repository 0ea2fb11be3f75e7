"""aioice behind the words of `cargo xtask peer`."""
import argparse
import asyncio
import sys
import time
import zlib

import aioice
import aioice.ice

parser = argparse.ArgumentParser()
parser.add_argument("--controlling", action="store_true")
parser.add_argument("--send", type=int, default=0)
parser.add_argument("--expect", type=int, default=0)
args = parser.parse_args()

# By itself it leaves loopback out.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


def say(*words):
    print(*words, flush=True)


def pattern(at):
    return (at * 2654435761 & 0xFFFFFFFF) >> 13 & 255


async def main():
    ice = aioice.Connection(ice_controlling=args.controlling, components=1)
    await ice.gather_candidates()
    say("local", ice.local_username, ice.local_password)
    for candidate in ice.local_candidates:
        say("cand", "candidate:" + candidate.to_sdp())
    say("gathering-done")

    lines = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    begin, start, close = asyncio.Event(), asyncio.Event(), asyncio.Event()
    since = 0.0

    async def read():
        nonlocal since
        while line := (await lines.readline()).decode().strip():
            word, _, rest = line.partition(" ")
            if word == "remote":
                ice.remote_username, ice.remote_password = rest.split(" ")
                since = time.monotonic()
            elif word == "cand":
                text = rest.removeprefix("candidate:")
                await ice.add_remote_candidate(aioice.Candidate.from_sdp(text))
                begin.set()
            elif word == "remote-done":
                await ice.add_remote_candidate(None)
            elif word == "start":
                start.set()
            elif word == "close":
                break
        close.set()

    reader = asyncio.create_task(read())
    await begin.wait()
    await ice.connect()
    elapsed = (time.monotonic() - since) * 1e3
    say("connected %.3f" % elapsed)
    say("nominated %.3f" % elapsed)

    sent, sum_sent, received, sum_received = 0, 1, 0, 1

    async def send():
        nonlocal sent, sum_sent
        await start.wait()
        while sent < args.send:
            size = min(1000, args.send - sent)
            datagram = bytes(pattern(sent + at) for at in range(size))
            await ice.send(datagram)
            sum_sent = zlib.adler32(datagram, sum_sent)
            sent += size
            await asyncio.sleep(0.0005)

    sender = asyncio.create_task(send())
    while received < args.expect:
        datagram = await ice.recv()
        received += len(datagram)
        sum_received = zlib.adler32(datagram, sum_received)
    await sender
    say("done sent %d %08x recv %d %08x" % (sent, sum_sent, received, sum_received))
    await close.wait()
    reader.cancel()
    await ice.close()


asyncio.run(main())
