// What the user does, and what is drawn after it.

const ZOOM_MAX = 60;

async function main() {
  const started = performance.now();
  const tape = await readTape();
  const at = (id) => document.getElementById(id);
  const state = {
    tape, canvas: at("chart"), map: at("map"), panel: at("panel"), tip: at("tip"),
    axis: "order", selected: -1, top: 0, zoom: 16, side: 0, colours: {},
    filter: { groups: GROUPS.map((group) => group[2]), nodes: new Set(), session: 0, link: 0 },
  };
  window.stellateChart = state;
  fillControls(state);
  fillLegend(state);
  listenKeys(state);
  listenMouse(state);
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light", state);
  makeAnew(state);
  state.top = state.view.first;
  showPanel(state);
  const wanted = /^#event=(\d+)$/.exec(location.hash);
  if (wanted) goTo(state, Number(wanted[1]) - 1 - tape.dropped);
  else if (tape.broken.length) goTo(state, tape.broken[0]);
  new ResizeObserver(() => drawNow(state)).observe(at("stage"));
  drawNow(state);
  state.loadMs = performance.now() - started;
  document.documentElement.dataset.ready = "yes";
}

// Draws once before the next frame, however often it is asked for.
function redraw(state) {
  if (state.asked) return;
  state.asked = true;
  requestAnimationFrame(() => drawNow(state));
}

function drawNow(state) {
  const begin = performance.now();
  state.asked = false;
  const rows = (state.canvas.clientHeight - HEAD) / state.zoom;
  state.top = Math.max(state.view.first - 1, Math.min(state.view.last - rows * 0.3, state.top));
  drawChart(state);
  drawMap(state);
  state.frameMs = performance.now() - begin;
}

// The view of a new filter or axis, around the same moment.
function makeAnew(state) {
  const middle = state.view && state.view.count ? tickAtTop(state) : -1;
  state.view = makeView(state.tape, state.filter, state.axis);
  document.getElementById("empty").hidden = state.view.count > 0;
  if (middle >= 0 && state.view.count) {
    const k = Math.min(state.view.count - 1, lowerBound(state.view.tick, middle));
    state.top = state.view.end[k] - 2;
  }
  showFilter(state);
  redraw(state);
}

function tickAtTop(state) {
  const { view } = state;
  return view.tick[Math.min(view.count - 1, lowerBound(view.end, state.top + 1))];
}

function setFilter(state, change) {
  Object.assign(state.filter, change);
  makeAnew(state);
  if (state.selected >= 0) reveal(state, state.selected);
}

function clearFilter(state) {
  setFilter(state, { groups: GROUPS.map((group) => group[2]), nodes: new Set(), session: 0, link: 0 });
}

function showFilter(state) {
  const { filter, tape } = state;
  const at = (id) => document.getElementById(id);
  at("groups").querySelectorAll("button").forEach((button, n) => button.setAttribute("aria-pressed", filter.groups[n]));
  at("session").value = filter.session;
  at("nodes").querySelectorAll("input").forEach((input) => { input.checked = filter.nodes.has(Number(input.value)); });
  const names = [...filter.nodes].map((number) => nodeOf(tape, number));
  at("nodes").querySelector("summary").textContent =
    (names.length === 0 ? "all nodes" : names.length < 4 ? names.join(", ") : names.length + " nodes") + (filter.link ? ", link " + filter.link : "");
  const some = filter.nodes.size || filter.session || filter.link || filter.groups.some((on, n) => on !== GROUPS[n][2]);
  at("clear").disabled = !some;
}

