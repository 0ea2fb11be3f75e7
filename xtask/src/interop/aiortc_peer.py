"""aiortc's data channels behind the words of `cargo xtask peer`."""
import argparse
import asyncio
import sys
import time
import zlib

import aioice.ice
from aiortc import (
    RTCCertificate,
    RTCDataChannel,
    RTCDataChannelParameters,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
    RTCSctpCapabilities,
    RTCSctpTransport,
)
from aiortc.sdp import candidate_from_sdp, candidate_to_sdp

parser = argparse.ArgumentParser()
parser.add_argument("--controlling", action="store_true")
parser.add_argument("--send", type=int, default=0)
parser.add_argument("--expect", type=int, default=0)
args = parser.parse_args()

# By itself it leaves loopback out.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]

PIECE = 20_000
# What may wait in a channel: it has no bound of its own.
WAITING = 1 << 20


def say(*words):
    print(*words, flush=True)


def pattern(begin, size):
    at = range(begin, begin + size)
    return bytes((i * 2654435761 & 0xFFFFFFFF) >> 13 & 255 for i in at)


async def main():
    gatherer = RTCIceGatherer(iceServers=[])
    ice = RTCIceTransport(gatherer)
    ice._connection.ice_controlling = args.controlling
    dtls = RTCDtlsTransport(ice, [RTCCertificate.generateCertificate()])
    # An offer leaves the role to the peer, which begins.
    dtls._set_role("server" if args.controlling else "client")
    sctp = RTCSctpTransport(dtls)
    await gatherer.gather()
    setup = "actpass" if args.controlling else "active"
    digest = next(f for f in dtls.getLocalParameters().fingerprints if f.algorithm == "sha-256")
    say("dtls", setup, digest.algorithm, digest.value)
    say("sctp", sctp.port)
    local = gatherer.getLocalParameters()
    say("local", local.usernameFragment, local.password)
    for candidate in gatherer.getLocalCandidates():
        say("cand", "candidate:" + candidate_to_sdp(candidate))
    say("gathering-done")

    lines = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    begin, start, close, all_here = (asyncio.Event() for _ in range(4))
    remote = {}

    async def read():
        while line := (await lines.readline()).decode().strip():
            word, _, rest = line.partition(" ")
            if word == "cand":
                candidate = candidate_from_sdp(rest.removeprefix("candidate:"))
                candidate.sdpMid = "0"
                await ice.addRemoteCandidate(candidate)
                begin.set()
            elif word == "remote-done":
                await ice.addRemoteCandidate(None)
            elif word == "start":
                start.set()
            elif word == "close":
                break
            else:
                remote[word] = rest.split(" ")
                remote["since"] = time.monotonic()
        close.set()

    received, sum_received = 0, 1

    def on_message(message):
        nonlocal received, sum_received
        received += len(message)
        sum_received = zlib.adler32(message, sum_received)
        if received >= args.expect:
            all_here.set()

    sctp.on("datachannel", lambda channel: channel.on("message", on_message))
    reader = asyncio.create_task(read())
    await begin.wait()
    await ice.start(RTCIceParameters(*remote["remote"]))
    elapsed = (time.monotonic() - remote["since"]) * 1e3
    say("connected %.3f" % elapsed)
    say("nominated %.3f" % elapsed)
    _, algorithm, value = remote["dtls"]
    digest = RTCDtlsFingerprint(algorithm=algorithm, value=value)
    await dtls.start(RTCDtlsParameters(fingerprints=[digest]))
    await sctp.start(RTCSctpCapabilities(maxMessageSize=262144), int(remote["sctp"][0]))
    channel = RTCDataChannel(sctp, RTCDataChannelParameters(label="peer"))
    channel.on("message", on_message)

    await start.wait()
    sent, sum_sent = 0, 1
    while sent < args.send:
        if channel.readyState != "open" or channel.bufferedAmount > WAITING:
            await asyncio.sleep(0.001)
            continue
        piece = pattern(sent, min(PIECE, args.send - sent))
        channel.send(piece)
        sum_sent = zlib.adler32(piece, sum_sent)
        sent += len(piece)
        await asyncio.sleep(0)
    await all_here.wait()
    say("done sent %d %08x recv %d %08x" % (sent, sum_sent, received, sum_received))
    await close.wait()
    reader.cancel()
    await sctp.stop()
    await dtls.stop()
    await ice.stop()


asyncio.run(main())
