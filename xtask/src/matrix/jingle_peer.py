"""A Jingle peer for one voice call, made of libraries that others wrote: slixmpp speaks XMPP; aiortc has ICE, DTLS-SRTP, RTP and
the codecs. Only the words between Jingle (XEP-0166, 0167, 0176, 0293, 0320) and SDP are written here.

  jingle_peer.py --jid juliet@localhost/peer --password-file FILE --host H --port P --ca FILE --codec opus --accept
  jingle_peer.py ... --codec pcmu --call romeo@localhost/call-1
  jingle_peer.py ... --contents, with either: in mid-call it adds pictures, and stops the other side's sound for a while

Prints a JSON object a line. It ends with 0 when sound went both ways and the call ended in order."""

import argparse
import array
import asyncio
import fractions
import json
import math
import secrets
import sys
from xml.etree import ElementTree

import aiortc
import av
import slixmpp
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp
from slixmpp.xmlstream.handler import CoroutineCallback
from slixmpp.xmlstream.matcher import MatchXPath

JINGLE = "urn:xmpp:jingle:1"
RTP = "urn:xmpp:jingle:apps:rtp:1"
ICE = "urn:xmpp:jingle:transports:ice-udp:1"
DTLS = "urn:xmpp:jingle:apps:dtls:0"
FEATURES = [JINGLE, RTP, "urn:xmpp:jingle:apps:rtp:audio", ICE, DTLS]
CODECS = {"opus": "audio/opus", "pcmu": "audio/PCMU"}
# Packets each way that make a conversation, and how loud a tone is at least (of 32,767).
PACKETS = 50
LOUD = 2000
RATE = 48_000
# How long we alone may send, in seconds; how many packets may still be on their way then.
ALONE, LATE = 1.5, 10


