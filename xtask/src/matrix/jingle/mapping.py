"""Jingle and SDP, each in terms of the other: XEP-0166, 0167, 0176, 0293, 0294, 0320, 0338, 0339, 0343.

What an engine says goes over with its meaning unchanged, and so does what its peer says: nothing is chosen, filtered or
repaired here. Who uses it keeps what each side has said, as a list of contents in the order of SDP's sections."""

import itertools
from xml.etree import ElementTree

JINGLE = "urn:xmpp:jingle:1"
RTP = "urn:xmpp:jingle:apps:rtp:1"
INFO = "urn:xmpp:jingle:apps:rtp:info:1"
FEEDBACK = "urn:xmpp:jingle:apps:rtp:rtcp-fb:0"
EXTENSIONS = "urn:xmpp:jingle:apps:rtp:rtp-hdrext:0"
SOURCES = "urn:xmpp:jingle:apps:rtp:ssma:0"
GROUPING = "urn:xmpp:jingle:apps:grouping:0"
ICE = "urn:xmpp:jingle:transports:ice-udp:1"
DTLS = "urn:xmpp:jingle:apps:dtls:0"
SCTP = "urn:xmpp:jingle:transports:dtls-sctp:1"
FILES = "urn:xmpp:jingle:apps:file-transfer:5"

# Codecs that Jingle may leave without a name, and sources' parameters that SDP has as words of their own.
STATIC = {"0": ("PCMU", "8000"), "8": ("PCMA", "8000"), "9": ("G722", "8000"), "13": ("CN", "8000")}
ids = itertools.count()


def name(namespace, local):
    return "{%s}%s" % (namespace, local)


def put(parent, namespace, local, **attributes):
    attributes = {key.replace("_", "-"): str(value) for key, value in attributes.items() if value is not None}
    return ElementTree.SubElement(parent, name(namespace, local), attributes)


class Section:
    """An `m=` section of an SDP, with what stands before the first as far as it holds for all."""

    def __init__(self, line, head):
        self.kind, self.port, self.protocol, *self.formats = line[2:].split(" ")
        self.head, self.lines = head, []

    def values(self, key):
        """What follows `a=KEY:`, here or before all sections."""
        begin = "a=%s:" % key
        here = [line[len(begin) :] for line in self.lines if line.startswith(begin)]
        return here or [line[len(begin) :] for line in self.head if line.startswith(begin)]

    def value(self, key):
        return next(iter(self.values(key)), None)

    def has(self, flag):
        return "a=" + flag in self.lines or "a=" + flag in self.head

    @property
    def mid(self):
        return self.value("mid")

    @property
    def credentials(self):
        return self.value("ice-ufrag"), self.value("ice-pwd")

    @property
    def direction(self):
        return next((each for each in ("sendonly", "recvonly", "inactive") if self.has(each)), "sendrecv")


def sections(sdp):
    head, found = [], []
    for line in sdp.splitlines():
        if line.startswith("m="):
            found.append(Section(line, head))
        elif line:
            (found[-1].lines if found else head).append(line)
    return found


# From SDP to Jingle.


def senders(direction, by_initiator):
    """Who sends, if a side says this direction of itself."""
    one, other = ("initiator", "responder") if by_initiator else ("responder", "initiator")
    return {"sendrecv": "both", "sendonly": one, "recvonly": other, "inactive": "none"}[direction]


def parameters(parent, namespace, text):
    for pair in text.split(";"):
        key, equals, value = pair.strip().partition("=")
        # What is no pair, such as RED's list of formats, is a value without a name.
        pair = {"name": key, "value": value} if equals else {"name": "", "value": key}
        ElementTree.SubElement(parent, name(namespace, "parameter"), pair)


def feedback(parent, text):
    kind, *more = text.split(" ", 1)
    put(parent, FEEDBACK, "rtcp-fb", type=kind, subtype=more[0] if more else None)


