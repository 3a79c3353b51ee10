"use strict";
// The spectrum without any of its levels: every knock-out is in the page already, and
// a tick only chooses which to draw. A matrix, a tick and an axis go for all pictures.
(() => {
  const { spectra, names, colours, kinds, levels } = JSON.parse(document.getElementById("spectra-data").textContent);
  const kindOf = Object.fromEntries(levels);
  const at = (id) => document.getElementById(id);
  const state = { matrix: 0, removed: 0, linear: false, rank: 0 };
  const now = () => spectra[state.matrix];
  const values = () => now().values[state.removed];
  const order = (name) => Object.keys(kindOf).indexOf(name); // the strongest structure first
  const sorted = (levels) => [...levels].sort((a, b) => order(a) - order(b));
  const parts = () => now().shares[state.removed]; // whole numbers by level that stays
  const share = (name, k) => (parts()[name][k] ?? 0) / now().scale;
  const kindAt = (k) => {
    const m = now(), sums = {};
    if (!state.removed) return m.kinds[k];
    for (const name in parts()) sums[kindOf[name]] = (sums[kindOf[name]] || 0) + share(name, k);
    return kinds.filter((kind) => kind in sums).reduce((best, kind) => sums[kind] > sums[best] ? kind : best, Object.keys(sums)[0]);
  };
  // The subset without every level but some: what class means make by themselves.
  const only = (keep) => now().levels.reduce((mask, name, i) => keep(name) ? mask : mask | 1 << i, 0);
  const classMeans = () => now().values[only((name) => kindOf[name] === "outlier")];
  const allMeans = () => now().values[only((name) => kindOf[name] !== "bulk")];
  const hasBump = () => now().levels.includes("between_cross_class");
  // What means prove of an eigenvalue of the whole, by Weyl's inequality.
  const byAllMeans = (k) => {
    const m = now(), made = allMeans()[k], slack = m.slack;
    return hasBump() ? [Math.max(0, made - slack), made + m.reach.bump + 2 * slack] : [m.lower[k], m.upper[k]];
  };

  const superscript = (n) => String(n).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789-".indexOf(c)]);
  const show = (x, digits = 4) => {
    if (x === 0) return "0";
    const [mantissa, power] = x.toExponential(digits - 1).split("e").map(Number);
    return power < -3 || power > 5 ? `${mantissa}\u00a0×\u00a010${superscript(power)}` : String(Number(x.toPrecision(digits)));
  };
  // An interval rounded outwards, to as many digits as tell its ends apart.
  const showInterval = (low, high) => {
    const unit = (x, digits) => 10 ** (Math.floor(Math.log10(x)) - digits + 1);
    let digits = 3;
    while (digits < 6 && unit(high, digits) > (high - low) / 4) digits += 1;
    const end = (x, round) => x > 0 ? show(round(x / unit(x, digits)) * unit(x, digits), digits) : "0";
    return `[${end(low, Math.floor)}, ${end(high, Math.ceil)}]`;
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

  const shapes = {
    outlier: (x, y, r) => `M${x - r},${y + 0.8 * r}h${2 * r}l${-r},${-1.8 * r}z`,
    bump: (x, y, r) => `M${x - r},${y}l${r},${-r}l${r},${r}l${-r},${r}z`,
    bulk: (x, y, r) => `M${x - r},${y}a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0z`,
  };
  const sign = (svg, kind, k, x, y, v, r) => make("path", { d: shapes[kind](x, y, r), "data-k": k + 1, "data-value": v, "data-kind": kind, fill: colours[kind], class: "chart-dot" }, svg);
  const line = (svg, points, style) => points.length && make("path", { d: `M${points.map((p) => p.join(",")).join("L")}`, ...style, class: "chart-line" }, svg);
  const styles = {
    classes: { stroke: colours.between_class },
    means: { stroke: colours.between_cross_class, "stroke-dasharray": "6 3" },
  };
  // The eigenvalue axis upwards, with its ticks.
  const upwards = (svg, box, low, top) => {
    const y = (v) => state.linear
      ? box.bottom - (box.bottom - box.top) * v / top
      : box.bottom - (box.bottom - box.top) * Math.log(Math.max(v, low) / low) / Math.log(top / low);
    if (state.linear) for (const t of steps(top, 5)) tickY(svg, box, y(t), show(t, 3));
    else for (const e of decades(Math.log10(low), Math.log10(top), 7)) tickY(svg, box, y(10 ** e), `10${superscript(e)}`);
    return y;
  };

  let places = []; // of the eigenvalues drawn, for the pointer
  const drawRanks = () => {
    const svg = at("ranks"), box = frame(svg, "rank k", "eigenvalue"), m = now();
    const whole = m.values[0], top = (whole[0] || 1) * 1.15, n = whole.length;
    const resolved = whole.filter((v) => v > m.floor);
    const low = (resolved.at(-1) || top / 10) / 1.5;
    const x = (k) => box.left + 12 + (box.right - box.left - 20) * (n > 1 ? Math.log(k + 1) / Math.log(n) : 0.5);
    const y = upwards(svg, box, low, top);
    let right = -99;
    for (const k of [1, 2, 5, 10, 20, 50, 100, 200, 400].filter((k) => k <= n)) {
      if (x(k - 1) - right > 30) { tickX(svg, box, x(k - 1), k); right = x(k - 1); }
    }
    const seen = (v) => v > m.floor && (state.linear || v >= low);
    if (state.removed) whole.forEach((v, k) => {
      if (seen(v)) make("circle", { cx: x(k), cy: y(v), r: 2.4, class: "chart-ghost-dot" }, svg);
    });
    else {
      const path = (found) => found.map((v, k) => [x(k), y(v), v]).filter((p) => seen(p[2])).map((p) => p.slice(0, 2));
      line(svg, path(classMeans()), styles.classes);
      if (hasBump()) line(svg, path(allMeans()), styles.means);
    }
    places = [];
    values().forEach((v, k) => {
      if (!seen(v)) return;
      sign(svg, kindAt(k), k, x(k), y(v), v, 3.3);
      places.push({ k, x: x(k), y: y(v) });
    });
    const mine = places.find((p) => p.k === state.rank);
    if (mine) make("circle", { cx: mine.x, cy: mine.y, r: 7, class: "chart-mark", id: "mark" }, svg);
  };

  const drawBins = () => {
    const svg = at("bins"), box = frame(svg, "eigenvalue", "eigenvalues per bin, on a root scale"), m = now();
    const all = m.bins[state.linear ? "linear" : "log"], { counts, shares } = all[state.removed];
    const whole = all[0].counts, bins = counts.length, most = Math.max(1, ...whole, ...counts);
    const [low, high] = state.linear ? [0, m.values[0][0] || 1] : m.edges;
    const x = (b) => box.left + (box.right - box.left) * b / bins;
    const y = (c) => box.bottom - (box.bottom - box.top) * Math.sqrt(c / most) * 0.97;
    let last = box.bottom + 99;
    for (const t of [0, 1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 2e4, 5e4, 1e5]) {
      if (t <= most && last - y(t) > 18) { tickY(svg, box, y(t), t); last = y(t); }
    }
    const along = (v) => x((v - low) / (high - low) * bins);
    if (state.linear) for (const t of steps(high, (box.right - box.left) / 90)) tickX(svg, box, along(t), show(t, 2));
    else for (const e of decades(low, high, (box.right - box.left) / 60)) tickX(svg, box, along(e), `10${superscript(e)}`);
    counts.forEach((count, b) => {
      if (!count) return;
      const bar = make("g", { "data-bin": b, "data-count": count }, svg);
      const width = x(1) - x(0), names = sorted(Object.keys(shares)).reverse();
      const total = names.reduce((sum, name) => sum + shares[name][b], 0) || 1;
      let from = 0; // the strongest structure on top; the height split by the shares
      for (const name of names) {
        const to = Math.min(1, from + shares[name][b] / total);
        make("rect", { x: x(b), width: width + 0.3, y: y(count * to * to), height: Math.max(0, y(count * from * from) - y(count * to * to)), fill: colours[name], "data-level": name }, bar);
        from = to;
      }
    });
    if (state.removed) {
      let path = `M${x(0)},${y(0)}`;
      whole.forEach((c, b) => { path += `L${x(b)},${y(c)}L${x(b + 1)},${y(c)}`; });
      make("path", { d: `${path}L${x(bins)},${y(0)}`, class: "chart-ghost" }, svg);
    }
  };

  // What is proved is proved of the whole, whatever is knocked out.
  const drawProof = () => {
    const svg = at("proof"), box = frame(svg, "rank k", "eigenvalue"), m = now();
    const whole = m.values[0].filter((v) => v > m.floor).slice(0, 30), n = Math.max(1, whole.length);
    const top = Math.max(whole[0] || 1, ...m.upper.slice(0, whole.length)) * 1.15;
    const low = (whole.at(-1) || top / 10) / 10;
    const width = (box.right - box.left) / n, x = (k) => box.left + width * (k + 0.5);
    const y = upwards(svg, box, low, top);
    for (let k = 0; k < n; k += Math.ceil(34 / width)) tickX(svg, box, x(k), k + 1);
    whole.forEach((v, k) => {
      const bar = ([from, to], part, style) => make("rect", { x: x(k) - part * width / 2, width: part * width,
        y: y(to), height: Math.max(1, y(Math.max(from, state.linear ? 0 : low)) - y(to)), class: style }, svg);
      bar([m.lower[k], m.upper[k]], 0.8, "chart-interval");
      if (hasBump()) bar(byAllMeans(k), 0.42, "chart-interval-all");
    });
    whole.forEach((v, k) => sign(svg, m.kinds[k], k, x(k), y(v), v, Math.min(4, width / 2)));
  };

  const drawLegend = () => {
    const m = now(), out = at("legend");
    out.replaceChildren();
    const entry = (draw, text) => {
      const item = make("li", {}, out), svg = make("svg", { viewBox: "0 0 22 12", width: 22, height: 12, "aria-hidden": "true" }, item);
      draw(svg);
      item.append(` ${text}`);
    };
    const meaning = { outlier: "outlier, from class means", bump: "bump, from cross-class means", bulk: "bulk, from what differs within" };
    for (const kind of kinds) if (m.levels.some((name) => kindOf[name] === kind)) {
      entry((svg) => make("path", { d: shapes[kind](11, 6, 5), fill: colours[kind] }, svg), meaning[kind]);
    }
    for (const name of ["global_mean", "diagonal"].filter((n) => m.levels.includes(n))) {
      entry((svg) => make("rect", { x: 5, width: 12, height: 12, fill: colours[name] }, svg), `${names[name]}, in bars`);
    }
    if (state.removed) {
      entry((svg) => { make("circle", { cx: 5, cy: 6, r: 3, class: "chart-ghost-dot" }, svg); make("rect", { x: 11, y: 1, width: 10, height: 10, class: "chart-ghost" }, svg); }, "grey: the whole");
    } else {
      entry((svg) => line(svg, [[0, 6], [22, 6]], styles.classes), "class means alone");
      if (hasBump()) entry((svg) => line(svg, [[0, 6], [22, 6]], styles.means), "class and cross-class means");
    }
    entry((svg) => make("rect", { x: 4, width: 14, height: 12, class: "chart-interval" }, svg), "interval that class means prove");
    if (hasBump()) entry((svg) => make("rect", { x: 7, width: 8, height: 12, class: "chart-interval-all" }, svg), "that all means prove");
  };

  const tellStatus = () => {
    const m = now(), removed = m.levels.filter((_, i) => state.removed >> i & 1);
    const trace = m.traces.reduce((a, b) => a + b, 0);
    const rest = m.traces.reduce((a, t, i) => a + (state.removed >> i & 1 ? 0 : t), 0);
    const counts = list(kinds.filter((k) => m.counts[k]).map((k) => `${m.counts[k]} ${k}${k === "outlier" && m.counts[k] > 1 ? "s" : ""}`));
    at("status").textContent = removed.length
      ? `Without ${list(removed.map((n) => names[n]))}: the largest eigenvalue is ${show(values()[0])} instead of ${show(m.values[0][0])}, and ${rest ? (100 * rest / trace).toPrecision(3) : 0}\u00a0% of the trace stays.`
      : `The whole: the largest eigenvalue is ${show(m.values[0][0])}; ${m.resolved} of ${m.dimension} stand above ${show(m.floor, 2)}, below which ${m.complete ? "none is told from zero in every knock-out" : "only the largest were asked for"}${counts ? `: ${counts}` : ""}.`;
    at("knockout").dataset.removed = state.removed;
  };

  const tellEigenvalue = () => {
    const m = now(), k = state.rank, value = values()[k], out = at("eigenvalue");
    const radius = m.radius[state.removed];
    at("rank").value = k + 1;
    at("rank-out").textContent = k + 1;
    out.replaceChildren();
    if (value === undefined) return;
    const line = make("p", {}, out);
    make("strong", { id: "value" }, line, `λ${[...String(k + 1)].map((d) => "₀₁₂₃₄₅₆₇₈₉"[d]).join("")} = ${show(value, 6)}`);
    line.append(` ± ${show(radius, 2)}${value <= radius ? ", not resolved from zero" : ""}`);
    at("rank").setAttribute("aria-valuetext", `eigenvalue ${k + 1}, ${show(value, 4)}`);
    const levels = sorted(Object.keys(parts()));
    if (value > radius && levels.length) {
      const bar = make("div", { class: "bar", "aria-hidden": "true" }, out);
      for (const name of levels) make("span", { style: `width:${100 * share(name, k)}%;background:${colours[name]}` }, bar);
      make("p", { id: "shares" }, out, `Shares: ${levels.map((name) => `${names[name]} ${(100 * share(name, k)).toFixed(1)}\u00a0%`).join(", ")}.`);
    }
    if (state.removed) {
      make("p", {}, out, `In the whole it is ${show(m.values[0][k], 6)}.`);
      return;
    }
    if (k >= m.kinds.length || value <= m.floor) return;
    const kind = m.kinds[k], reach = m.reach[kind], [low, high] = byAllMeans(k);
    const verdict = kind === "bulk" ? "Kind: bulk, what no stronger level claims."
      : m.proved[k] ? `Kind: ${kind}, proved: it stands above ${show(reach, 3)}, the most that weaker levels make by themselves.`
        : `Kind: ${kind}, not proved: weaker levels make up to ${show(reach, 3)} by themselves.`;
    make("p", { id: "verdict" }, out, `${verdict} Means prove that it lies in ${showInterval(Math.max(low, m.lower[k]), Math.min(high, m.upper[k]))}.`);
  };

  // The table of the top eigenvalues, written over that of a page without scripts.
  const fillTable = () => {
    const m = now(), table = at("top-table"), levels = sorted(m.levels);
    table.replaceChildren();
    make("caption", {}, table, `${m.title}; each value is known to ${show(m.radius[0], 2)}`);
    const head = make("tr", {}, make("thead", {}, table)), body = make("tbody", {}, table);
    const heads = ["k", "eigenvalue", ...levels.map((name) => names[name]), "kind", "proved"];
    for (const text of heads) make("th", { scope: "col" }, head, text);
    m.kinds.slice(0, 20).forEach((kind, k) => {
      if (!(m.values[0][k] > m.floor)) return;
      const row = make("tr", {}, body);
      make("th", { scope: "row"}, row, k + 1);
      const shares = levels.map((name) => (m.shares[0][name][k] / m.scale).toFixed(3));
      [show(m.values[0][k], 6), ...shares, kind, kind === "bulk" ? "" : m.proved[k] ? "yes" : "no"].forEach((text, i) => {
        const style = i === levels.length + 1 ? { class: `kind ${kind}` } : {};
        make("td", style, row, text);
      });
    });
    document.dispatchEvent(new Event("refilled"));
  };

  const draw = () => { drawRanks(); drawBins(); drawProof(); drawLegend(); tellStatus(); tellEigenvalue(); };
  const choose = (k) => {
    state.rank = Math.max(0, Math.min(now().values[0].length - 1, k));
    drawRanks();
    tellEigenvalue();
  };

  const offerLevels = () => {
    const field = at("levels"), m = now();
    field.querySelectorAll("label").forEach((x) => x.remove());
    for (const name of sorted(m.levels)) {
      const bit = 1 << m.levels.indexOf(name), label = make("label", {}, field);
      const box = make("input", { type: "checkbox", checked: "", "data-level": name }, label);
      make("span", { class: "swatch", style: `background:${colours[name]}` }, label);
      label.append(names[name]);
      box.addEventListener("change", () => {
        state.removed = box.checked ? state.removed & ~bit : state.removed | bit;
        draw();
      });
    }
    at("joined").hidden = !m.joined.length;
    at("rank").max = Math.max(1, m.values[0].length);
    state.removed = 0;
    state.rank = 0;
    fillTable();
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