def tell(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def name(namespace, local):
    return "{%s}%s" % (namespace, local)


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


def to_sdp(jingle, kind):
    """The SDP of an offer or an answer in Jingle with one audio content."""
    content = jingle.find(name(JINGLE, "content"))
    description, transport = content.find(name(RTP, "description")), content.find(name(ICE, "transport"))
    payloads = description.findall(name(RTP, "payload-type"))
    mid = content.get("name")
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE " + mid, "a=msid-semantic: WMS *"]
    lines.append("m=audio 9 UDP/TLS/RTP/SAVPF " + " ".join(payload.get("id") for payload in payloads))
    lines += ["c=IN IP4 0.0.0.0", "a=sendrecv", "a=mid:" + mid, "a=rtcp-mux"]
    for payload in payloads:
        number, channels = payload.get("id"), payload.get("channels", "1")
        known = {"0": ("PCMU", "8000"), "8": ("PCMA", "8000"), "9": ("G722", "8000")}.get(number, (None, None))
        codec, rate = payload.get("name") or known[0], payload.get("clockrate") or known[1]
        if codec is None:
            continue
        lines.append("a=rtpmap:%s %s/%s%s" % (number, codec, rate, "" if channels == "1" else "/" + channels))
        found = payload.findall(name(RTP, "parameter"))
        pairs = ["%s=%s" % (each.get("name"), each.get("value")) for each in found if each.get("name")]
        if pairs:
            lines.append("a=fmtp:%s %s" % (number, ";".join(pairs)))
    lines += ["a=ice-ufrag:" + transport.get("ufrag"), "a=ice-pwd:" + transport.get("pwd")]
    for each in transport.findall(name(DTLS, "fingerprint")):
        setup = each.get("setup") or ("actpass" if kind == "offer" else "active")
        lines += ["a=fingerprint:%s %s" % (each.get("hash"), each.text.strip().upper()), "a=setup:" + setup]
    lines += ["a=" + text for text in map(candidate_to_sdp, transport.findall(name(ICE, "candidate"))) if text]
    return "\r\n".join(lines) + "\r\n"


def candidate_to_sdp(each):
    if each.get("protocol", "udp").lower() != "udp":
        return None  # aiortc has no ICE over TCP.
    words = [each.get(key) for key in ("foundation", "component", "protocol", "priority", "ip", "port")]
    words += ["typ", each.get("type")]
    if each.get("rel-addr"):
        words += ["raddr", each.get("rel-addr"), "rport", each.get("rel-port")]
    return "candidate:" + " ".join(words)


def to_jingle(sdp, action, sid, initiator, responder):
    """An offer or an answer in Jingle, from the SDP of one audio section."""
    jingle = ElementTree.Element(name(JINGLE, "jingle"), {"action": action, "sid": sid, "initiator": initiator})
    if responder:
        jingle.set("responder", responder)
    lines = [line[2:] for line in sdp.splitlines() if line.startswith("a=")]
    values = lambda key: [line[len(key) + 1 :] for line in lines if line.startswith(key + ":")]
    mid = values("mid")[0]
    attributes = {"creator": "initiator", "name": mid, "senders": "both"}
    content = ElementTree.SubElement(jingle, name(JINGLE, "content"), attributes)
    description = ElementTree.SubElement(content, name(RTP, "description"), {"media": "audio"})
    for line in values("rtpmap"):
        number, codec = line.split(" ")
        codec, rate, *channels = codec.split("/")
        payload = {"id": number, "name": codec, "clockrate": rate, **({"channels": channels[0]} if channels else {})}
        payload = ElementTree.SubElement(description, name(RTP, "payload-type"), payload)
        for parameters in (text.split(" ", 1)[1] for text in values("fmtp") if text.split(" ")[0] == number):
            for pair in parameters.split(";"):
                key, _, value = pair.strip().partition("=")
                ElementTree.SubElement(payload, name(RTP, "parameter"), {"name": key, "value": value})
    ElementTree.SubElement(description, name(RTP, "rtcp-mux"))
    access = {"ufrag": values("ice-ufrag")[0], "pwd": values("ice-pwd")[0]}
    transport = ElementTree.SubElement(content, name(ICE, "transport"), access)
    digests = [text for text in values("fingerprint") if text.startswith("sha-256 ")]
    algorithm, digest = digests[0].split(" ")
    marked = {"hash": algorithm, "setup": values("setup")[0]}
    ElementTree.SubElement(transport, name(DTLS, "fingerprint"), marked).text = digest
    for number, line in enumerate(values("candidate")):
        words = line.split(" ")
        candidate = dict(zip(("foundation", "component", "protocol", "priority", "ip", "port"), words))
        candidate.update({"type": words[7], "generation": "0", "network": "0", "id": "c%d" % number})
        ElementTree.SubElement(transport, name(ICE, "candidate"), candidate)
    return jingle


def rtp(media, payload):
    description = ElementTree.Element(name(RTP, "description"), {"media": media})
    ElementTree.SubElement(description, name(RTP, "payload-type"), payload)
    return description


def reason_of(jingle):
    reason = jingle.find(name(JINGLE, "reason"))
    return reason[0].tag.split("}")[1] if reason is not None and len(reason) else None


class Peer(slixmpp.ClientXMPP):
    def __init__(self, args):
        with open(args.password_file, encoding="utf-8") as file:
            password = file.readline().rstrip("\n")
        super().__init__(args.jid, password)
        self.args, self.ca_certs = args, args.ca
        self.over = asyncio.Event()
        self.failure = None
        self.connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        self.ear, self.waiting, self.peer, self.sid = Ear(), [], None, None
        self.rejected, self.news = {}, asyncio.Event()
        self.connection.on("track", lambda track: asyncio.ensure_future(self.ear.listen(track)))
        self.register_plugin("xep_0030")
        self.register_plugin("xep_0115")
        for feature in FEATURES:
            self.plugin["xep_0030"].add_feature(feature)
        match = MatchXPath("{jabber:client}iq/" + name(JINGLE, "jingle"))
        self.register_handler(CoroutineCallback("jingle", match, self.on_jingle))
        self.add_event_handler("session_start", self.on_start)
        self.add_event_handler("failed_all_auth", lambda _: self.fail("no login"))

    def fail(self, why):
        self.failure = self.failure or why
        self.over.set()

    async def on_start(self, _):
        await self.plugin["xep_0115"].update_caps()
        self.send_presence()
        tell("online", jid=str(self.boundjid))
        if self.args.call:
            self.peer, self.sid = self.args.call, secrets.token_hex(8)
            self.speak()
            await self.connection.setLocalDescription(await self.connection.createOffer())
            await self.say("session-initiate")

    def speak(self):
        """Our tone, in the one codec that is wanted."""
        self.connection.addTrack(Tone(self.args.tone))
        known = aiortc.RTCRtpSender.getCapabilities("audio").codecs
        wanted = [codec for codec in known if codec.mimeType == CODECS[self.args.codec]]
        self.connection.getTransceivers()[0].setCodecPreferences(wanted)

    async def say(self, action):
        ours, initiator = str(self.boundjid), bool(self.args.call)
        pair = (ours, None) if initiator else (self.peer, ours)
        await self.ask(to_jingle(self.connection.localDescription.sdp, action, self.sid, *pair))

    async def ask(self, jingle):
        iq = self.make_iq_set(ito=self.peer)
        iq.xml.append(jingle)
        await iq.send(timeout=20)

    async def on_jingle(self, iq):
        jingle = iq.xml.find(name(JINGLE, "jingle"))
        if iq["type"] != "set" or jingle is None:
            return
        iq.reply(clear=True).send()
        action = jingle.get("action")
        tell("heard", action=action)
        try:
            await self.act(action, jingle, str(iq["from"]))
        except Exception as error:  # What does not work is the result of a test.
            self.fail("%s: %r" % (action, error))

    async def act(self, action, jingle, sender):
        if action == "session-initiate":
            self.peer, self.sid = sender, jingle.get("sid")
            # What is agreed on is decided when the offer is taken.
            self.speak()
            offer = aiortc.RTCSessionDescription(to_sdp(jingle, "offer"), "offer")
            await self.connection.setRemoteDescription(offer)
            await self.connection.setLocalDescription(await self.connection.createAnswer())
            await self.say("session-accept")
            await self.add_candidates()
            if self.args.contents:
                asyncio.ensure_future(self.guarded(self.change_contents()))
        elif action == "session-accept":
            answer = aiortc.RTCSessionDescription(to_sdp(jingle, "answer"), "answer")
            await self.connection.setRemoteDescription(answer)
            await self.add_candidates()
            asyncio.ensure_future(self.guarded(self.hang_up_later()))
        elif action == "transport-info":
            found = jingle.iter(name(ICE, "candidate"))
            self.waiting += filter(None, map(candidate_to_sdp, found))
            await self.add_candidates()
        elif action == "session-terminate":
            await self.end(reason_of(jingle))
        elif action == "content-reject":
            self.rejected.update({each.get("name"): reason_of(jingle) for each in jingle.iter(name(JINGLE, "content"))})
            self.news.set()
        elif action == "content-accept":
            raise ValueError("it accepts what it cannot have")

    async def add_candidates(self):
        if self.connection.remoteDescription is None:
            return
        while self.waiting:
            candidate = candidate_from_sdp(self.waiting.pop(0).removeprefix("candidate:"))
            candidate.sdpMid = self.connection.getTransceivers()[0].mid
            await self.connection.addIceCandidate(candidate)

    async def guarded(self, doing):
        """What goes wrong beside the stream of stanzas is a result, too."""
        try:
            await doing
        except Exception as error:
            self.fail("%r" % error)

    def jingle(self, action):
        initiator = str(self.boundjid) if self.args.call else self.peer
        return ElementTree.Element(name(JINGLE, "jingle"), {"action": action, "sid": self.sid, "initiator": initiator})

    async def change(self, action, content, senders, creator, description=None):
        """Says something about one content; with a description it has a transport of its own."""
        jingle = self.jingle(action)
        attributes = {"creator": creator, "name": content, "senders": senders}
        content = ElementTree.SubElement(jingle, name(JINGLE, "content"), attributes)
        if description is not None:
            content.append(description)
            access = {"ufrag": secrets.token_hex(4), "pwd": secrets.token_hex(12)}
            transport = ElementTree.SubElement(content, name(ICE, "transport"), access)
            digest = ":".join("%02X" % byte for byte in secrets.token_bytes(32))
            marked = {"hash": "sha-256", "setup": "actpass"}
            ElementTree.SubElement(transport, name(DTLS, "fingerprint"), marked).text = digest
        await self.ask(jingle)

    async def change_contents(self):
        """Adds a camera and a screen, withdraws one, adds what nobody knows, and is the only one to speak for a while."""
        ours, theirs = ("initiator", "responder") if self.args.call else ("responder", "initiator")
        await self.packets_more_than(PACKETS)
        video = lambda codec: rtp("video", {"id": "96", "name": codec, "clockrate": "90000"})
        await self.change("content-add", "camera", "both", ours, video("VP8"))
        await self.change("content-add", "screen", ours, ours, video("VP9"))
        await self.change("content-add", "board", "both", ours, ElementTree.Element(name("urn:example:board", "description")))
        await self.change("content-add", "late", "both", ours, video("VP8"))
        await self.change("content-remove", "late", "both", ours)
        while not {"camera", "screen", "board"} <= self.rejected.keys():
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 10)
        tell("rejected", **self.rejected)
        mid = self.connection.getTransceivers()[0].mid
        await self.change("content-modify", mid, ours, "initiator")
        await asyncio.sleep(0.3)
        before = (await self.counts())["in"]
        await asyncio.sleep(ALONE)
        came = (await self.counts())["in"] - before
        await self.change("content-modify", mid, "both", "initiator")
        tell("alone", came=came)
        if came > LATE:
            raise ValueError("%d packets came from who was not to send" % came)
        await self.packets_more_than(before + PACKETS)

    async def packets_more_than(self, count):
        for _ in range(200):
            if (await self.counts())["in"] > count:
                return
            await asyncio.sleep(0.05)
        raise ValueError("no more than %d packets came" % count)

    async def hang_up_later(self):
        if self.args.contents:
            await self.change_contents()
        await asyncio.sleep(self.args.seconds)
        jingle = self.jingle("session-terminate")
        ElementTree.SubElement(ElementTree.SubElement(jingle, name(JINGLE, "reason")), name(JINGLE, "success"))
        await self.ask(jingle)
        await self.end("success")

    async def counts(self):
        """Packets each way."""
        counts = {"in": 0, "out": 0}
        for each in (await self.connection.getStats()).values():
            if each.type == "inbound-rtp":
                counts["in"] += each.packetsReceived
            if each.type == "outbound-rtp":
                counts["out"] += each.packetsSent
        return counts

    async def end(self, reason):
        counts = await self.counts()
        state = self.connection.getTransceivers()[0].sender.transport.state
        hertz = round(self.ear.hertz())
        codec = self.codec()
        tell("media", **counts, peak=self.ear.peak, hertz=hertz, dtls=state, codec=codec, reason=reason)
        if reason != "success":
            self.fail("it ended with %s" % reason)
        elif min(counts.values()) < PACKETS or self.ear.peak < LOUD:
            self.fail("too little sound: %r, peak %d" % (counts, self.ear.peak))
        elif codec != CODECS[self.args.codec].split("/")[1]:
            self.fail("the codec was %s" % codec)
        self.over.set()


    def codec(self):
        """The first codec of the answer."""
        caller = bool(self.args.call)
        answer = self.connection.remoteDescription if caller else self.connection.localDescription
        lines = answer.sdp.splitlines() if answer else []
        found = [line.split(" ")[1].split("/")[0] for line in lines if line.startswith("a=rtpmap:")]
        return found[0] if found else None


async def main():
    parser = argparse.ArgumentParser()
    for option in ("--jid", "--password-file", "--host", "--ca"):
        parser.add_argument(option, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--codec", choices=sorted(CODECS), required=True)
    parser.add_argument("--tone", type=int, default=660)
    parser.add_argument("--seconds", type=float, default=4, help="of conversation, before it hangs up as the caller")
    parser.add_argument("--contents", action="store_true", help="add and change contents in mid-call")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--call")
    what.add_argument("--accept", action="store_true")
    args = parser.parse_args()
    peer = Peer(args)
    peer.connect(args.host, args.port)
    try:
        await asyncio.wait_for(peer.over.wait(), 60)
    except asyncio.TimeoutError:
        peer.fail("nothing for a minute")
    if peer.failure:
        tell("failed", why=peer.failure)
    await peer.connection.close()
    await peer.disconnect()
    return 1 if peer.failure else 0


sys.exit(asyncio.run(main()))
