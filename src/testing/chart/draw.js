// Draws the part of a view that is on the screen. Where too much is, it draws how much.

const HEAD = 34, LANE_MIN = 26, EDGE = 70;
// More events than this on the screen are drawn as a density.
const SINGLE_MAX = 6000;

const FONT = "12px system-ui, 'Segoe UI', Roboto, sans-serif";

// A canvas at the screen's resolution: its context, in CSS pixels.
function fitted(canvas) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  return { pen, width, height };
}

// The theme's colours, read anew when it changes.
function readColours() {
  const style = getComputedStyle(document.documentElement), colours = {};
  for (const name of ["back", "panel", "line", "text", "dim", "lane", "focus", "select", "fault", "control",
    "high", "normal", "bulk", "reply", "hand", "quiet", "up", "call", "note"]) {
    colours[name] = style.getPropertyValue("--" + name).trim();
  }
  return colours;
}

// Where a lane stands, in CSS pixels.
function placeLanes(state, width) {
  const { view } = state;
  const gap = Math.max(LANE_MIN, Math.min(330, (width - 2 * EDGE) / Math.max(1, view.lanes.length - 1)));
  state.laneGap = gap;
  const whole = gap * Math.max(0, view.lanes.length - 1);
  state.sideMax = Math.max(0, whole + 2 * EDGE - width);
  state.side = Math.max(0, Math.min(state.sideMax, state.side));
  const left = (state.sideMax ? EDGE : (width - whole) / 2) - state.side;
  state.laneX = new Float64Array(state.tape.nodes.length + 1).fill(NaN);
  view.lanes.forEach((number, place) => { state.laneX[number] = left + place * gap; });
}

const rowToY = (state, row) => HEAD + (row - state.top) * state.zoom;
const yToRow = (state, y) => state.top + (y - HEAD) / state.zoom;

// The colour of an event.
function colourOf(state, i) {
  const { tape, colours } = state;
  const word = tape.kinds[tape.kind[i]];
  if (word === "BROKEN" || word === "reset" || word === "ended") return colours.fault;
  if (tape.state[i] === LOST) return colours.fault;
  if (word === "start" || word === "heal" || word === "heal-all") return colours.up;
  const group = GROUPS[tape.groupOf[tape.kind[i]]];
  if (group[1] === "normal") return colours[classOf(tape, i)] || colours.normal;
  return colours[group[1]];
}

function drawChart(state) {
  const { pen, width, height } = fitted(state.canvas);
  const { view, colours } = state;
  placeLanes(state, width);
  pen.fillStyle = colours.back;
  pen.fillRect(0, 0, width, height);
  pen.font = FONT;
  const bottom = yToRow(state, height);
  drawLanes(state, pen, height);
  const many = countVisible(view, state.top, bottom);
  state.single = many <= SINGLE_MAX;
  state.drawn = 0;
  if (state.single) drawEvents(state, pen, width, bottom); else drawDensity(state, pen, width, height, bottom);
  drawClock(state, pen, height);
  drawHead(state, pen, width);
}

// A line for each node; dashed while it is down.
function drawLanes(state, pen, height) {
  const { tape, view, colours } = state;
  pen.lineWidth = 1;
  for (const number of view.lanes) {
    const x = Math.round(state.laneX[number]) + 0.5;
    if (x < -4 || x > pen.canvas.clientWidth + 4) continue;
    pen.strokeStyle = colours.lane;
    pen.beginPath();
    pen.moveTo(x, HEAD);
    pen.lineTo(x, height);
    pen.stroke();
    for (const [from, to] of tape.downs[number - 1]) {
      const y0 = Math.max(HEAD, rowToY(state, rowOf(view, from)));
      const y1 = Math.min(height, rowToY(state, to < tape.count ? rowOf(view, to) : view.last + 1e6));
      if (y1 <= HEAD || y0 >= height) continue;
      pen.fillStyle = colours.back;
      pen.fillRect(x - 2, y0, 4, y1 - y0);
      pen.strokeStyle = colours.fault;
      pen.setLineDash([2, 5]);
      pen.beginPath();
      pen.moveTo(x, y0);
      pen.lineTo(x, y1);
      pen.stroke();
      pen.setLineDash([]);
    }
  }
}