function fillControls(state) {
  const { tape } = state, at = (id) => document.getElementById(id);
  at("facts").textContent = factsOf(tape);
  GROUPS.forEach((group, n) => {
    const button = element("button", undefined, at("groups"));
    element("i", undefined, button).style.setProperty("--c", `var(--${group[1]})`);
    element("span", group[0], button);
    element("small", tape.groupCounts[n].toLocaleString("en"), button);
    button.title = group[3].join(", ");
    button.hidden = tape.groupCounts[n] === 0;
    button.onclick = () => setFilter(state, { groups: state.filter.groups.map((on, m) => (m === n ? !on : on)) });
  });
  const every = element("option", "all", at("session"));
  every.value = 0;
  tape.sessions.slice(0, 2000).forEach((tag, place) => { element("option", tag, at("session")).value = place + 1; });
  at("session").onchange = (event) => setFilter(state, { session: Number(event.target.value), link: 0 });
  fillNodes(state, at("nodes").querySelector("div"));
  at("axis").onchange = (event) => { state.axis = event.target.value; makeAnew(state); };
  at("find").onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "Enter") find(state, event.target.value, event.shiftKey ? -1 : 1);
    if (event.key === "Escape") state.canvas.focus();
  };
  at("trouble").onclick = () => nextTrouble(state, 1);
  at("trouble").disabled = tape.trouble.length === 0;
  at("all").onclick = () => fit(state);
  at("clear").onclick = () => clearFilter(state);
  at("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark", state);
  at("help").onclick = () => at("keys").showModal();
  if (tape.broken.length) {
    at("broken").hidden = false;
    at("broken").querySelector("strong").textContent = "Broken at " + seconds(tape.tick[tape.broken[0]]) + " s:";
    at("broken").querySelector("span").textContent = moreOf(tape, tape.broken[0]);
    at("broken").querySelector("button").onclick = () => goTo(state, tape.broken[0]);
  }
}

function factsOf(tape) {
  const number = (n) => n.toLocaleString("en");
  const last = tape.count ? tape.tick[tape.count - 1] : 0;
  const parts = [number(tape.nodes.length) + " nodes", number(tape.sessions.length) + " sessions",
    number(tape.count) + " events", seconds(last) + " s of virtual time"];
  if (tape.dropped) parts.push(number(tape.dropped) + " older events not kept");
  return parts.join(" · ");
}

function fillNodes(state, box) {
  const names = [...state.tape.nodes.keys()].sort((a, b) => compareNames(state.tape.nodes[a], state.tape.nodes[b]));
  for (const place of names) {
    const label = element("label", undefined, box), input = element("input", undefined, label);
    input.type = "checkbox";
    input.value = place + 1;
    label.append(" " + state.tape.nodes[place]);
    input.onchange = () => toggleNode(state, place + 1);
  }
}

function toggleNode(state, number) {
  const nodes = new Set(state.filter.nodes);
  if (!nodes.delete(number)) nodes.add(number);
  setFilter(state, { nodes });
}

function setTheme(theme, state) {
  document.documentElement.dataset.theme = theme;
  state.colours = readColours();
  if (state.view) redraw(state);
}

// --- going places ----------------------------------------------------------------------------

function select(state, i) {
  state.selected = i;
  showPanel(state);
  redraw(state);
}

// Shows an event whatever the filter says.
function goTo(state, i) {
  if (!(i >= 0 && i < state.tape.count)) return;
  const k = lowerBound(state.view.index, i);
  if (state.view.index[k] !== i) {
    const group = state.tape.groupOf[state.tape.kind[i]];
    setFilter(state, { groups: state.filter.groups.map((on, n) => on || n === group), nodes: new Set(), session: 0, link: 0 });
  }
  if (state.zoom < 13) state.zoom = 16;
  select(state, i);
  reveal(state, i);
}

// Moves so that an event is on the screen.
function reveal(state, i) {
  const k = lowerBound(state.view.index, i);
  if (state.view.index[k] !== i) return;
  const y = rowToY(state, state.view.end[k]), height = state.canvas.clientHeight;
  if (y < HEAD + 30 || y > height - 30) state.top = state.view.end[k] - (height - HEAD) / 2 / state.zoom;
  const x = state.laneX?.[state.tape.node[i]];
  if (x < 20 || x > state.canvas.clientWidth - 20) state.side += x - state.canvas.clientWidth / 2;
  redraw(state);
}

