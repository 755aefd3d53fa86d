// Runs in a page of a chart, in a real browser: does what a user would, and looks at the pixels.
// `.ci/chart` puts it into the page, before the page's own scripts, and reads the verdict.
(() => {
  const problems = [], passed = [];
  window.addEventListener("error", (event) => problems.push("error: " + event.message));
  window.addEventListener("unhandledrejection", (event) => problems.push("rejected: " + event.reason));
  for (const level of ["error", "warn"]) console[level] = (...words) => problems.push(level + ": " + words.join(" "));

  const check = (what, holds) => { (holds ? passed : problems).push(what); };
  // Without a screen, frames may not come: draws what the next one would show.
  const frame = async () => { await new Promise((done) => setTimeout(done, 20)); drawNow(window.stellateChart); };
  const at = (id) => document.getElementById(id);

  function point(target, kind, x, y, more = {}) {
    const box = target.getBoundingClientRect();
    target.dispatchEvent(new PointerEvent(kind, { bubbles: true, pointerId: 1, clientX: box.left + x, clientY: box.top + y, ...more }));
  }
  function clickAt(target, x, y) {
    point(target, "pointerdown", x, y, { buttons: 1 });
    point(target, "pointerup", x, y);
  }
  function wheel(target, x, y, more) {
    const box = target.getBoundingClientRect();
    target.dispatchEvent(new WheelEvent("wheel", { bubbles: true, cancelable: true, clientX: box.left + x, clientY: box.top + y, ...more }));
  }
  const key = (name) => document.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));

  // How many pixels of the chart, below the names, have about that colour.
  function pixels(state, colour, left = 0, width = state.canvas.clientWidth, from = 40, high = state.canvas.clientHeight - from) {
    const copy = document.createElement("canvas"), scale = devicePixelRatio;
    copy.width = state.canvas.width;
    copy.height = state.canvas.height;
    const pen = copy.getContext("2d", { willReadFrequently: true });
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const want = pen.getImageData(0, 0, 1, 1).data;
    pen.drawImage(state.canvas, 0, 0);
    const data = pen.getImageData(left * scale, from * scale, Math.max(1, width * scale), high * scale).data;
    let found = 0;
    for (let n = 0; n < data.length; n += 4) {
      const far = Math.abs(data[n] - want[0]) + Math.abs(data[n + 1] - want[1]) + Math.abs(data[n + 2] - want[2]);
      if (far < 40) found++;
    }
    return found;
  }

  const rows = () => [...at("panel").querySelectorAll("tr")].map((row) => [row.cells[0].textContent, row.cells[1].textContent]);
  const field = (name) => rows().find((row) => row[0] === name)?.[1];
  const touches = (state, node) => [...state.view.index].every((i) => !state.tape.node[i] || state.tape.node[i] === node || state.tape.peer[i] === node);

  async function story(state) {
    const { tape } = state;
    check("a breach is told on top", !at("broken").hidden && at("broken").textContent.includes("write 17"));
    check("it is selected", field("kind") === "BROKEN");
    key("Escape");
    key("Home");
    await frame();
    for (const lane of state.view.lanes) {
      const found = pixels(state, state.colours.lane, Math.round(state.laneX[lane]) - 1, 3);
      check("the lane of " + tape.nodes[lane - 1] + " is drawn", found > state.canvas.clientHeight / 3);
    }
    check("events are drawn singly", state.single && state.drawn > 20);
    check("messages have the colours of their classes", ["control", "high"].every((c) => pixels(state, state.colours[c]) > 50));

    const k = [...state.view.index].findIndex((i) => tape.kinds[tape.kind[i]] === "message");
    const i = state.view.index[k];
    const x = (state.laneX[tape.node[i]] + state.laneX[tape.peer[i]]) / 2;
    // Words and other arrows may lie over one of them, never over most.
    let hits = 0, tries = 0;
    for (let m = 0; m < state.view.count && state.view.end[m] < yToRow(state, state.canvas.clientHeight - 10); m++) {
      const n = state.view.index[m], part = (a, b) => a + (b - a) * 0.2;
      if (tape.kinds[tape.kind[n]] !== "message") continue;
      const x = part(state.laneX[tape.node[n]], state.laneX[tape.peer[n]]);
      const y = part(rowToY(state, state.view.begin[m]), rowToY(state, state.view.end[m]));
      tries++;
      if (pixels(state, colourOf(state, n), Math.round(x) - 3, 6, Math.round(y) - 3, 6) > 3) hits++;
    }
    check("arrows are where they should be", tries > 2 && hits > tries / 2);
    clickAt(state.canvas, x, (rowToY(state, state.view.begin[k]) + rowToY(state, state.view.end[k])) / 2);
    await frame();
    check("a click shows the fields of a message", field("type") === "Write" && field("from") && field("to") && /^[0-9a-f]{8}$/.test(field("checksum")));
    check("the call is told", field("call")?.startsWith("a request"));

    const whole = state.view.count, lane = state.view.lanes[0];
    clickAt(state.canvas, state.laneX[lane], 12);
    await frame();
    check("a click on a name filters by node", state.view.count < whole && touches(state, lane));
    at("clear").click();
    at("groups").querySelectorAll("button")[0].click();
    await frame();
    const messages = state.tape.groupCounts[0];
    check("a kind can be left out", state.view.count === whole - messages);
    at("clear").click();
    at("session").value = 1;
    at("session").dispatchEvent(new Event("change"));
    await frame();
    check("one session can be seen alone", state.view.count > 0 && state.view.count < whole && [...state.view.index].every((n) => tape.session[n] === 1));
    at("clear").click();
    await frame();
    check("filters are cleared", state.view.count === whole && at("clear").disabled);

    const zoom = state.zoom;
    wheel(state.canvas, 300, 300, { deltaY: -200, ctrlKey: true });
    check("Ctrl and wheel zoom", state.zoom > zoom);
    const top = state.top;
    wheel(state.canvas, 300, 300, { deltaY: 200 });
    check("the wheel moves", state.top > top);
    const before = state.top;
    point(state.canvas, "pointerdown", 300, 400);
    point(state.canvas, "pointermove", 300, 300);
    point(state.canvas, "pointerup", 300, 300);
    check("dragging moves", state.top > before);
    at("axis").value = "time";
    at("axis").dispatchEvent(new Event("change"));
    await frame();
    check("rows by time are drawn", state.view.count === whole && state.view.end.every((row, n) => n === 0 || row >= state.view.end[n - 1]));
    at("axis").value = "order";
    at("axis").dispatchEvent(new Event("change"));
    key("Escape");
    at("trouble").click();
    await frame();
    check("trouble is found", TROUBLE.has(tape.kinds[tape.kind[state.selected]]));
    find(state, "onerror", 1);
    await frame();
    check("a note is text, not markup", field("text")?.includes("<img src=x") && document.images.length === 0);
    goTo(state, tape.state.indexOf(2));
    await frame();
    check("a lost frame is told and has a cross", field("lost") && pixels(state, state.colours.fault) > 20);
    const light = pixels(state, state.colours.back);
    const back = state.colours.back;
    at("theme").click();
    await frame();
    check("the theme changes", state.colours.back !== back && pixels(state, state.colours.back) > light / 2);
  }

  async function many(state) {
    check("a million events are there", state.tape.count >= 1_000_000);
    fit(state);
    await frame();
    check("what is too much is drawn as bars", !state.single && pixels(state, state.colours.normal) > 1000);
    const middle = state.view.first + (state.view.last - state.view.first) / 2;
    zoomAt(state, 1e9, 400);
    state.top = middle;
    redraw(state);
    await frame();
    check("zoomed in, they are arrows again", state.single && state.drawn > 5);
    clickAt(state.canvas, state.laneX[state.view.lanes[3]], 12);
    await frame();
    check("a million are filtered by node", touches(state, state.view.lanes.find((lane) => state.filter.nodes.has(lane))));
  }

  async function run() {
    for (let n = 0; n < 600 && document.documentElement.dataset.ready !== "yes"; n++) await new Promise((done) => setTimeout(done, 50));
    check("the page is ready", document.documentElement.dataset.ready === "yes");
    const state = window.stellateChart;
    if (state) await ({ story, many, none: async () => check("an empty tape says so", !at("empty").hidden) })[document.title.includes("million") ? "many" : state.tape.count ? "story" : "none"](state);
  }
  document.addEventListener("DOMContentLoaded", () => run().catch((error) => problems.push("check: " + error.stack)).finally(() => {
    const verdict = document.createElement("pre");
    verdict.id = "verdict";
    verdict.textContent = "VER" + "DICT " + passed.length + " passed, " + problems.length + " failed\n" +
      problems.map((text) => "FAILED " + text + "\n").join("") + passed.map((text) => "ok " + text + "\n").join("");
    document.body.textContent = "";
    document.getElementById("tape")?.remove();
    document.body.append(verdict);
  }));
})();