// The row of an event, or of the next one that is shown.
function rowOf(view, i) {
  const k = lowerBound(view.index, i);
  return k < view.count ? view.end[k] : view.last;
}

function drawEvents(state, pen, width, bottom) {
  const { view } = state;
  const labels = state.zoom >= 13;
  const top = state.top - 1;
  if (state.selected >= 0) drawSelection(state, pen, width);
  const quiet = [], loud = [];
  eachVisible(view, top, bottom + 1, (k) => {
    const i = view.index[k];
    (state.tape.groupOf[state.tape.kind[i]] >= 4 ? quiet : loud).push(k);
  });
  // What matters lies on top, and words above all lines.
  for (const k of quiet) drawEvent(state, pen, k);
  for (const k of loud) drawEvent(state, pen, k);
  for (const k of labels ? quiet : []) drawWords(state, pen, k);
  for (const k of loud) {
    const broken = state.tape.kinds[state.tape.kind[view.index[k]]] === "BROKEN";
    if (labels || broken) drawWords(state, pen, k);
  }
  state.drawn = quiet.length + loud.length;
}

function drawSelection(state, pen, width) {
  const k = lowerBound(state.view.index, state.selected);
  if (state.view.index[k] !== state.selected) return;
  const y0 = rowToY(state, state.view.begin[k]), y1 = rowToY(state, state.view.end[k]);
  const half = Math.max(5, Math.min(9, state.zoom / 2));
  pen.fillStyle = state.colours.select;
  pen.fillRect(0, y0 - half, width, y1 - y0 + 2 * half);
}

function drawEvent(state, pen, k) {
  const { tape, view } = state;
  const i = view.index[k];
  const from = state.laneX[tape.node[i]], to = state.laneX[tape.peer[i]];
  const y = rowToY(state, view.end[k]);
  pen.strokeStyle = pen.fillStyle = colourOf(state, i);
  if (tape.state[i] !== EVENT) return drawFrame(state, pen, i, k, from, to, y);
  if (tape.node[i] === 0) return drawBand(state, pen, i, y);
  if (Number.isNaN(from)) return;
  const group = GROUPS[tape.groupOf[tape.kind[i]]][0];
  if (tape.peer[i] && !Number.isNaN(to) && group === "faults") drawBetween(state, pen, i, from, to, y);
  drawMark(state, pen, i, from, y);
}

// What stands at an event.
function drawWords(state, pen, k) {
  const { tape, view } = state;
  const i = view.index[k], y = rowToY(state, view.end[k]);
  const from = state.laneX[tape.node[i]], to = state.laneX[tape.peer[i]];
  pen.fillStyle = colourOf(state, i);
  if (tape.node[i] === 0) {
    if (!view.lanes.length) return;
    const text = clipped(pen, labelOf(tape, i), Math.max(200, pen.canvas.clientWidth - 80));
    return writeText(state, pen, text, Math.max(8, state.laneX[view.lanes[0]] - 20) + 4, y - 4, "left");
  }
  if (Number.isNaN(from)) return;
  if (tape.state[i] !== EVENT) {
    if (Number.isNaN(to)) return;
    const x = from + (to - from) * (tape.state[i] === LOST || tape.state[i] === WAITING ? 0.6 : 1);
    const room = Math.abs(x - from) - 24, ahead = x > from ? -1 : 1;
    if (room < 30) return;
    // At its head: each has a row of its own there, and words of others do not come near.
    const text = clipped(pen, labelOf(tape, i), Math.min(room, 260));
    return writeText(state, pen, text, x + ahead * 13, y - 3, x > from ? "right" : "left");
  }
  const side = !Number.isNaN(to) && to < from ? -1 : 1;
  const text = clipped(pen, labelOf(tape, i), Math.max(60, state.laneGap - 16));
  writeText(state, pen, text, from + side * 9, y + 4, side < 0 ? "right" : "left");
}

