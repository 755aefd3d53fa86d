// The tape: columns of numbers, and the names that they stand for.

// What the states of a frame are called: an event that is no frame has state 0.
const EVENT = 0, LOST = 2, WAITING = 3;

// Groups of kinds, in the order of the buttons: name, colour, whether shown at first, kinds.
const GROUPS = [
  ["messages", "normal", true, ["message", "announce"]],
  ["replies", "reply", true, ["reply"]],
  ["bulk data", "bulk", true, ["pull", "chunk"]],
  ["handshakes", "hand", true, ["hello", "answer", "resume", "reanswer", "race-lost", "admitted", "close"]],
  ["acks", "quiet", false, ["ack", "grant"]],
  ["heartbeats", "quiet", false, ["beat"]],
  ["links", "quiet", false, ["dial", "linked", "no-link", "accept", "link-end"]],
  ["sessions", "up", true, ["connected", "let-in", "resumed", "reset", "ended", "conflict", "undeliver", "late"]],
  ["calls", "call", false, ["call", "tell", "ask"]],
  ["faults", "fault", true, ["cut", "partition", "heal", "heal-all", "stall", "slow", "refuse", "ignore", "crash", "start"]],
  ["actors", "note", true, ["actor"]],
  ["notes", "note", true, ["note", "BROKEN"]],
];

// Kinds that somebody who looks for trouble wants to see.
const TROUBLE = new Set(["BROKEN", "cut", "partition", "stall", "slow", "refuse", "ignore", "crash",
  "reset", "ended", "conflict", "undeliver", "late"]);

// The bytes of a base64 text, off the main thread where the browser can.
async function bytesOf(text) {
  try {
    const answer = await fetch("data:application/octet-stream;base64," + text);
    return new Uint8Array(await answer.arrayBuffer());
  } catch {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  }
}

// Unsigned LEB128 numbers. What does not fit 32 bits keeps its lower ones.
function numbersOf(bytes, count, Kind) {
  const out = new Kind(count);
  for (let at = 0, n = 0; n < count; n++) {
    let byte = bytes[at++], value = byte & 127, scale = 128;
    while (byte > 127) {
      byte = bytes[at++];
      value += (byte & 127) * scale;
      scale *= 128;
    }
    out[n] = value;
  }
  return out;
}

// Reads the page's data into {count, nodes, …, columns by name}.
async function readTape() {
  const element = document.getElementById("tape");
  const tape = JSON.parse(element.textContent);
  element.textContent = "";
  const widths = { node: Uint16Array, peer: Uint16Array, kind: Uint16Array, lane: Uint8Array, call: Uint8Array };
  for (const name of Object.keys(tape.columns)) {
    const bytes = await bytesOf(tape.columns[name]);
    tape[name] = numbersOf(bytes, tape.count, widths[name] ?? Uint32Array);
  }
  delete tape.columns;
  // Ticks are written as steps, and the send times as how long ago.
  for (let i = 1; i < tape.count; i++) tape.tick[i] += tape.tick[i - 1];
  tape.sent = tape.ago;
  for (let i = 0; i < tape.count; i++) tape.sent[i] = tape.tick[i] - tape.ago[i];
  tape.state = new Uint8Array(tape.count);
  for (let i = 0; i < tape.count; i++) {
    tape.state[i] = tape.kind[i] & 3;
    tape.kind[i] >>= 2;
  }
  addGroups(tape);
  addLives(tape);
  return tape;
}

// Which group each kind is in, how many events each group has, and where trouble is.
function addGroups(tape) {
  tape.groupOf = Uint8Array.from(tape.kinds, (word) => {
    const group = GROUPS.findIndex((group) => group[3].includes(word));
    return group < 0 ? GROUPS.length - 1 : group;
  });
  const bad = tape.kinds.map((word) => TROUBLE.has(word));
  tape.groupCounts = new Array(GROUPS.length).fill(0);
  tape.trouble = [];
  for (let i = 0; i < tape.count; i++) {
    tape.groupCounts[tape.groupOf[tape.kind[i]]]++;
    if (bad[tape.kind[i]]) tape.trouble.push(i);
  }
  tape.broken = tape.trouble.filter((i) => tape.kinds[tape.kind[i]] === "BROKEN");
}

// When each node was down: [from event, to event].
function addLives(tape) {
  tape.downs = tape.nodes.map(() => []);
  const crash = tape.kinds.indexOf("crash"), start = tape.kinds.indexOf("start");
  for (let i = 0; i < tape.count; i++) {
    const downs = tape.downs[tape.node[i] - 1];
    if (tape.kind[i] === crash && downs) downs.push([i, tape.count]);
    if (tape.kind[i] === start && downs?.length) downs[downs.length - 1][1] = i;
  }
}

const seconds = (tick) => (tick / 1000).toFixed(3);
const CLASSES = ["control", "high", "normal", "bulk"];
const classOf = (tape, i) => (tape.lane[i] ? CLASSES[(tape.lane[i] - 1) >> 1] : "");
const nodeOf = (tape, number) => (number ? tape.nodes[number - 1] : "all");
const sessionOf = (tape, i) => (tape.session[i] ? tape.sessions[tape.session[i] - 1] : "");
const typeOf = (tape, i) => (tape.type[i] ? tape.types[tape.type[i] - 1] : "");
const moreOf = (tape, i) => (tape.more[i] ? tape.strings[tape.more[i] - 1] : "");

function sizeText(bytes) {
  if (bytes < 1024) return bytes + " B";
  if (bytes < 1 << 20) return (bytes / 1024).toFixed(1) + " KiB";
  return (bytes / (1 << 20)).toFixed(1) + " MiB";
}

// An event in a few words, as it stands on its arrow.
function labelOf(tape, i) {
  const word = tape.kinds[tape.kind[i]];
  if (tape.state[i] === EVENT) {
    const type = typeOf(tape, i), more = moreOf(tape, i);
    return [word, type, type && "#" + tape.seq[i], more].filter(Boolean).join(" ");
  }
  const message = word === "message" || word === "reply" || word === "announce";
  const parts = [message ? typeOf(tape, i) || word : word];
  if (word === "reply" && typeOf(tape, i)) parts.push("reply");
  if (word === "announce") parts.push("announced");
  if (tape.seq[i]) parts.push("#" + tape.seq[i]);
  if (message || word === "chunk") parts.push(classOf(tape, i), sizeText(tape.front[i] + tape.data[i]));
  if (tape.state[i] === LOST) parts.push("lost");
  if (tape.state[i] === WAITING) parts.push("on its way");
  return parts.filter(Boolean).join(" ");
}

// All that can be searched.
const textOf = (tape, i) => labelOf(tape, i) + " " + moreOf(tape, i) + " " + sessionOf(tape, i);