def description(section, by_initiator):
    made = ElementTree.Element(name(RTP, "description"), {"media": section.kind})
    of = lambda key, number: [
        text.split(" ", 1)[1] for text in section.values(key) if text.split(" ", 1)[0] == number
    ]
    for number in section.formats:
        mapped = of("rtpmap", number)
        codec, rate, *channels = mapped[0].split("/") if mapped else STATIC[number]
        times = {key: section.value(key) for key in ("ptime", "maxptime")}
        channels = channels[0] if channels else None
        payload = put(made, RTP, "payload-type", id=number, name=codec, clockrate=rate, channels=channels, **times)
        for text in of("fmtp", number):
            parameters(payload, RTP, text)
        for text in of("rtcp-fb", number):
            feedback(payload, text)
    for text in of("rtcp-fb", "*"):
        feedback(made, text)
    for text in section.values("extmap"):
        number, uri = text.split(" ")[:2]
        number, _, direction = number.partition("/")
        sends = senders(direction, by_initiator) if direction else None
        put(made, EXTENSIONS, "rtp-hdrext", id=number, uri=uri, senders=sends)
    if section.has("extmap-allow-mixed"):
        put(made, EXTENSIONS, "extmap-allow-mixed")
    if section.has("rtcp-mux"):
        put(made, RTP, "rtcp-mux")
    sources = {}
    for text in section.values("ssrc"):
        number, said = text.split(" ", 1)
        sources.setdefault(number, []).append(said.partition(":")[::2])
    for number, said in sources.items():
        source = put(made, SOURCES, "source", ssrc=number)
        if section.value("msid") and "msid" not in dict(said):
            said = said + [("msid", section.value("msid"))]
        for key, value in said:
            put(source, SOURCES, "parameter", name=key, value=value)
    for text in section.values("ssrc-group"):
        semantics, *numbers = text.split(" ")
        group = put(made, SOURCES, "ssrc-group", semantics=semantics)
        for number in numbers:
            put(group, SOURCES, "source", ssrc=number)
    return made


def candidate_element(line):
    words = line.removeprefix("candidate:").split(" ")
    said = dict(zip(("foundation", "component", "protocol", "priority", "ip", "port"), words))
    more = dict(zip(words[6::2], words[7::2]))
    said.update(type=more["typ"], generation=more.get("generation", "0"), network=more.get("network-id", "0"))
    said.update(id="c%d" % next(ids), protocol=said["protocol"].lower())
    for key, word in (("rel-addr", "raddr"), ("rel-port", "rport"), ("tcptype", "tcptype")):
        if word in more:
            said[key] = more[word]
    return ElementTree.Element(name(ICE, "candidate"), said)


def transport(section):
    ufrag, password = section.credentials
    made = ElementTree.Element(name(ICE, "transport"), {"ufrag": ufrag, "pwd": password})
    for text in section.values("fingerprint"):
        algorithm, digest = text.split(" ")
        put(made, DTLS, "fingerprint", hash=algorithm, setup=section.value("setup")).text = digest
    if section.value("sctp-port"):
        put(made, SCTP, "sctpmap", number=section.value("sctp-port"), protocol="webrtc-datachannel", streams=1024)
    for line in section.values("candidate"):
        made.append(candidate_element(line))
    return made


def group(parent, sdp):
    for line in sdp.splitlines():
        if line.startswith("a=group:"):
            semantics, *mids = line.removeprefix("a=group:").split(" ")
            made = put(parent, GROUPING, "group", semantics=semantics)
            for mid in mids:
                put(made, GROUPING, "content", name=mid)


# From Jingle to SDP.


class Content:
    """What the other side has said of a content."""

    def __init__(self, element):
        self.name, self.creator = element.get("name"), element.get("creator")
        self.senders = element.get("senders", "both")
        self.description = next((each for each in element if each.tag.endswith("}description")), None)
        self.transport = element.find(name(ICE, "transport"))
        self.rejected = False

    @property
    def credentials(self):
        return self.transport.get("ufrag"), self.transport.get("pwd")

    @property
    def is_media(self):
        return self.description.tag == name(RTP, "description")

    def renew(self, transport):
        """New credentials, with what else was said of the transport before."""
        for key in ("ufrag", "pwd"):
            self.transport.set(key, transport.get(key))
        for each in self.transport.findall(name(ICE, "candidate")):
            self.transport.remove(each)

    def lines(self, setup, by_initiator):
        """Its section. `setup` is used where the transport names none."""
        if self.rejected:
            return ["m=%s 0 %s %s" % self.rejected, "c=IN IP4 0.0.0.0", "a=mid:" + self.name, "a=inactive"]
        ufrag, password = self.credentials
        lines = ["c=IN IP4 0.0.0.0", "a=mid:" + self.name, "a=ice-options:trickle"]
        lines += ["a=ice-ufrag:" + ufrag, "a=ice-pwd:" + password]
        for each in self.transport.findall(name(DTLS, "fingerprint")):
            lines.append("a=fingerprint:%s %s" % (each.get("hash"), each.text.strip().upper()))
            setup = setup or each.get("setup")
        lines.append("a=setup:" + setup)
        if self.is_media:
            lines = media_lines(self.description, by_initiator) + lines
            sends = {senders(each, by_initiator): each for each in ("sendrecv", "sendonly", "recvonly", "inactive")}
            lines.append("a=" + sends[self.senders])
        else:
            sctp = self.transport.find(name(SCTP, "sctpmap"))
            lines = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel"] + lines
            lines.append("a=sctp-port:" + sctp.get("number"))
            if sctp.get("max-message-size"):
                lines.append("a=max-message-size:" + sctp.get("max-message-size"))
        found = map(candidate_line, self.transport.findall(name(ICE, "candidate")))
        return lines + ["a=" + line for line in found if line]