// An arrow, from when it was sent to when it arrived.
function drawFrame(state, pen, i, k, from, to, y) {
  if (Number.isNaN(from) || Number.isNaN(to)) return;
  const { tape, view } = state;
  const word = tape.kinds[tape.kind[i]], ended = tape.state[i];
  const y0 = rowToY(state, view.begin[k]);
  const part = ended === LOST || ended === WAITING ? 0.6 : 1;
  const x = from + (to - from) * part;
  const thick = word === "message" || word === "announce" || word === "chunk";
  pen.lineWidth = i === state.selected ? 3 : thick ? 1.6 : 1;
  pen.setLineDash(word === "reply" ? [6, 3] : ended === WAITING ? [2, 3] : []);
  pen.beginPath();
  pen.moveTo(from, y0);
  pen.lineTo(x, y);
  pen.stroke();
  pen.setLineDash([]);
  if (ended === LOST) drawCross(pen, x, y, 4.5);
  else if (ended !== WAITING) drawTip(pen, from, y0, x, y, Math.min(8, 3 + state.zoom / 3));
}

function drawTip(pen, x0, y0, x, y, size) {
  const angle = Math.atan2(y - y0, x - x0);
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(x - size * Math.cos(angle - 0.4), y - size * Math.sin(angle - 0.4));
  pen.lineTo(x - size * Math.cos(angle + 0.4), y - size * Math.sin(angle + 0.4));
  pen.fill();
}

function drawCross(pen, x, y, size) {
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(x - size, y - size);
  pen.lineTo(x + size, y + size);
  pen.moveTo(x + size, y - size);
  pen.lineTo(x - size, y + size);
  pen.stroke();
}

// What concerns the whole cluster.
function drawBand(state, pen, i, y) {
  const lanes = state.view.lanes;
  if (!lanes.length) return;
  const left = state.laneX[lanes[0]] - 20, right = state.laneX[lanes[lanes.length - 1]] + 20;
  const broken = state.tape.kinds[state.tape.kind[i]] === "BROKEN";
  pen.lineWidth = broken ? 3 : 1.5;
  pen.setLineDash(broken ? [] : [8, 4]);
  pen.beginPath();
  pen.moveTo(left, y);
  pen.lineTo(right, y);
  pen.stroke();
  pen.setLineDash([]);
}

// A cut, a partition, a stall: between two lanes.
function drawBetween(state, pen, i, from, to, y) {
  const word = state.tape.kinds[state.tape.kind[i]];
  pen.lineWidth = 1.5;
  pen.setLineDash(word === "heal" ? [8, 4] : [3, 3]);
  pen.beginPath();
  pen.moveTo(from, y);
  pen.lineTo(to, y);
  pen.stroke();
  pen.setLineDash([]);
  const middle = (from + to) / 2;
  if (word === "cut") drawCross(pen, middle, y, 6);
  if (word === "partition" || word === "stall") {
    pen.lineWidth = 3;
    pen.beginPath();
    pen.moveTo(middle, y - 6);
    pen.lineTo(middle, y + 6);
    pen.stroke();
    drawTip(pen, from, y, to, y, 7);
  }
}

