// What of the tape is shown, and where: the filter, the rows, the lanes.

// Rows that an idle time takes in the order of events.
const idleRows = (ticks) => (ticks > 2 ? Math.min(8, Math.log2(ticks)) : 0);

// The first place in a sorted array whose number is not below `value`.
function lowerBound(array, value, end = array.length) {
  let low = 0, high = end;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (array[middle] < value) low = middle + 1; else high = middle;
  }
  return low;
}

const BLOCK = 1024;

// Events that pass the filter, in order, with the rows where they begin and end.
//   filter: {groups: [bool], nodes: Set of numbers, session: number or 0, link: number or 0}
function makeView(tape, filter, axis) {
  const index = filtered(tape, filter);
  const count = index.length;
  const end = new Float64Array(count), begin = new Float64Array(count), tick = new Uint32Array(count);
  for (let k = 0; k < count; k++) tick[k] = tape.tick[index[k]];
  if (axis === "time") rowsByTime(tick, end); else rowsByOrder(tick, end, (k) => tape.node[index[k]] === 0);
  for (let k = 0; k < count; k++) {
    const i = index[k], sent = tape.sent[i];
    if (sent === tape.tick[i] && tape.state[i] === EVENT) { begin[k] = end[k]; continue; }
    // At the end of its tick: what made the node send it has come before.
    let row = sent + 0.95;
    if (axis !== "time") {
      const before = lowerBound(tick, sent + 1, k) - 1;
      row = before < 0 ? end[0] - 1 : end[before] + 0.5;
    }
    begin[k] = Math.min(row, end[k] - 0.3);
  }
  // The earliest begin in each block of events: arrows that end below what is seen.
  const blocks = new Float64Array(Math.ceil(count / BLOCK)).fill(Infinity);
  for (let k = 0; k < count; k++) {
    const block = (k / BLOCK) | 0;
    if (begin[k] < blocks[block]) blocks[block] = begin[k];
  }
  const first = count ? Math.min(end[0], blocks[0]) - 1 : 0;
  return { index, count, begin, end, tick, blocks, first, last: count ? end[count - 1] + 1 : 1, lanes: lanesOf(tape, filter, index) };
}

function filtered(tape, filter) {
  const shown = Uint8Array.from(tape.kinds, (_, kind) => (filter.groups[tape.groupOf[kind]] ? 1 : 0));
  const some = filter.nodes.size > 0;
  const node = new Uint8Array(tape.nodes.length + 1);
  for (const number of filter.nodes) node[number] = 1;
  const index = new Uint32Array(tape.count);
  let count = 0;
  for (let i = 0; i < tape.count; i++) {
    if (!shown[tape.kind[i]]) continue;
    if (some && tape.node[i] && !node[tape.node[i]] && !node[tape.peer[i]]) continue;
    if (filter.session && tape.session[i] !== filter.session) continue;
    if (filter.link && tape.link[i] !== filter.link) continue;
    index[count++] = i;
  }
  return index.slice(0, count);
}

function rowsByOrder(tick, end, isBand) {
  let row = 0;
  for (let k = 0; k < tick.length; k++) {
    // What concerns all nodes has its words above its line.
    row += 1 + (k ? idleRows(tick[k] - tick[k - 1]) : 0) + (isBand(k) ? 0.6 : 0);
    end[k] = row;
  }
}

// Events of one tick are spread over it, in their order.
function rowsByTime(tick, end) {
  for (let k = 0; k < tick.length;) {
    let next = k;
    while (next < tick.length && tick[next] === tick[k]) next++;
    for (let n = k; n < next; n++) end[n] = tick[k] + 0.9 * (n - k) / (next - k);
    k = next;
  }
}

// The nodes that have a lane: all, or those that what is shown touches.
function lanesOf(tape, filter, index) {
  const seen = new Uint8Array(tape.nodes.length + 1);
  if (filter.nodes.size === 0 && !filter.session && !filter.link) seen.fill(1);
  else {
    for (let k = 0; k < index.length; k++) {
      seen[tape.node[index[k]]] = 1;
      seen[tape.peer[index[k]]] = 1;
    }
  }
  return [...tape.nodes.keys()].map((place) => place + 1).filter((number) => seen[number])
    .sort((a, b) => compareNames(tape.nodes[a - 1], tape.nodes[b - 1]));
}

const compareNames = new Intl.Collator("en", { numeric: true }).compare;

// Calls `each` with the places of all events that touch the rows from `top` to `bottom`.
function eachVisible(view, top, bottom, each) {
  let k = lowerBound(view.end, top);
  for (; k < view.count && view.end[k] <= bottom; k++) each(k);
  while (k < view.count) {
    const block = (k / BLOCK) | 0, next = Math.min(view.count, (block + 1) * BLOCK);
    if (view.blocks[block] > bottom) { k = next; continue; }
    for (; k < next; k++) if (view.begin[k] < bottom) each(k);
  }
}

// How many events end between two rows.
const countVisible = (view, top, bottom) => lowerBound(view.end, bottom) - lowerBound(view.end, top);