function stepSelection(state, by) {
  const { view } = state;
  if (!view.count) return;
  let k = lowerBound(view.index, state.selected);
  if (state.selected < 0) k = lowerBound(view.end, state.top);
  else k += view.index[k] === state.selected || by < 0 ? by : 0;
  if (k >= 0 && k < view.count) goTo(state, view.index[k]);
}

function nextTrouble(state, by) {
  const { tape, view } = state;
  const here = state.selected >= 0 ? state.selected : view.count ? view.index[Math.min(view.count - 1, lowerBound(view.end, state.top))] - 1 : -1;
  const next = by > 0 ? tape.trouble.find((i) => i > here) : tape.trouble.findLast((i) => i < here);
  if (next !== undefined) goTo(state, next);
}

function find(state, text, by) {
  const { tape } = state, wanted = text.trim().toLowerCase();
  if (!wanted) return;
  let i = state.selected;
  for (let n = 0; n < tape.count; n++) {
    i = (i + by + tape.count) % tape.count;
    if (textOf(tape, i).toLowerCase().includes(wanted)) return goTo(state, i);
  }
  document.getElementById("find").select();
}

function fit(state) {
  const rows = state.view.last - state.view.first + 2;
  state.zoom = Math.min(ZOOM_MAX, (state.canvas.clientHeight - HEAD) / rows);
  state.top = state.view.first - 1;
  redraw(state);
}

function zoomAt(state, factor, y) {
  const row = yToRow(state, y);
  const least = (state.canvas.clientHeight - HEAD) / (state.view.last - state.view.first + 2);
  state.zoom = Math.max(Math.min(least, ZOOM_MAX), Math.min(ZOOM_MAX, state.zoom * factor));
  state.top = row - (y - HEAD) / state.zoom;
  redraw(state);
}

// --- mouse and keys --------------------------------------------------------------------------

// The event at a point, if one is near.
function eventAt(state, x, y) {
  if (!state.single) return -1;
  const { tape, view } = state;
  let best = -1, least = 8;
  eachVisible(view, yToRow(state, y - 12), yToRow(state, y + 12), (k) => {
    const i = view.index[k], far = distance(state, i, k, x, y);
    if (far < least) { least = far; best = i; }
  });
  return best;
}