// The sign of an event on its lane; the shape says what the colour says.
function drawMark(state, pen, i, x, y) {
  const word = state.tape.kinds[state.tape.kind[i]];
  const size = Math.max(2, Math.min(5, state.zoom / 2.5));
  const shape = SHAPES[word] ?? "dot";
  pen.lineWidth = 1.5;
  pen.beginPath();
  if (shape === "cross") return drawCross(pen, x, y, size + 2);
  if (shape === "square") pen.rect(x - size, y - size, 2 * size, 2 * size);
  if (shape === "diamond") {
    pen.moveTo(x, y - size - 1);
    pen.lineTo(x + size + 1, y);
    pen.lineTo(x, y + size + 1);
    pen.lineTo(x - size - 1, y);
    pen.closePath();
  }
  if (shape === "triangle") {
    pen.moveTo(x - size, y - size);
    pen.lineTo(x + size, y);
    pen.lineTo(x - size, y + size);
    pen.closePath();
  }
  if (shape === "dot" || shape === "ring") pen.arc(x, y, shape === "ring" ? size : size * 0.75, 0, 7);
  if (shape === "ring") {
    pen.save();
    pen.fillStyle = state.colours.back;
    pen.fill();
    pen.restore();
    pen.stroke();
  } else pen.fill();
}

const SHAPES = {
  crash: "cross", start: "triangle", connected: "ring", resumed: "ring", "let-in": "ring", reset: "square",
  ended: "square", conflict: "square", undeliver: "square", late: "square", actor: "diamond", note: "diamond",
  BROKEN: "diamond", slow: "square", refuse: "square", ignore: "square", "no-link": "cross", "link-end": "square",
};

// Text with the background's colour around it.
function writeText(state, pen, text, x, y, align) {
  if (!text) return;
  const colour = pen.fillStyle;
  pen.textAlign = align;
  pen.lineWidth = 4;
  pen.lineJoin = "round";
  pen.strokeStyle = state.colours.back;
  pen.strokeText(text, x, y);
  pen.fillStyle = colour === state.colours.quiet ? state.colours.dim : colour;
  pen.fillText(text, x, y);
  pen.strokeStyle = pen.fillStyle = colour;
}

// As much of a text as there is room for.
function clipped(pen, text, room) {
  const max = Math.floor(room / 6.3);
  if (text.length <= max) return text;
  return max < 4 ? "" : text.slice(0, max - 1) + "…";
}

// How much happens on each lane: bars, as wide as the events are many; trouble is drawn singly.
function drawDensity(state, pen, width, height, bottom) {
  const { tape, view, colours } = state;
  const step = 3, rows = Math.ceil((height - HEAD) / step), lanes = tape.nodes.length + 1;
  const kinds = [colours.normal, colours.reply, colours.quiet];
  const bins = new Uint32Array(rows * lanes * kinds.length);
  const from = lowerBound(view.end, state.top), to = lowerBound(view.end, bottom);
  const scale = state.zoom / step;
  for (let k = from; k < to; k++) {
    const i = view.index[k], group = tape.groupOf[tape.kind[i]];
    const row = ((view.end[k] - state.top) * scale) | 0;
    const kind = group === 0 || group === 2 ? 0 : group === 1 ? 1 : 2;
    bins[(row * lanes + tape.node[i]) * kinds.length + kind]++;
  }
  let most = 1;
  for (let n = 0; n < bins.length; n++) if (bins[n] > most) most = bins[n];
  const room = Math.max(6, state.laneGap * 0.8), log = Math.log2(most + 1);
  kinds.forEach((colour, kind) => {
    pen.fillStyle = colour;
    for (const lane of view.lanes) {
      const x = state.laneX[lane];
      if (x < -room || x > width + room) continue;
      for (let row = 0; row < rows; row++) {
        const at = (row * lanes + lane) * kinds.length;
        if (!bins[at + kind]) continue;
        // Bars stand beside each other: messages, then replies, then the rest.
        const all = bins[at] + bins[at + 1] + bins[at + 2];
        const before = kind === 0 ? 0 : kind === 1 ? bins[at] : bins[at] + bins[at + 1];
        const whole = room * Math.log2(all + 1) / log;
        pen.fillRect(x - whole / 2 + whole * before / all, HEAD + row * step, Math.max(1, whole * bins[at + kind] / all), step - 1);
      }
    }
  });
  drawTrouble(state, pen, bottom);
}

