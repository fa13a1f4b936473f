// A report's charts: the chosen runs' curves over the steps and, at the slider's step, their gradient norms over the layers.
"use strict";
{
  /** @typedef {{id: string, name: string, curves: Object<string, [number, (number|null)[]]>, steps: number[], profiles: (number|null)[][],
   *             theory: number|null, plateau: number|null}} Run  as bpexp/report/interactive.py makes it */
  const data = JSON.parse(document.getElementById("data").textContent);
  const {axis, byKey, draw, hover, number, power, variable} = plots;
  const at = (id) => document.getElementById(id);
  const MOST_DRAWN = 50, COLOURS = 8, LOG_FROM = 20, FRAME = 180; // FRAME: ms of a step that is played
  const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]]; // of lines whose colours are used up

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

  const colour = (run) => variable(`--c${chosen.get(run) % COLOURS}`);
  const dash = (run) => DASHES[Math.floor(chosen.get(run) / COLOURS) % DASHES.length];

  /** A run's name without the words that all have. */
  const called = (() => {
    const split = (run) => run.name.split(/\s+/);
    const shared = (data.runs ?? []).map(split).reduce((words, name) => words && words.filter((word) => name.includes(word)), data.runs?.length > 1 ? split(data.runs[0]) : []);
    return (run) => split(run).filter((word) => !shared.includes(word)).join(" ") || run.name;
  })();

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
    const line = (run, more) => ({label: called(run), run: run.id, stroke: () => colour(run), dash: dash(run), width: 1.6, ...more});
    overLayers = draw(at("over-layers"), overLayers, {
      scales: {x: {time: false}, y: {range: [low - room, high + room]}},
      axes: [
        axis("layer k, from the input to the output", {size: 30, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500]}),
        axis(undefined, {size: 58, incrs: [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], values: (_, ticks) => ticks.map((tick) => power(Math.round(10 * tick) / 10))}),
      ],
      series: [
        {},
        ...runs.map((run) => line(run, {points: {show: run.profiles[0].length <= 12, size: 5}})),
        ...theory.map(([run]) => line(run, {label: "theory", dash: [3, 4], width: 1, points: {show: false}, run: null, theoryOf: run.id})),
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

  // ------------------------------------------------------------------------------------------ what outlasts a page that is read again

  const KEPT = `bpexp ${location.pathname}`;
  let touched = false; // the choice is a user's

  const keep = () => {
    if (!document.querySelector("meta[http-equiv=refresh]")) return;
    const ids = touched ? [...chosen.keys()].map((run) => run.id) : null;
    const told = {ids, column: column.value, logX: logX.checked, logY: logY.checked, step: steps[slider.value], filter: at("filter").value};
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(told));
    } catch {} // there is none in a sandbox
  };

  const recall = () => {
    let told = null;
    try {
      told = JSON.parse(sessionStorage.getItem(KEPT));
    } catch {}
    if (!told) return;
    if (told.ids) {
      touched = true;
      for (const run of data.runs) choose(run, false);
      for (const run of data.runs) if (told.ids.includes(run.id)) choose(run, true);
    }
    if (told.column in data.labels) column.value = told.column;
    [logX.checked, logY.checked, at("filter").value] = [told.logX, told.logY, told.filter];
    at("filter").dispatchEvent(new Event("input"));
    redraw();
    slider.value = Math.max(0, steps.findLastIndex((step) => step <= told.step));
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
        touched = true;
        choose(run, box.checked);
        redraw();
      });
      boxes.set(run, box);
      rows.get(run.id).cells[0].prepend(box);
    }
    for (const place of data.chosen) choose(data.runs[place], true);
    for (const [name, label] of Object.entries(data.labels)) column.add(new Option(label, name));
    const only = (ids) => {
      touched = true;
      for (const run of data.runs) choose(run, false);
      for (const run of ids.map((id) => known.get(id))) if (run) choose(run, true);
      redraw();
    };
    const known = new Map(data.runs.map((run) => [run.id, run]));
    at("none").addEventListener("click", () => only([]));
    at("all").addEventListener("click", () => only([...at("table").tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.dataset.run)));
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
    recall();
    addEventListener("pagehide", keep);
    const fit = () => {
      for (const [chart, place] of [[overSteps, at("over-steps")], [overLayers, at("over-layers")]]) {
        if (chart && place.clientWidth && (chart.width !== place.clientWidth || chart.height !== place.clientHeight)) chart.setSize({width: place.clientWidth, height: place.clientHeight});
      }
    };
    new ResizeObserver(fit).observe(at("charts"));
  };

  if (data.runs) begin();
}
