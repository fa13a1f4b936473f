// A report's charts: the chosen runs' curves over the steps and, at the slider's step, their gradient norms over the layers.
"use strict";
{
  /** @typedef {{id: string, name: string, curves: Object<string, [number, (number|null)[]]>, steps: number[], profiles: (number|null)[][],
   *             theory: number|null, plateau: number|null}} Run  as bpexp/report/interactive.py makes it */
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const MOST_DRAWN = 50, MOST_TOLD = 10, COLOURS = 8, LOG_FROM = 20, FRAME = 180; // FRAME: ms of a step that is played
  const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]]; // of lines whose colours are used up

  // ------------------------------------------------------------------------------------------ numbers as text

  const raised = (n) => "10" + String(n).replace("-", "⁻").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);

  /** 0.0831, 61.6, 1,797, 1.2 × 10⁻⁷ */
  const number = (x, digits = 3) => {
    const [mantissa, exponent] = x.toExponential(digits - 1).split("e").map(Number);
    if (x !== 0 && (exponent < -4 || exponent > 6)) return `${String(mantissa).replace("-", "−")} × ${raised(exponent)}`;
    return x.toLocaleString("en", {maximumSignificantDigits: digits}).replace("-", "−");
  };

  /** The number whose log10 is x, which may be out of reach of numbers: 10⁻²⁰, 3.2 × 10⁻⁴⁰⁰. */
  const power = (x) => {
    const rest = (10 ** (x - Math.floor(x))).toPrecision(2);
    return Number.isInteger(x) ? raised(x) : x > -3 && x < 3 ? number(10 ** x) : `${Number(rest)} × ${raised(Math.floor(x))}`;
  };

  // ------------------------------------------------------------------------------------------ which runs are drawn

  /** @type {Map<Run, number>} a colour for each run that is drawn, the lowest that was free */
  const chosen = new Map();
  const boxes = new Map();

  const choose = (run, on) => {
    if (on && !chosen.has(run) && chosen.size < MOST_DRAWN) {
      const taken = new Set(chosen.values());
      let colour = 0;
      while (taken.has(colour)) colour += 1;
      chosen.set(run, colour);
    }
    if (!on) chosen.delete(run);
    const box = boxes.get(run);
    box.checked = chosen.has(run);
    box.style.accentColor = box.checked ? `var(--c${chosen.get(run) % COLOURS})` : "";
  };

  const colour = (run) => getComputedStyle(document.documentElement).getPropertyValue(`--c${chosen.get(run) % COLOURS}`).trim();
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dash = (run) => DASHES[Math.floor(chosen.get(run) / COLOURS) % DASHES.length];

  /** A run's name without the words that all have. */
  const called = (() => {
    const split = (run) => run.name.split(/\s+/);
    const shared = (data.runs ?? []).map(split).reduce((words, name) => words && words.filter((word) => name.includes(word)), data.runs?.length > 1 ? split(data.runs[0]) : []);
    return (run) => split(run).filter((word) => !shared.includes(word)).join(" ") || run.name;
  })();

  // ------------------------------------------------------------------------------------------ what both charts are made of

  /** A box at the cursor: where it is, and the value of each line, the largest first. */
  const hover = (where, told) => {
    const box = document.createElement("div");
    box.className = "hover";
    box.hidden = true;
    const fill = (u) => {
      const {idx, left, top} = u.cursor;
      const lines = u.series.map((line, place) => ({line, place, value: place && idx != null ? u.data[place][idx] : null}));
      const values = lines.filter(({line, value}) => value != null && !line.hushed).sort((a, b) => b.value - a.value);
      box.hidden = !values.length || left < 0;
      if (box.hidden) return;
      const near = values.reduce((a, b) => Math.abs(u.valToPos(a.value, "y") - top) <= Math.abs(u.valToPos(b.value, "y") - top) ? a : b);
      const from = Math.max(0, Math.min(values.indexOf(near) - MOST_TOLD / 2, values.length - MOST_TOLD));
      const head = Object.assign(document.createElement("strong"), {textContent: where(u.data[0][idx])});
      box.replaceChildren(head, ...values.slice(from, from + MOST_TOLD).map((each) => {
        const row = document.createElement("div"), swatch = document.createElement("i"), name = document.createElement("span");
        row.className = each === near ? "near" : "";
        swatch.style.background = each.line.stroke(u, each.place);
        name.textContent = each.line.label;
        row.append(swatch, name, Object.assign(document.createElement("b"), {textContent: told(each.value)}));
        return row;
      }));
      if (values.length > MOST_TOLD) box.append(Object.assign(document.createElement("small"), {textContent: `and ${values.length - MOST_TOLD} more`}));
      const {clientWidth: width, clientHeight: height} = u.over;
      box.style.left = `${Math.max(0, Math.min(left + (left > width / 2 ? -box.offsetWidth - 14 : 14), width - box.offsetWidth))}px`;
      box.style.top = `${Math.max(0, Math.min(top - box.offsetHeight / 2, height - box.offsetHeight))}px`;
    };
    return {hooks: {init: (u) => u.over.append(box), setCursor: fill, setData: fill}};
  };

  /** Draw a chart anew in its place; with nothing to draw, a line that says so. */
  const draw = (place, old, options, columns, empty) => {
    old?.destroy();
    if (columns.length < 2) {
      place.replaceChildren(Object.assign(document.createElement("p"), {className: "empty", textContent: empty}));
      return null;
    }
    place.replaceChildren();
    const size = {width: place.clientWidth, height: place.clientHeight};
    const fixed = {legend: {show: false}, cursor: {focus: {prox: 24}, y: false, points: {size: 6}}, focus: {alpha: 0.4}, padding: [8, 12, 0, 0]};
    return new uPlot({...size, ...fixed, ...options}, columns, place);
  };

  const axis = (label, more) => {
    const ink = () => variable("--soft"), line = () => variable("--line");
    const plain = {label, stroke: ink, labelSize: 20, labelFont: "12px system-ui", font: "12px system-ui", labelGap: 2};
    return {...plain, grid: {stroke: line, width: 1}, ticks: {stroke: line, width: 1, size: 5}, ...more};
  };

  /** Move the cursor of a chart to the next place at which it has values. */
  const byKey = (u, event) => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!u || !step) return;
    event.preventDefault();
    const {min, max} = u.scales.x, x = u.data[0];
    let idx = u.cursor.left >= 0 && u.cursor.idx != null ? u.cursor.idx + step : step > 0 ? x.findIndex((value) => value >= min) : x.findLastIndex((value) => value <= max);
    idx = Math.max(0, Math.min(idx, x.length - 1));
    u.setCursor({left: u.valToPos(x[idx], "x"), top: u.over.clientHeight / 2});
  };

  // ------------------------------------------------------------------------------------------ over the steps

  let overSteps = null, overLayers = null;
  const column = at("column"), logX = at("log-x"), logY = at("log-y");

  const plateaus = () => {
    const known = [...chosen.keys()].map((run) => run.plateau).filter((plateau) => plateau !== null);
    return column.value.startsWith("loss") ? [...new Set(known)] : [];
  };

  /** Lines across, dashed, at the losses of the best constant outputs. */
  const drawPlateaus = (u) => {
    const {left, top, width, height} = u.bbox;
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(left, top, width, height);
    u.ctx.clip();
    u.ctx.beginPath();
    u.ctx.strokeStyle = variable("--soft");
    u.ctx.lineWidth = devicePixelRatio;
    u.ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
    for (const plateau of plateaus()) {
      const y = u.valToPos(plateau, "y", true);
      u.ctx.moveTo(left, y);
      u.ctx.lineTo(left + width, y);
    }
    u.ctx.stroke();
    u.ctx.restore();
  };

  const curvesDrawn = () => {
    const runs = [...chosen.keys()].filter((run) => run.curves[column.value]);
    const tables = runs.map((run) => {
      const [grid, values] = run.curves[column.value];
      return [data.grids[grid], logY.checked ? values.map((value) => value > 0 ? value : null) : values];
    });
    const columns = runs.length ? uPlot.join(tables, tables.map(() => [0, 1])) : [];
    const accuracy = column.value.startsWith("accuracy");
    const told = (value) => accuracy ? `${(100 * value).toFixed(1)} %` : number(value);
    const ends = (value) => value === null ? "" : accuracy && !logY.checked ? `${Math.round(100 * value)} %` : number(value);
    const lines = runs.map((run) => ({label: called(run), stroke: () => colour(run), dash: dash(run), width: 1.6, spanGaps: true, points: {show: run.curves[column.value][1].length === 1}}));
    overSteps = draw(at("over-steps"), overSteps, {
      scales: {x: {time: false, range: (_, low, high) => [low, high], ...(logX.checked ? {distr: 4, asinh: 1} : {})}, y: logY.checked ? {distr: 3} : {}},
      axes: [
        axis("training step", {size: 30, values: (_, steps) => steps.map((step) => step === null ? "" : step.toLocaleString("en"))}),
        axis(data.labels[column.value], {size: 62, values: (_, values) => values.map(ends)}),
      ],
      series: [{}, ...lines],
      hooks: {draw: [drawPlateaus]},
      plugins: [hover((step) => `step ${step.toLocaleString("en")}`, told)],
    }, columns, "No run with such a curve is chosen.");
  };

  /** A logarithmic axis where the values span so much that a linear one would hide most of it. */
  const fitScale = () => {
    const values = [...chosen.keys()].flatMap((run) => run.curves[column.value]?.[1] ?? []).filter((value) => value > 0);
    logY.checked = column.value.startsWith("loss") && values.length > 0 && values.reduce((a, b) => Math.max(a, b)) > LOG_FROM * values.reduce((a, b) => Math.min(a, b));
  };

  // ------------------------------------------------------------------------------------------ over the layers

  const slider = at("step"), stepTold = at("step-told"), play = at("play");
  let steps = [0];

  /** A run's norms at the last step not after this one at which they were measured. */
  const profileAt = (run, step) => run.profiles[run.steps.findLastIndex((known) => known <= step)] ?? [];

  /** Theory's line, from the norm that was measured in the output layer of the untrained net. */
  const theoryOf = (run) => {
    const last = run.theory === null || run.steps[0] !== 0 ? null : run.profiles[0].at(-1);
    return last === null ? null : data.theory[run.theory].map((value) => value === null ? null : value + last);
  };

  const drawn = () => [...chosen.keys()].filter((run) => run.profiles.length);

  const profileColumns = (runs, theory) => {
    const depth = runs.reduce((most, run) => Math.max(most, run.profiles[0].length), 0);
    const padded = (values) => Array.from({length: depth}, (_, place) => values[place] ?? null);
    const step = steps[slider.value];
    return [padded([]).map((_, place) => place + 1), ...runs.map((run) => padded(profileAt(run, step))), ...theory.map(([, line]) => padded(line))];
  };

  const theoryLines = (runs) => runs.map((run) => [run, theoryOf(run)]).filter(([, line]) => line !== null);

  const tellStep = () => {
    const step = steps[slider.value].toLocaleString("en");
    stepTold.textContent = `step ${step}`;
    slider.setAttribute("aria-valuetext", `step ${step}`);
  };

  const moveStep = () => {
    tellStep();
    const runs = drawn();
    overLayers?.setData(profileColumns(runs, theoryLines(runs)), false);
  };

  const profilesDrawn = () => {
    const runs = drawn(), theory = theoryLines(runs);
    const before = steps[slider.value];
    steps = [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
    if (!steps.length) steps = [0];
    slider.max = steps.length - 1;
    slider.value = Math.max(0, steps.findLastIndex((step) => step <= before));
    tellStep();
    const values = [...runs.flatMap((run) => run.profiles.flat()), ...theory.flatMap(([, line]) => line)].filter((value) => value !== null);
    const low = values.reduce((a, b) => Math.min(a, b), 0), high = values.reduce((a, b) => Math.max(a, b), -Infinity), room = 0.04 * (high - low) || 0.5;
    const line = (run, more) => ({label: called(run), stroke: () => colour(run), dash: dash(run), width: 1.6, ...more});
    overLayers = draw(at("over-layers"), overLayers, {
      scales: {x: {time: false}, y: {range: [low - room, high + room]}},
      axes: [
        axis("layer k, from the input to the output", {size: 30, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500]}),
        axis(undefined, {size: 58, incrs: [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], values: (_, ticks) => ticks.map((tick) => power(Math.round(10 * tick) / 10))}),
      ],
      series: [
        {},
        ...runs.map((run) => line(run, {points: {show: run.profiles[0].length <= 12, size: 5}})),
        ...theory.map(([run]) => line(run, {label: "theory", dash: [3, 4], width: 1, points: {show: false}, hushed: true})),
      ],
      plugins: [hover((layer) => `layer ${layer}`, power)],
    }, runs.length ? profileColumns(runs, theory) : [], "No run with gradient norms is chosen.");
    tellLines(theory.length > 0, values.length);
  };

  const tellLines = (theory) => {
    const words = [];
    if (plateaus().length) words.push("Dashed across: the loss of the best constant output.");
    if (theory) words.push("Dashed over the layers: mean-field theory of the untrained net, for a single sample, from the norm in the output layer at step 0 back.");
    if (drawn().some((run) => run.profiles.some((profile) => profile.includes(null)))) words.push("A norm of exactly zero, or one that is not finite, leaves a gap.");
    at("lines-told").textContent = words.join(" ");
  };

  let playing = 0;
  const stop = () => {
    clearInterval(playing);
    playing = 0;
    play.textContent = "▶";
    play.setAttribute("aria-label", "play the training");
  };
  const start = () => {
    if (slider.value === slider.max) slider.value = 0;
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "pause");
    playing = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      moveStep();
      if (slider.value === slider.max) stop();
    }, FRAME);
    moveStep();
  };

  // ------------------------------------------------------------------------------------------ all together

  const redraw = () => {
    curvesDrawn();
    profilesDrawn();
  };

  const begin = () => {
    at("charts").hidden = at("choice").hidden = false;
    const rows = new Map([...at("table").tBodies[0].rows].map((row) => [row.dataset.run, row]));
    for (const run of data.runs) {
      const box = Object.assign(document.createElement("input"), {type: "checkbox"});
      box.setAttribute("aria-label", `draw ${run.name}`);
      box.addEventListener("change", () => {
        choose(run, box.checked);
        redraw();
      });
      boxes.set(run, box);
      rows.get(run.id).cells[0].prepend(box);
    }
    for (const place of data.chosen) choose(data.runs[place], true);
    for (const [name, label] of Object.entries(data.labels)) column.add(new Option(label, name));
    at("none").addEventListener("click", () => {
      for (const run of data.runs) choose(run, false);
      redraw();
    });
    at("all").addEventListener("click", () => {
      for (const run of data.runs) choose(run, false);
      const listed = [...at("table").tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.dataset.run);
      const known = new Map(data.runs.map((run) => [run.id, run]));
      for (const id of listed) if (known.has(id)) choose(known.get(id), true);
      redraw();
    });
    column.addEventListener("change", () => {
      fitScale();
      redraw();
    });
    for (const box of [logX, logY]) box.addEventListener("change", curvesDrawn);
    slider.addEventListener("input", () => {
      stop();
      moveStep();
    });
    play.addEventListener("click", () => playing ? stop() : start());
    at("over-steps").addEventListener("keydown", (event) => byKey(overSteps, event));
    at("over-layers").addEventListener("keydown", (event) => byKey(overLayers, event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    fitScale();
    redraw();
    const fit = () => {
      for (const [chart, place] of [[overSteps, at("over-steps")], [overLayers, at("over-layers")]]) {
        if (chart && place.clientWidth && (chart.width !== place.clientWidth || chart.height !== place.clientHeight)) chart.setSize({width: place.clientWidth, height: place.clientHeight});
      }
    };
    new ResizeObserver(fit).observe(at("charts"));
  };

  if (data.runs) begin();
}
