// libdatachannel's data channels behind the words of `cargo xtask peer`. The offerer controls.
'use strict';
const { PeerConnection } = require('node-datachannel');
const { createInterface } = require('node:readline');

const option = (name, otherwise) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const controlling = process.argv.includes('--controlling');
const toSend = Number(option('--send', 0));
const expected = Number(option('--expect', 0));
const PIECE = 20_000;
const WAITING = 1 << 20;

const say = (...words) => process.stdout.write(words.join(' ') + '\n');

/** Adler-32 (RFC 1950 §9). */
class Sum {
  bytes = 0;
  low = 1;
  high = 0;
  add(piece) {
    this.bytes += piece.length;
    for (let from = 0; from < piece.length; from += 3800) {
      const to = Math.min(from + 3800, piece.length);
      for (let at = from; at < to; at++) {
        this.low += piece[at];
        this.high += this.low;
      }
      this.low %= 65521;
      this.high %= 65521;
    }
  }
  toString() {
    const sum = (this.high * 65536 + this.low).toString(16).padStart(8, '0');
    return `${this.bytes} ${sum}`;
  }
}

const pattern = (begin, size) => {
  const piece = Buffer.allocUnsafe(size);
  for (let at = 0; at < size; at++) piece[at] = (Math.imul(begin + at, 2654435761) >>> 13) & 255;
  return piece;
};

const sent = new Sum();
const received = new Sum();
const remote = {};
let since = 0;
let channel = null;
let done = false;

const finish = () => {
  if (done || sent.bytes < toSend || received.bytes < expected) return;
  done = true;
  say(`done sent ${sent} recv ${received}`);
};

const onMessage = (message) => {
  received.add(Buffer.from(message));
  finish();
};

const pump = () => {
  while (sent.bytes < toSend) {
    if (!channel.isOpen() || channel.bufferedAmount() > WAITING) return void setTimeout(pump, 1);
    const piece = pattern(sent.bytes, Math.min(PIECE, toSend - sent.bytes));
    channel.sendMessageBinary(piece);
    sent.add(piece);
  }
  finish();
};

const pc = new PeerConnection('peer', {
  iceServers: [],
  bindAddress: option('--address', '127.0.0.1'),
});
pc.onLocalDescription((sdp) => {
  const value = (name) => new RegExp(`^a=${name}:(.*?)\\r?$`, 'm').exec(sdp)[1];
  say('dtls', value('setup'), value('fingerprint'));
  say('sctp', value('sctp-port'));
  say('local', value('ice-ufrag'), value('ice-pwd'));
});
pc.onLocalCandidate((candidate) => say('cand', candidate.replace(/^a=/, '')));
pc.onGatheringStateChange((state) => {
  if (state === 'complete') say('gathering-done');
});
pc.onStateChange((state) => {
  if (state !== 'connected') return;
  const elapsed = (performance.now() - since).toFixed(3);
  say('connected', elapsed);
  say('nominated', elapsed);
});
// Channels that nobody holds are collected, and closed.
const channels = [];
pc.onDataChannel((theirs) => {
  channels.push(theirs);
  theirs.onMessage(onMessage);
});

const open = () => {
  channel = pc.createDataChannel('peer');
  channel.onMessage(onMessage);
  channels.push(channel);
};

const describe = () => {
  const [ufrag, password] = remote.remote;
  const [setup, algorithm, fingerprint] = remote.dtls;
  const lines = [
    'v=0',
    'o=- 1 1 IN IP4 127.0.0.1',
    's=-',
    't=0 0',
    'a=group:BUNDLE 0',
    'm=application 9 UDP/DTLS/SCTP webrtc-datachannel',
    'c=IN IP4 0.0.0.0',
    'a=mid:0',
    `a=ice-ufrag:${ufrag}`,
    `a=ice-pwd:${password}`,
    'a=ice-options:trickle',
    `a=fingerprint:${algorithm} ${fingerprint}`,
    `a=setup:${setup}`,
    `a=sctp-port:${remote.sctp[0]}`,
    'a=max-message-size:262144',
    '',
  ];
  pc.setRemoteDescription(lines.join('\r\n'), controlling ? 'answer' : 'offer');
};

if (controlling) open();
else say('answers');

const close = () => {
  pc.close();
  process.exit(0);
};
createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [word, ...rest] = line.trim().split(' ');
    if (word === 'cand') pc.addRemoteCandidate(rest.join(' '), '0');
    else if (word === 'start') pump();
    else if (word === 'close') close();
    else if (word !== 'remote-done') remote[word] = rest;
    if (word === 'remote') {
      since = performance.now();
      describe();
      if (!controlling) open();
    }
  })
  .on('close', close);
