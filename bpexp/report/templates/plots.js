// What a report's charts are made of: numbers as text, a box at the cursor, axes, and a cursor that keys move.
"use strict";
const plots = (() => {
  const MOST_TOLD = 10; // lines in the box at the cursor

  /** A custom property of the style sheet, which may be another in the dark. */
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

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

  // ------------------------------------------------------------------------------------------ charts

  /** A box at the cursor: where it is, and the value of each line, the largest first; of theory's lines, that of the line which is nearest. */
  const hover = (where, written) => {
    const box = document.createElement("div");
    box.className = "hover";
    box.hidden = true;
    const fill = (u) => {
      const {idx, left, top} = u.cursor;
      const lines = u.series.map((line, place) => ({line, place, value: place && idx != null ? u.data[place][idx] : null}));
      const values = lines.filter(({line, value}) => value != null && !line.theoryOf).sort((a, b) => b.value - a.value);
      box.hidden = !values.length || left < 0;
      if (box.hidden) return;
      const near = values.reduce((a, b) => Math.abs(u.valToPos(a.value, "y") - top) <= Math.abs(u.valToPos(b.value, "y") - top) ? a : b);
      const from = Math.max(0, Math.min(values.indexOf(near) - MOST_TOLD / 2, values.length - MOST_TOLD));
      const told = values.slice(from, from + MOST_TOLD);
      const theory = lines.filter(({line, value}) => value != null && line.theoryOf && line.theoryOf === near.line.run);
      told.splice(told.indexOf(near) + 1, 0, ...theory);
      const head = Object.assign(document.createElement("strong"), {textContent: where(u.data[0][idx])});
      box.replaceChildren(head, ...told.map((each) => {
        const row = document.createElement("div"), swatch = document.createElement("i"), name = document.createElement("span");
        row.className = each === near ? "near" : "";
        swatch.style.background = each.line.stroke(u, each.place);
        name.textContent = each.line.label;
        row.append(swatch, name, Object.assign(document.createElement("b"), {textContent: written(each.value)}));
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
    const fixed = {legend: {show: false}, cursor: {focus: {prox: 24}, y: false, points: {size: 6}}, focus: {alpha: 0.4}, padding: [8, 28, 0, 0]};
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

  return {axis, byKey, draw, hover, number, power, variable};
})();
