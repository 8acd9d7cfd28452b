// Builds elements. Whatever comes from the API is set as text or attribute,
// never parsed as markup: names are given by others.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element. */
const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

/** An SVG element. */
const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

const $ = (id) => document.getElementById(id);

/** Writes text, and only if it is another one: live regions stay quiet, and a selection stays. */
function say(id, text) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
}

/** Text by others, kept from turning what stands around it. */
const named = (text) => h("bdi", null, text);

const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const count = (n) => number.format(n);
const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
const kilowatts = (kw) => (kw === null || kw === undefined ? "–" : `${count(kw)} kW`);

/** Runs `draw` once before the next frame, however often it is asked for. */
function eachFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}
