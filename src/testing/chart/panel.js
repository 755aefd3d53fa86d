// The fields of the event that was clicked, and ways to go on from there. All text is set as text.

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  parent?.append(made);
  return made;
}

function rowOfTable(table, name, value) {
  if (value === "" || value === undefined || value === null) return;
  const row = element("tr", undefined, table);
  element("th", name, row).scope = "row";
  element("td", value, row);
}

const CALL_NOTES = {
  "one-way": "one way", notify: "asks for word that it was handled", request: "a request", reply: "answers a request",
};

function showPanel(state) {
  const { tape, panel } = state, i = state.selected;
  panel.textContent = "";
  if (i < 0) return showHints(state);
  const word = tape.kinds[tape.kind[i]], frame = tape.state[i] !== EVENT;
  element("h2", labelOf(tape, i), panel);
  const table = element("table", undefined, panel);
  rowOfTable(table, "kind", word);
  rowOfTable(table, "event", (i + 1 + tape.dropped).toLocaleString("en") + " of " + (tape.count + tape.dropped).toLocaleString("en"));
  if (frame) {
    rowOfTable(table, "from", nodeOf(tape, tape.node[i]));
    rowOfTable(table, "to", nodeOf(tape, tape.peer[i]));
    rowOfTable(table, "sent", seconds(tape.sent[i]) + " s");
    const ends = ["", "arrived", "lost", "on its way"][tape.state[i]];
    const took = tape.tick[i] - tape.sent[i];
    rowOfTable(table, ends, seconds(tape.tick[i]) + " s, after " + took + " ms");
  } else {
    rowOfTable(table, "node", nodeOf(tape, tape.node[i]));
    if (tape.peer[i]) rowOfTable(table, "with", nodeOf(tape, tape.peer[i]));
    rowOfTable(table, "at", seconds(tape.tick[i]) + " s");
  }
  rowOfTable(table, "link", tape.link[i] || "");
  rowOfTable(table, "session", sessionOf(tape, i));
  rowOfTable(table, "class", tape.lane[i] ? classOf(tape, i) + ((tape.lane[i] - 1) & 1 ? ", replies" : "") : "");
  rowOfTable(table, word === "ack" ? "received" : "number", tape.seq[i] || "");
  rowOfTable(table, "type", typeOf(tape, i));
  if (frame) {
    const body = word === "message" || word === "reply" || word === "announce";
    rowOfTable(table, body ? "front" : "body", sizeText(tape.front[i]));
    if (tape.data[i]) rowOfTable(table, word === "announce" ? "announced" : "data", sizeText(tape.data[i]));
    rowOfTable(table, "checksum", tape.crc[i].toString(16).padStart(8, "0"));
  }
  if (tape.call[i]) {
    const call = tape.calls[tape.call[i] - 1];
    rowOfTable(table, "call", (CALL_NOTES[call] ?? call) + (tape.id[i] ? ", number " + tape.id[i] : ""));
  }
  const free = word === "note" || word === "BROKEN", more = moreOf(tape, i);
  for (const part of free ? [["text", more]] : fieldsOf(more)) rowOfTable(table, part[0], part[1]);
  addWays(state, i);
}

// `a=b c=d, and words` as fields; what is no field is "more".
function fieldsOf(text) {
  const fields = [], rest = [];
  for (const part of text.split(" ")) {
    const at = part.indexOf("=");
    if (at > 0 && /^[a-z/_:]+$/.test(part.slice(0, at))) fields.push([part.slice(0, at), part.slice(at + 1)]);
    else rest.push(part);
  }
  if (rest.join(" ").trim()) fields.push(["more", rest.join(" ").trim()]);
  return fields;
}

function addWays(state, i) {
  const { tape } = state, ways = element("div", undefined, state.panel);
  ways.className = "way";
  const way = (text, go) => { element("button", text, ways).onclick = go; };
  if (tape.session[i]) way("only this session", () => setFilter(state, { session: tape.session[i], link: 0 }));
  if (tape.link[i]) way("only this link", () => setFilter(state, { link: tape.link[i], session: 0 }));
  for (const number of [tape.node[i], tape.peer[i]]) {
    if (number) way("only " + nodeOf(tape, number), () => setFilter(state, { nodes: new Set([number]) }));
  }
  way("◂ before", () => stepSelection(state, -1));
  way("after ▸", () => stepSelection(state, 1));
}

function showHints(state) {
  const { tape, panel } = state;
  element("h2", "Click an event", panel);
  element("p", "An arrow is a frame: it begins when it was sent and ends when it arrived. A cross at its end: it was lost with its link. " +
    "Scroll to move, Ctrl and scroll to zoom, ? for more.", panel);
  const table = element("table", undefined, panel);
  for (const [name, value] of tape.facts) rowOfTable(table, name, value);
  if (!tape.trouble.length) return;
  element("h2", "Trouble", panel);
  const list = element("div", undefined, panel);
  list.className = "way";
  for (const i of tape.trouble.slice(0, 40)) {
    const where = tape.node[i] ? " " + nodeOf(tape, tape.node[i]) : "";
    const button = element("button", seconds(tape.tick[i]) + where + " " + labelOf(tape, i).slice(0, 60), list);
    button.onclick = () => goTo(state, i);
  }
  if (tape.trouble.length > 40) element("p", "and " + (tape.trouble.length - 40) + " more: press n", panel);
}

function fillLegend(state) {
  const list = document.getElementById("legend");
  const say = (sign, text) => { element("dt", sign, list); element("dd", text, list); };
  say("solid arrow", "a message; colours are classes: control, high, normal, bulk");
  say("dashed arrow", "a reply");
  say("thin arrow", "handshakes, acks, heartbeats");
  say("✕ at an arrow's end", "lost, with its link");
  say("✕ between lanes", "a link was cut");
  say("bar between lanes", "a partition or a stall");
  say("✕ on a lane, then dots", "the node crashed, and is down");
  say("▸", "a node starts");
  say("○ on a lane", "a session is up, again or for the first time");
  say("■ on a lane", "a session or a link ended, or something else went wrong");
  say("◆", "an actor, a note, a broken promise");
  say("bars", "too much for arrows: the wider, the more events; zoom in");
}