// Faults, ends and breaches, one a place at most.
function drawTrouble(state, pen, bottom) {
  const { tape, view } = state;
  const taken = new Set();
  for (const i of tape.trouble) {
    const k = lowerBound(view.index, i);
    if (view.index[k] !== i || view.end[k] < state.top || view.end[k] > bottom) continue;
    const y = rowToY(state, view.end[k]), place = tape.node[i] + " " + ((y / 6) | 0);
    if (taken.has(place)) continue;
    taken.add(place);
    drawEvent(state, pen, k);
    state.drawn++;
  }
}

// Virtual time, at the left.
function drawClock(state, pen, height) {
  const { view, colours } = state;
  if (!view.count) return;
  pen.textAlign = "left";
  pen.fillStyle = colours.dim;
  let last = "";
  for (let y = HEAD + 14; y < height; y += 44) {
    const k = Math.min(view.count - 1, lowerBound(view.end, yToRow(state, y)));
    const row = yToRow(state, y);
    if (row > view.last || row < view.first) continue;
    const tick = state.axis === "time" ? Math.max(0, Math.round(row)) : view.tick[k];
    const text = seconds(tick) + " s";
    if (text === last) continue;
    last = text;
    writeText(state, pen, text, 6, y, "left");
  }
}

function drawHead(state, pen, width) {
  const { tape, view, colours } = state;
  pen.fillStyle = colours.panel;
  pen.fillRect(0, 0, width, HEAD);
  pen.fillStyle = colours.line;
  pen.fillRect(0, HEAD - 1, width, 1);
  pen.font = "600 " + FONT;
  const slanted = state.laneGap < 76;
  const every = Math.max(1, Math.ceil(30 / state.laneGap));
  view.lanes.forEach((number, place) => {
    const x = state.laneX[number];
    if (x < -40 || x > width + 40 || place % every) return;
    pen.fillStyle = state.filter.nodes.has(number) ? colours.focus : colours.text;
    const name = clipped(pen, tape.nodes[number - 1], slanted ? 70 : state.laneGap);
    if (!slanted) {
      pen.textAlign = "center";
      pen.fillText(name, x, HEAD - 12);
      return;
    }
    pen.save();
    pen.translate(x - 4, HEAD - 5);
    pen.rotate(-0.55);
    pen.textAlign = "left";
    pen.fillText(name, 0, 0);
    pen.restore();
  });
  pen.font = FONT;
}

// The whole run in one column, with trouble in it, and where the screen is.
function drawMap(state) {
  const { pen, width, height } = fitted(state.map);
  const { view, tape, colours } = state;
  pen.fillStyle = colours.back;
  pen.fillRect(0, 0, width, height);
  if (!view.count) return;
  if (state.mapOf !== view || state.mapBins.length !== Math.floor(height)) {
    state.mapBins = new Uint32Array(Math.floor(height));
    const scale = height / (view.last - view.first);
    for (let k = 0; k < view.count; k++) {
      state.mapBins[Math.min(state.mapBins.length - 1, ((view.end[k] - view.first) * scale) | 0)]++;
    }
    state.mapMost = state.mapBins.reduce((a, b) => Math.max(a, b), 1);
    state.mapOf = view;
  }
  pen.fillStyle = colours.lane;
  state.mapBins.forEach((bin, y) => {
    if (bin) pen.fillRect(8, y, (width - 16) * Math.log2(bin + 1) / Math.log2(state.mapMost + 1), 1);
  });
  const scale = height / (view.last - view.first);
  pen.fillStyle = colours.fault;
  for (const i of tape.trouble) {
    const k = lowerBound(view.index, i);
    if (view.index[k] !== i) continue;
    const broken = tape.kinds[tape.kind[i]] === "BROKEN";
    pen.fillRect(broken ? 0 : width - 8, (view.end[k] - view.first) * scale - 1, broken ? width : 8, 2);
  }
  const rows = (state.canvas.clientHeight - HEAD) / state.zoom;
  pen.strokeStyle = colours.focus;
  pen.lineWidth = 2;
  pen.strokeRect(2, (state.top - view.first) * scale, width - 4, Math.max(6, rows * scale));
}