function distance(state, i, k, x, y) {
  const { tape, view } = state;
  const from = state.laneX[tape.node[i]], to = state.laneX[tape.peer[i]], y1 = rowToY(state, view.end[k]);
  if (tape.node[i] === 0) return Math.abs(y - y1) + 2;
  if (tape.state[i] === EVENT && tape.kinds[tape.kind[i]] !== "cut") return Math.hypot(x - from, y - y1) * 0.8;
  if (Number.isNaN(from) || Number.isNaN(to)) return Infinity;
  const y0 = tape.state[i] === EVENT ? y1 : rowToY(state, view.begin[k]), dx = to - from, dy = y1 - y0;
  const part = Math.max(0, Math.min(1, ((x - from) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - from - part * dx, y - y0 - part * dy);
}

function nodeAt(state, x) {
  return state.view.lanes.find((number) => Math.abs(state.laneX[number] - x) < Math.min(40, state.laneGap / 2)) ?? 0;
}

function listenMouse(state) {
  const { canvas, map } = state;
  let drag = null;
  canvas.onwheel = (event) => {
    event.preventDefault();
    const by = event.deltaMode === 1 ? event.deltaY * 20 : event.deltaY;
    if (event.ctrlKey || event.metaKey) return zoomAt(state, Math.exp(-by / 300), event.offsetY);
    if (event.shiftKey) state.side += by; else { state.top += by / state.zoom; state.side += event.deltaX; }
    redraw(state);
  };
  canvas.onpointerdown = (event) => {
    drag = { x: event.offsetX, y: event.offsetY, top: state.top, side: state.side, moved: false };
    try { canvas.setPointerCapture(event.pointerId); } catch { /* a made-up event has no pointer */ }
  };
  canvas.onpointermove = (event) => {
    if (!drag) return hover(state, event.offsetX, event.offsetY);
    if (Math.hypot(event.offsetX - drag.x, event.offsetY - drag.y) > 4) drag.moved = true;
    if (!drag.moved) return;
    canvas.classList.add("drag");
    state.top = drag.top - (event.offsetY - drag.y) / state.zoom;
    state.side = drag.side - (event.offsetX - drag.x);
    redraw(state);
  };
  canvas.onpointerup = (event) => {
    canvas.classList.remove("drag");
    if (drag && !drag.moved) click(state, event.offsetX, event.offsetY);
    drag = null;
  };
  canvas.onpointerleave = () => { state.tip.hidden = true; };
  canvas.ondblclick = (event) => zoomAt(state, 2.5, event.offsetY);
  const jump = (event) => {
    const rows = (canvas.clientHeight - HEAD) / state.zoom;
    state.top = state.view.first + (event.offsetY / map.clientHeight) * (state.view.last - state.view.first) - rows / 2;
    redraw(state);
  };
  map.onpointerdown = (event) => { map.setPointerCapture?.(event.pointerId); jump(event); };
  map.onpointermove = (event) => { if (event.buttons) jump(event); };
}

function click(state, x, y) {
  state.canvas.focus();
  if (y < HEAD) {
    const number = nodeAt(state, x);
    if (number) toggleNode(state, number);
    return;
  }
  if (!state.single) return zoomAt(state, 4, y);
  select(state, eventAt(state, x, y));
}

function hover(state, x, y) {
  const { tip, tape } = state;
  const i = y < HEAD ? -1 : eventAt(state, x, y);
  state.canvas.classList.toggle("hit", i >= 0 || (y < HEAD && nodeAt(state, x) > 0));
  tip.hidden = i < 0;
  if (i < 0) return;
  const way = tape.state[i] === EVENT ? nodeOf(tape, tape.node[i]) : nodeOf(tape, tape.node[i]) + " → " + nodeOf(tape, tape.peer[i]);
  tip.textContent = seconds(tape.tick[i]) + " s  " + way + "  " + labelOf(tape, i);
  const width = state.canvas.clientWidth;
  tip.style.left = Math.min(x + 14, Math.max(0, width - tip.offsetWidth - 8)) + "px";
  tip.style.top = Math.min(y + 14, state.canvas.clientHeight - 40) + "px";
}

function listenKeys(state) {
  const page = () => (state.canvas.clientHeight - HEAD) / state.zoom;
  const middle = () => HEAD + (state.canvas.clientHeight - HEAD) / 2;
  const scroll = (rows) => () => { state.top += rows(); redraw(state); };
  const keys = {
    ArrowDown: scroll(() => 40 / state.zoom), ArrowUp: scroll(() => -40 / state.zoom),
    PageDown: scroll(() => page() * 0.9), PageUp: scroll(() => -page() * 0.9),
    ArrowRight: () => { state.side += 60; redraw(state); }, ArrowLeft: () => { state.side -= 60; redraw(state); },
    Home: () => { state.top = state.view.first; redraw(state); }, End: () => { state.top = state.view.last - page(); redraw(state); },
    "+": () => zoomAt(state, 1.4, middle()), "=": () => zoomAt(state, 1.4, middle()), "-": () => zoomAt(state, 1 / 1.4, middle()),
    0: () => fit(state), j: () => stepSelection(state, 1), k: () => stepSelection(state, -1),
    n: () => nextTrouble(state, 1), p: () => nextTrouble(state, -1), t: () => document.getElementById("theme").click(),
    "/": () => document.getElementById("find").focus(), "?": () => document.getElementById("keys").showModal(),
    Escape: () => { if (state.selected >= 0) select(state, -1); else clearFilter(state); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest?.("select, input, summary") || (event.target.tagName === "BUTTON" && event.key === "Enter")) return;
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

main().catch((error) => {
  document.getElementById("facts").textContent = "This page's data cannot be read: " + error;
  throw error;
});
