// The script of the dashboard: asks for the status once a second, remembers two minutes of rates, and draws.

let dashboardScript = #"""
  "use strict";
  const samplesMax = 120, rowsMax = 50, mapEveryMs = 4000;
  const samples = [], maps = new Map();
  let last = null;

  const $ = id => document.getElementById(id);
  function h(tag, attributes, ...children) {
    const svg = ["svg", "path", "line", "rect"].includes(tag);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    node.append(...children.filter(child => child !== null && child !== undefined));
    return node;
  }

  function scaled(value, base, units) {
    let at = 0;
    while (Math.abs(value) >= base && at < units.length - 1) { value /= base; at += 1; }
    const digits = at === 0 && Number.isInteger(value) ? 0 : value < 10 ? 2 : value < 100 ? 1 : 0;
    return value.toFixed(digits) + " " + units[at];
  }
  const bytes = value => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
  const count = value => scaled(value, 1000, ["", "k", "M", "G", "T"]).trim();
  function time(seconds) {
    if (seconds === null || seconds === undefined) return "\u2013";
    if (seconds < 0.001) return scaled(seconds * 1e6, 1000, ["\u00b5s"]);
    if (seconds < 1) return scaled(seconds * 1e3, 1000, ["ms"]);
    return scaled(seconds, 1e9, ["s"]);
  }
  function span(seconds) {
    const s = Math.floor(seconds), parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
    const first = parts.findIndex(([size]) => s >= size);
    if (first < 0) return "0 s";
    let text = Math.floor(s / parts[first][0]) + " " + parts[first][1];
    if (first < 3) text += " " + Math.floor(s % parts[first][0] / parts[first + 1][0]) + " " + parts[first + 1][1];
    return text;
  }

  // Counters of an export or a connection, added up.
  function totals(commands) {
    const sum = { requests: 0, errors: 0, read: 0, written: 0 };
    for (const [name, c] of Object.entries(commands)) {
      sum.requests += c.requests;
      sum.errors += c.errors;
      if (name === "read") sum.read += c.bytes;
      if (name === "write") sum.written += c.bytes;
    }
    return sum;
  }
  function rates(now, before, seconds) {
    const result = {};
    for (const key of Object.keys(now)) {
      result[key] = before && seconds > 0 ? Math.max(0, now[key] - before[key]) / seconds : 0;
    }
    return result;
  }

  // The duration that the fraction q did not exceed, from the buckets that were filled since.
  function quantile(buckets, bounds, q) {
    const all = buckets.reduce((a, b) => a + b, 0);
    if (all === 0) return null;
    let below = 0;
    for (let i = 0; i < buckets.length; i += 1) {
      if (buckets[i] > 0 && below + buckets[i] >= q * all) {
        const low = i === 0 ? 0 : bounds[i - 1], high = i < bounds.length ? bounds[i] : low;
        return (low + (high - low) * (q * all - below) / buckets[i]) / 1e9;
      }
      below += buckets[i];
    }
    return null;
  }
  function allBuckets(status) {
    const sum = status.latency.bounds_nanoseconds.map(() => 0).concat(0);
    for (const c of Object.values(status.latency.commands)) c.buckets.forEach((n, i) => { sum[i] += n; });
    return sum;
  }

  function sampleOf(status) {
    const seconds = last ? status.uptime_seconds - last.uptime_seconds : 0;
    const sums = list => {
      const all = { requests: 0, errors: 0, read: 0, written: 0 };
      for (const item of list) for (const [k, v] of Object.entries(totals(item.commands))) all[k] += v;
      return all;
    };
    const rate = rates(sums(status.exports), last ? sums(last.exports) : null, seconds);
    const now = allBuckets(status), before = last ? allBuckets(last) : now;
    const since = now.map((n, i) => Math.max(0, n - before[i]));
    const bounds = status.latency.bounds_nanoseconds;
    return { ...rate, p50: quantile(since, bounds, 0.5), p99: quantile(since, bounds, 0.99) };
  }

  function chart(title, unit, lines) {
    const peak = Math.max(...lines.flatMap(([, key]) => samples.map(s => s[key] || 0)), 0);
    const width = 240, height = 60, top = peak > 0 ? peak * 1.1 : 1;
    const svg = h("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    for (const y of [0.5, height / 2, height - 0.5]) svg.append(h("line", { class: "axis", x1: 0, x2: width, y1: y, y2: y }));
    for (const [name, key, style] of lines) {
      const x = i => width * (samplesMax - samples.length + i) / (samplesMax - 1);
      const y = v => height - 1 - (height - 2) * v / top;
      const points = samples.map((s, i) => `${x(i).toFixed(1)} ${y(s[key] || 0).toFixed(1)}`);
      if (points.length > 1) {
        const d = "M" + points.join("L");
        const area = `${d}L${width} ${height}L${x(0).toFixed(1)} ${height}Z`;
        svg.append(h("path", { class: "area " + style, style: "fill:currentColor", d: area }));
        svg.append(h("path", { class: style, style: "stroke:currentColor", d }));
      }
    }
    const now = samples[samples.length - 1] || {};
    const legend = lines.map(([name, key, style]) =>
      h("span", { class: style }, `${name} ${now[key] === null ? "\u2013" : unit(now[key] || 0)}`));
    return h("div", { class: "card chart" },
      h("div", { class: "row" }, h("b", {}, title), h("span", { class: "dim small" }, "peak " + unit(peak))),
      h("div", { class: "row small", style: "justify-content:flex-start" }, ...legend), svg);
  }

  const tile = (name, value) => h("div", { class: "card tile" }, h("span", { class: "dim small" }, name), h("b", {}, value));
  const fact = (name, value, style) => h("div", {}, h("span", {}, name), h("b", { class: style || "" }, value));

  function exportCard(item, before, seconds) {
    const now = totals(item.commands), rate = rates(now, before && totals(before.commands), seconds);
    const chips = [];
    if (item.default) chips.push(h("span", { class: "chip" }, "default"));
    if (item.read_only) chips.push(h("span", { class: "chip" }, "read-only"));
    if (item.paused) chips.push(h("span", { class: "chip warn" }, "paused"));
    if (item.hidden) chips.push(h("span", { class: "chip warn" }, "leaving"));
    if (item.latched_error) chips.push(h("span", { class: "chip bad" }, "sync failed: " + item.latched_error));
    let map = maps.get(item.name);
    if (!map) { map = { node: h("div", { class: "map" }), at: -Infinity }; maps.set(item.name, map); }
    const used = item.allocated_bytes === null ? "" : `, ${bytes(item.allocated_bytes)} allocated`;
    return h("div", { class: "card", "data-export": item.name },
      h("div", { class: "row" }, h("h3", {}, item.name), h("span", {}, ...chips)),
      h("div", { class: "dim small" }, bytes(item.size_bytes) + used),
      item.description ? h("div", { class: "dim small" }, item.description) : null,
      map.node,
      h("div", { class: "facts" },
        fact("read", bytes(rate.read) + "/s", "a"), fact("written", bytes(rate.written) + "/s", "b"),
        fact("requests", count(rate.requests) + "/s"), fact("connections", count(item.connections)),
        fact("in flight", count(item.in_flight)), fact("lock waiters", count(item.lock_waiters)),
        fact("errors", count(now.errors), now.errors > 0 ? "b" : "")));
  }

  // One at a time, the oldest of those that can be seen.
  let isMapping = false;
  async function drawNextMap() {
    const isVisible = node => {
      const box = node.getBoundingClientRect();
      return box.bottom > 0 && box.top < window.innerHeight;
    };
    const due = [...maps].filter(([, map]) => performance.now() - map.at > mapEveryMs && isVisible(map.node));
    if (isMapping || due.length === 0) return;
    const [name, map] = due.reduce((a, b) => a[1].at <= b[1].at ? a : b);
    isMapping = true;
    map.at = performance.now();
    await drawMap(name, map);
    isMapping = false;
    drawNextMap();
  }

  async function drawMap(name, map) {
    try {
      const answer = await fetch("map.svg?export=" + encodeURIComponent(name), { cache: "no-store" });
      if (!answer.ok) return;
      const picture = new DOMParser().parseFromString(await answer.text(), "image/svg+xml").documentElement;
      map.node.replaceChildren(document.importNode(picture, true));
    } catch (error) { /* the next one comes */ }
  }

  function table(node, heads, rows, none) {
    const cell = (tag, [text, style]) => h(tag, { class: style || "" }, text);
    node.replaceChildren(
      h("thead", {}, h("tr", {}, ...heads.map(head => cell("th", head)))),
      h("tbody", {}, ...(rows.length ? rows.map(row => h("tr", {}, ...row.map((value, i) =>
        value instanceof Node ? h("td", { class: heads[i][1] || "" }, value) : cell("td", [value, heads[i][1]])))) :
        [h("tr", {}, h("td", { class: "t dim", colspan: heads.length }, none))])));
  }

  function bars(buckets) {
    const peak = Math.max(...buckets, 1);
    const svg = h("svg", { class: "bars", viewBox: `0 0 ${buckets.length} 10`, preserveAspectRatio: "none" });
    buckets.forEach((n, i) => {
      const height = n > 0 ? Math.max(0.6, 10 * Math.sqrt(n / peak)) : 0;
      svg.append(h("rect", { x: i + 0.1, width: 0.8, y: 10 - height, height }));
    });
    return svg;
  }

  function draw(status) {
    const seconds = last ? status.uptime_seconds - last.uptime_seconds : 0;
    samples.push(sampleOf(status));
    if (samples.length > samplesMax) samples.shift();
    const now = samples[samples.length - 1];
    $("version").textContent = status.version;
    $("uptime").textContent = "up " + span(status.uptime_seconds);
    $("state").className = status.shutting_down ? "chip warn" : "chip good";
    $("state").textContent = status.shutting_down ? "shutting down" : "serving";
    const inFlight = status.exports.reduce((sum, item) => sum + item.in_flight, 0);
    $("tiles").replaceChildren(
      tile("requests", count(now.requests) + "/s"), tile("read", bytes(now.read) + "/s"),
      tile("written", bytes(now.written) + "/s"), tile("p99 latency", time(now.p99)),
      tile("in flight", count(inFlight)), tile("connections", count(status.connections.length)));
    $("charts").replaceChildren(
      chart("Throughput", v => bytes(v) + "/s", [["read", "read", "a"], ["written", "written", "b"]]),
      chart("Requests", v => count(v) + "/s", [["all", "requests", "a"], ["errors", "errors", "b"]]),
      chart("Latency", time, [["p50", "p50", "a"], ["p99", "p99", "b"]]));

    const slow = status.slow_operations;
    $("alarms").replaceChildren(...(slow.length === 0 ? [] : [h("div", { class: "card alarm", style: "margin-top:12px" },
      h("h2", {}, `In flight for more than ${status.slow_operation_seconds} s`),
      ...slow.slice(0, 10).map(o => h("div", {},
        `${o.command} ${o.offset}+${o.length} of ${o.export}, connection ${o.connection}: ${span(o.age_seconds)}, ` +
        `waits for ${o.waits_for === "lock" ? "another operation" : "the " + o.waits_for}`)))]));

    const old = new Map((last ? last.exports : []).map(item => [item.name, item]));
    $("exports").replaceChildren(...status.exports.map(item => exportCard(item, old.get(item.name), seconds)));
    for (const name of maps.keys()) if (!status.exports.some(item => item.name === name)) maps.delete(name);

    const commands = Object.entries(status.latency.commands).filter(([, c]) => c.count > 0);
    const errors = {};
    for (const item of status.exports) {
      for (const [name, c] of Object.entries(item.commands)) errors[name] = (errors[name] || 0) + c.errors;
    }
    table($("commands"), [["command", "t"], ["requests"], ["errors", "wide"], ["p50"], ["p99"], ["1 \u00b5s \u2192 17 s", "wide"]],
      commands.map(([name, c]) => [name.replace("_", " "), count(c.count), count(errors[name] || 0), time(c.p50_seconds),
        time(c.p99_seconds), bars(c.buckets)]), "no request yet");

    const before = new Map((last ? last.connections : []).map(c => [c.id, c]));
    const rows = status.connections.map(c => {
      const sum = totals(c.commands), old = before.get(c.id);
      return { c, sum, rate: rates(sum, old && totals(old.commands), seconds) };
    }).sort((a, b) => b.rate.requests - a.rate.requests || a.c.id - b.c.id);
    table($("connections"), [["id", "t"], ["export", "t name"], ["peer", "t wide"], ["state", "t"], ["age", "wide"], ["requests/s"],
      ["read/s"], ["written/s"], ["in flight", "wide"]],
      rows.slice(0, rowsMax).map(({ c, sum, rate }) => [String(c.id), c.export || "\u2013", c.peer, c.state, span(c.age_seconds),
        count(rate.requests), bytes(rate.read), bytes(rate.written), count(c.in_flight)])
        .concat(rows.length > rowsMax ? [[`and ${rows.length - rowsMax} more`, "", "", "", "", "", "", "", ""]] : []),
      "nobody is connected");

    const failures = Object.values(status.handshake_failures).reduce((a, b) => a + b, 0);
    $("server").replaceChildren(
      fact("memory for requests", `${bytes(status.memory.charged_bytes)} of ${bytes(status.memory.limit_bytes)}`),
      fact("wait for memory", count(status.memory.waiting_connections)),
      fact("workers", `${status.workers.awake} awake of ${status.workers.threads}`),
      fact("locks held", count(status.locks.held)), fact("lock waits", count(status.locks.waits.count)),
      fact("p99 lock wait", time(status.locks.waits.p99_seconds)),
      fact("syncs", count(status.syncs.durations.count)), fact("p99 sync", time(status.syncs.durations.p99_seconds)),
      fact("failed syncs", count(status.syncs.errors), status.syncs.errors > 0 ? "b" : ""),
      fact("freed by trim", bytes(status.effects.trimmed_bytes)),
      fact("failed handshakes", count(failures)),
      fact("configuration", status.reload.last_succeeded ? "as read" : "broken, not applied",
        status.reload.last_succeeded ? "" : "b"));
    last = status;
  }

  for (const [name, text] of [["hole", "hole"], ["zero", "allocated zeroes"], ["quarter", "a little data"], ["full", "all data"],
    ["unknown", "not looked at"]]) {
    $("legend").append(h("span", {}, h("i", { style: `background:var(--map-${name});border:1px solid var(--line)` }), text));
  }

  let updates = 0;
  async function update() {
    if (!document.hidden) {
      try {
        const answer = await fetch("status.json", { cache: "no-store" });
        if (!answer.ok) throw new Error(answer.status);
        const status = await answer.json();
        if (last && status.uptime_seconds < last.uptime_seconds) { last = null; samples.length = 0; }
        draw(status);
        drawNextMap();
        document.body.dataset.updates = ++updates;
      } catch (error) {
        $("state").className = "chip bad";
        $("state").textContent = "no answer";
      }
    }
    setTimeout(update, 1000);
  }
  update();

  """#
