"""aiortc as an engine: ICE, DTLS-SRTP, RTP and the codecs, with a tone to say and an ear."""

import array
import asyncio
import fractions
import math

import aiortc
import av
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp

RATE = 48_000


class Tone(aiortc.MediaStreamTrack):
    """A sine in pieces of 20 ms, at the pace of the clock."""

    kind = "audio"

    def __init__(self, hertz):
        super().__init__()
        self.hertz, self.samples, self.begun = hertz, 0, None

    async def recv(self):
        now = asyncio.get_running_loop().time()
        if self.begun is None:
            self.begun = now
        await asyncio.sleep(max(0.0, self.begun + self.samples / RATE - now))
        step = 2 * math.pi * self.hertz / RATE
        size = RATE // 50
        wave = array.array("h", (int(12_000 * math.sin(step * (self.samples + at))) for at in range(size)))
        frame = av.AudioFrame(format="s16", layout="mono", samples=size)
        frame.planes[0].update(wave.tobytes())
        frame.pts, frame.sample_rate, frame.time_base = self.samples, RATE, fractions.Fraction(1, RATE)
        self.samples += size
        return frame


class Ear:
    """What is heard: how loud, and how high by the crossings of zero in the last second."""

    def __init__(self):
        self.peak, self.last, self.rate = 0, array.array("h"), RATE

    async def listen(self, track):
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            heard = array.array("h", bytes(frame.planes[0])[: 2 * frame.samples * len(frame.layout.channels)])
            heard = heard[:: len(frame.layout.channels)]
            self.rate = frame.sample_rate
            self.peak = max(self.peak, max(map(abs, heard), default=0))
            self.last = (self.last + heard)[-self.rate :]

    def hertz(self):
        ups = sum(1 for a, b in zip(self.last, self.last[1:]) if a < 0 <= b)
        return ups * self.rate / max(1, len(self.last))


class Engine:
    """What a peer does with WebRTC. Its candidates stand in its SDP."""

    trickles = False

    def __init__(self, args, _):
        self.args, self.ear = args, Ear()
        self.version = "aiortc %s" % aiortc.__version__
        self.connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        self.connection.on("track", lambda track: asyncio.ensure_future(self.ear.listen(track)))

    async def start(self):
        pass

    async def speak(self, codec):
        """Our tone, in the one codec that is wanted."""
        self.connection.addTrack(Tone(self.args.tone))
        known = aiortc.RTCRtpSender.getCapabilities("audio").codecs
        self.connection.getTransceivers()[0].setCodecPreferences([each for each in known if each.mimeType == codec])

    async def offer(self, _=False):
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription.sdp

    async def answer(self):
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        return self.connection.localDescription.sdp

    async def hear_sdp(self, kind, sdp):
        await self.connection.setRemoteDescription(aiortc.RTCSessionDescription(sdp, kind))

    async def candidate(self, mid, line):
        if " tcp " in line.lower():
            return  # It has no ICE over TCP.
        candidate = candidate_from_sdp(line.removeprefix("candidate:"))
        candidate.sdpMid = mid
        await self.connection.addIceCandidate(candidate)

    async def stats(self):
        """Packets each way, and what is heard."""
        told = {"in": 0, "out": 0}
        for each in (await self.connection.getStats()).values():
            if each.type == "inbound-rtp":
                told["in"] += each.packetsReceived
            if each.type == "outbound-rtp":
                told["out"] += each.packetsSent
        dtls = self.connection.getTransceivers()[0].sender.transport.state
        return {**told, "dtls": dtls, "peak": self.ear.peak, "hertz": round(self.ear.hertz())}

    async def close(self):
        await self.connection.close()