def candidate_line(each):
    words = [each.get(key) for key in ("foundation", "component", "protocol", "priority", "ip", "port")]
    words += ["typ", each.get("type")]
    for key, word in (("rel-addr", "raddr"), ("rel-port", "rport"), ("tcptype", "tcptype")):
        if each.get(key):
            words += [word, each.get(key)]
    return "candidate:" + " ".join(words + ["generation", each.get("generation", "0")])


def value_of(parameter):
    key, value = parameter.get("name"), parameter.get("value")
    return "%s=%s" % (key, value) if key else value


def feedback_line(each, number):
    more = each.get("subtype")
    return "a=rtcp-fb:%s %s%s" % (number, each.get("type"), " " + more if more else "")


def media_lines(description, by_initiator):
    payloads = description.findall(name(RTP, "payload-type"))
    numbers = " ".join(payload.get("id") for payload in payloads)
    lines = ["m=%s 9 UDP/TLS/RTP/SAVPF %s" % (description.get("media"), numbers), "a=rtcp:9 IN IP4 0.0.0.0"]
    for payload in payloads:
        number, channels = payload.get("id"), payload.get("channels", "1")
        known = STATIC.get(number, (None, None))
        codec, rate = payload.get("name") or known[0], payload.get("clockrate") or known[1]
        lines.append("a=rtpmap:%s %s/%s%s" % (number, codec, rate, "" if channels == "1" else "/" + channels))
        pairs = list(map(value_of, payload.findall(name(RTP, "parameter"))))
        if pairs:
            lines.append("a=fmtp:%s %s" % (number, ";".join(pairs)))
        lines += [feedback_line(each, number) for each in payload.findall(name(FEEDBACK, "rtcp-fb"))]
    for key in ("ptime", "maxptime"):
        said = [payload.get(key) for payload in payloads if payload.get(key)]
        lines += ["a=%s:%s" % (key, said[0])] if said else []
    lines += [feedback_line(each, "*") for each in description.findall(name(FEEDBACK, "rtcp-fb"))]
    directions = {senders(each, by_initiator): "/" + each for each in ("sendonly", "recvonly", "inactive")}
    for each in description.findall(name(EXTENSIONS, "rtp-hdrext")):
        direction = directions.get(each.get("senders"), "")
        lines.append("a=extmap:%s%s %s" % (each.get("id"), direction, each.get("uri")))
    if description.find(name(EXTENSIONS, "extmap-allow-mixed")) is not None:
        lines.append("a=extmap-allow-mixed")
    if description.find(name(RTP, "rtcp-mux")) is not None:
        lines.append("a=rtcp-mux")
    for source in description.findall(name(SOURCES, "source")):
        for each in source.findall(name(SOURCES, "parameter")):
            text = each.get("name") + (":" + each.get("value") if each.get("value") else "")
            lines.append("a=ssrc:%s %s" % (source.get("ssrc"), text))
            lines += ["a=msid:" + each.get("value")] if each.get("name") == "msid" else []
    for each in description.findall(name(SOURCES, "ssrc-group")):
        numbers = [source.get("ssrc") for source in each.findall(name(SOURCES, "source"))]
        lines.append("a=ssrc-group:%s %s" % (each.get("semantics"), " ".join(numbers)))
    return lines


def to_sdp(contents, setup, by_initiator):
    """The SDP that says what the contents say, which the initiator or the responder has told."""
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
    lines.append(" ".join(["a=group:BUNDLE"] + [content.name for content in contents if not content.rejected]))
    lines.append("a=msid-semantic: WMS *")
    for content in contents:
        lines += content.lines(setup, by_initiator)
    return "\r\n".join(lines) + "\r\n"
