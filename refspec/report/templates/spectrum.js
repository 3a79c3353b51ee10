"use strict";
// The spectrum without any of its levels: every knock-out is in the page already, and
// a tick only chooses which to draw.
(() => {
  const { spectra, names, colours, kinds } = JSON.parse(document.getElementById("spectra-data").textContent);
  const at = (id) => document.getElementById(id);
  const state = { matrix: 0, removed: 0, linear: false, rank: 0 };
  const now = () => spectra[state.matrix];
  const values = () => now().values[state.removed];

  const superscript = (n) => String(n).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789-".indexOf(c)]);
  const show = (x, digits = 4) => {
    if (x === 0) return "0";
    const [mantissa, power] = x.toExponential(digits - 1).split("e").map(Number);
    return power < -3 || power > 5 ? `${mantissa}\u00a0×\u00a010${superscript(power)}` : String(Number(x.toPrecision(digits)));
  };
  const make = (tag, attributes, parent, text) => {
    const svg = ["svg", "g", "line", "rect", "circle", "path", "text", "title"].includes(tag);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };
  const list = (words) => words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
  const decades = (low, high, room) => {
    const first = Math.ceil(low), last = Math.floor(high);
    const step = Math.max(1, Math.ceil((last - first + 1) / room));
    const out = [];
    for (let e = last; e >= first; e -= step) out.push(e);
    return out.reverse();
  };
  const steps = (high, room) => {
    const raw = high / room, unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((m) => m * unit >= raw) * unit;
    const out = [];
    for (let x = 0; x <= high * 1.0001; x += step) out.push(x);
    return out;
  };

  // An empty chart as wide as its place, in CSS pixels, so that text keeps its size.
  const frame = (svg, xLabel, yLabel) => {
    const width = Math.max(260, Math.round(svg.parentNode.clientWidth)), height = 290;
    const box = { left: 62, right: width - 10, top: 12, bottom: height - 44, width, height };
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("class", "chart");
    make("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "chart-axis" }, svg);
    make("line", { x1: box.left, x2: box.left, y1: box.top, y2: box.bottom, class: "chart-axis" }, svg);
    make("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, svg, xLabel);
    const y = (box.top + box.bottom) / 2;
    make("text", { x: 13, y, "text-anchor": "middle", transform: `rotate(-90 13 ${y})` }, svg, yLabel);
    return box;
  };
  const tickY = (svg, box, y, text) => {
    make("line", { x1: box.left, x2: box.right, y1: y, y2: y, class: "chart-grid" }, svg);
    make("text", { x: box.left - 6, y: y + 4, "text-anchor": "end" }, svg, text);
  };
  const tickX = (svg, box, x, text) => {
    make("line", { x1: x, x2: x, y1: box.bottom, y2: box.bottom + 4, class: "chart-axis" }, svg);
    make("text", { x, y: box.bottom + 18, "text-anchor": "middle" }, svg, text);
  };

  let places = []; // of the eigenvalues drawn, for the pointer
  const drawRanks = () => {
    const svg = at("ranks"), box = frame(svg, "rank k", "eigenvalue"), m = now();
    const whole = m.values[0], top = (whole[0] || 1) * 1.15, n = whole.length;
    const resolved = whole.filter((v) => v > m.floor);
    const low = (resolved.at(-1) || top / 10) / 1.5;
    const x = (k) => box.left + 12 + (box.right - box.left - 20) * (n > 1 ? Math.log(k + 1) / Math.log(n) : 0.5);
    const y = (v) => state.linear
      ? box.bottom - (box.bottom - box.top) * v / top
      : box.bottom - (box.bottom - box.top) * Math.log(v / low) / Math.log(top / low);
    if (state.linear) for (const t of steps(top, 5)) tickY(svg, box, y(t), show(t, 3));
    else for (const e of decades(Math.log10(low), Math.log10(top), 7)) tickY(svg, box, y(10 ** e), `10${superscript(e)}`);
    let right = -99;
    for (const k of [1, 2, 5, 10, 20, 50, 100, 200, 400].filter((k) => k <= n)) {
      if (x(k - 1) - right > 30) { tickX(svg, box, x(k - 1), k); right = x(k - 1); }
    }
    const seen = (v) => v > m.floor && (state.linear || v >= low);
    if (state.removed) whole.forEach((v, k) => {
      if (seen(v)) make("circle", { cx: x(k), cy: y(v), r: 2.4, class: "chart-ghost-dot" }, svg);
    });
    places = [];
    values().forEach((v, k) => {
      if (!seen(v)) return;
      const dot = make("circle", { cx: x(k), cy: y(v), r: 3.3, "data-k": k + 1, "data-value": v, class: "chart-dot" }, svg);
      if (state.removed) dot.classList.add("chart-rest");
      else dot.setAttribute("fill", colours[m.kinds[k]]);
      places.push({ k, x: x(k), y: y(v) });
    });
    const mine = places.find((p) => p.k === state.rank);
    if (mine) make("circle", { cx: mine.x, cy: mine.y, r: 7, class: "chart-mark", id: "mark" }, svg);
  };

  const drawBins = () => {
    const svg = at("bins"), box = frame(svg, "eigenvalue", "eigenvalues per bin"), m = now();
    const [low, high] = m.edges, counts = m.counts[state.removed], bins = counts.length;
    const most = Math.max(1, ...m.counts[0], ...counts);
    const x = (b) => box.left + (box.right - box.left) * b / bins;
    const y = (c) => box.bottom - (box.bottom - box.top) * Math.sqrt(c / most) * 0.97;
    let last = box.bottom + 99;
    for (const t of [0, 1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 2e4, 5e4, 1e5]) {
      if (t <= most && last - y(t) > 18) { tickY(svg, box, y(t), t); last = y(t); }
    }
    for (const e of decades(low, high, (box.right - box.left) / 60)) tickX(svg, box, x((e - low) / (high - low) * bins), `10${superscript(e)}`);
    counts.forEach((count, b) => {
      if (!count) return;
      const bar = make("g", { "data-bin": b, "data-count": count }, svg);
      const width = x(1) - x(0), rect = (from, to, more) => make("rect",
        { x: x(b), width: width + 0.3, y: y(count * to * to), height: Math.max(0, y(count * from * from) - y(count * to * to)), ...more }, bar);
      if (state.removed) { rect(0, 1, { class: "chart-rest" }); return; }
      const total = m.stacks.reduce((sum, s) => sum + s[b], 0) || 1;
      let from = 0; // the strongest structure on top
      m.levels.map((name, i) => [name, i]).sort((a, c) => order(c[0]) - order(a[0])).forEach(([name, i]) => {
        const to = Math.min(1, from + m.stacks[i][b] / total);
        rect(from, to, { fill: colours[name] });
        from = to;
      });
    });
    if (state.removed) {
      let path = `M${x(0)},${y(0)}`;
      m.counts[0].forEach((c, b) => { path += `L${x(b)},${y(c)}L${x(b + 1)},${y(c)}`; });
      make("path", { d: `${path}L${x(bins)},${y(0)}`, class: "chart-ghost" }, svg);
    }
  };
  const order = (name) => ["global_mean", "between_class", "between_cross_class", "within_cross_class", "within_class", "diagonal"].indexOf(name);

  const drawLegend = () => {
    const m = now(), out = at("legend");
    out.replaceChildren();
    const entry = (colour, text) => {
      const item = make("li", {}, out);
      make("span", { class: "swatch", style: `background:${colour}` }, item);
      item.append(` ${text}`);
    };
    if (state.removed) {
      entry("var(--rest)", "what stays");
      entry("none; outline: 1.5px solid var(--ghost)", "the whole");
    } else {
      for (const kind of kinds) if (m.kinds.includes(kind)) entry(colours[kind], kind);
      for (const name of ["global_mean", "diagonal"].filter((n) => m.levels.includes(n))) entry(colours[name], names[name]);
    }
  };

  const tellStatus = () => {
    const m = now(), removed = m.levels.filter((_, i) => state.removed >> i & 1);
    const trace = m.traces.reduce((a, b) => a + b, 0);
    const rest = m.traces.reduce((a, t, i) => a + (state.removed >> i & 1 ? 0 : t), 0);
    at("status").textContent = removed.length
      ? `Without ${list(removed.map((n) => names[n]))}: the largest eigenvalue is ${show(values()[0])} instead of ${show(m.values[0][0])}, and ${trace ? (100 * rest / trace).toPrecision(3) : 0} % of the trace stays.`
      : `The whole: the largest eigenvalue is ${show(m.values[0][0])}; ${m.resolved} of ${m.dimension} stand above ${show(m.floor, 2)}, below which knock-outs are not resolved.`;
    at("knockout").dataset.removed = state.removed;
  };

  const tellEigenvalue = () => {
    const m = now(), k = state.rank, value = values()[k], out = at("eigenvalue");
    const radius = m.radius[state.removed];
    at("rank").value = k + 1;
    at("rank-out").textContent = k + 1;
    out.replaceChildren();
    const line = make("p", {}, out);
    make("strong", { id: "value" }, line, `λ${[...String(k + 1)].map((d) => "₀₁₂₃₄₅₆₇₈₉"[d]).join("")} = ${show(value, 6)}`);
    line.append(` ± ${show(radius, 2)}${value <= radius ? ", not resolved from zero" : ""}`);
    at("rank").setAttribute("aria-valuetext", `eigenvalue ${k + 1}, ${show(value, 4)}`);
    if (state.removed) {
      make("p", {}, out, `In the whole it is ${show(m.values[0][k], 6)}. Shares are those of the whole; tick all levels to see them.`);
      return;
    }
    if (k >= m.kinds.length) return;
    const bar = make("div", { class: "bar", "aria-hidden": "true" }, out), words = [];
    m.levels.map((name, i) => [name, i]).sort((a, b) => order(a[0]) - order(b[0])).forEach(([name, i]) => {
      const share = m.shares[i][k];
      make("span", { style: `width:${100 * share}%;background:${colours[name]}` }, bar);
      words.push(`${names[name]} ${(100 * share).toFixed(1)} %`);
    });
    make("p", { id: "shares" }, out, `Shares: ${words.join(", ")}.`);
    const verdict = m.proved[k] ? "proved: it stands above all that weaker levels can make" : m.kinds[k] === "bulk" ? "bulk is what no stronger level claims" : "not proved: weaker levels could reach it";
    make("p", { id: "verdict" }, out, `Kind: ${m.kinds[k]} (${verdict}). Class means prove the interval [${show(m.lower[k], 3)}, ${show(m.upper[k], 3)}].`);
  };

  const draw = () => { drawRanks(); drawBins(); drawLegend(); tellStatus(); tellEigenvalue(); };
  const choose = (k) => {
    state.rank = Math.max(0, Math.min(now().values[0].length - 1, k));
    drawRanks();
    tellEigenvalue();
  };

  const offerLevels = () => {
    const field = at("levels"), m = now();
    field.querySelectorAll("label").forEach((x) => x.remove());
    m.levels.map((name, i) => [name, i]).sort((a, b) => order(a[0]) - order(b[0])).forEach(([name, i]) => {
      const label = make("label", {}, field);
      const box = make("input", { type: "checkbox", checked: "", "data-level": name }, label);
      make("span", { class: "swatch", style: `background:${colours[name]}` }, label);
      label.append(names[name]);
      box.addEventListener("change", () => {
        state.removed = box.checked ? state.removed & ~(1 << i) : state.removed | 1 << i;
        draw();
      });
    });
    at("rank").max = m.values[0].length;
    state.removed = 0;
    state.rank = 0;
  };

  spectra.forEach((m, i) => make("option", { value: i }, at("matrix"), m.title));
  at("matrix").addEventListener("change", (event) => {
    state.matrix = Number(event.target.value);
    offerLevels();
    draw();
  });
  at("scale").addEventListener("change", (event) => { state.linear = event.target.value === "linear"; draw(); });
  at("rank").addEventListener("input", (event) => choose(Number(event.target.value) - 1));
  const point = (event) => {
    const svg = at("ranks"), inside = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / inside.width;
    const x = (event.clientX - inside.left) * scale, y = (event.clientY - inside.top) * scale;
    let best = null, near = 30 ** 2;
    for (const p of places) {
      const gap = (p.x - x) ** 2 + (p.y - y) ** 2;
      if (gap < near) { near = gap; best = p; }
    }
    if (best && best.k !== state.rank) choose(best.k);
  };
  at("ranks").addEventListener("pointermove", point);
  at("ranks").addEventListener("pointerdown", point);
  at("knockout").hidden = false;
  offerLevels();
  let width = 0; // redraw only when the place changes its width
  new ResizeObserver(() => {
    if (at("ranks").parentNode.clientWidth !== width) { width = at("ranks").parentNode.clientWidth; draw(); }
  }).observe(at("ranks").parentNode);
  draw();
})();
