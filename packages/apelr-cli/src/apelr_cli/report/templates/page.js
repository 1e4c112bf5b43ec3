"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (name, classes, text) => {
    const element = document.createElement(name);
    element.className = classes;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // Charts: the values at the step under the pointer, or reached with the arrow keys.
  for (const figure of all("[data-chart]")) {
    const { x, lines } = data.charts[figure.dataset.chart];
    const svg = figure.querySelector("svg"), cursor = figure.querySelector(".cursor");
    const outputs = all("output", figure), [left, right] = [46, 348];
    let at = x.length - 1;
    const show = (index, active) => {
      at = Math.max(0, Math.min(x.length - 1, index));
      figure.classList.toggle("active", active);
      const place = x.length > 1 ? left + (right - left) * (x[at] - x[0]) / (x[x.length - 1] - x[0]) : (left + right) / 2;
      cursor.setAttribute("x1", place);
      cursor.setAttribute("x2", place);
      lines.forEach((line, i) => {
        let index = at;
        while (index > 0 && line[index] === null) index -= 1;
        outputs[i].textContent = line[index] === null ? "–" : String(line[index]);
      });
      outputs[lines.length].textContent = String(x[at]);
    };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const step = x[0] + ((event.clientX - box.left) / box.width * 360 - left) / (right - left) * (x[x.length - 1] - x[0]);
      show(x.reduce((best, value, i) => (Math.abs(value - step) < Math.abs(x[best] - step) ? i : best), 0), true);
    });
    svg.addEventListener("pointerleave", () => show(x.length - 1, false));
    figure.addEventListener("blur", () => show(x.length - 1, false));
    figure.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: x.length - 1 };
      if (!(event.key in moves)) return;
      event.preventDefault();
      show(moves[event.key], true);
    });
  }

  // Tokens: their colour by one belief or the other, and what is known of the one under the pointer.
  const tokens = all(".token"), inspector = document.querySelector(".inspector");
  let view = "f", filter = "", here = null;
  const paint = () => {
    for (const token of tokens) {
      const [state, level] = token.dataset[view].split(" ");
      token.className = `token s${state === "x" ? "x" : state % 8} p${level}${token.classList.contains("new") ? " new" : ""}`;
      token.classList.toggle("dim", filter !== "" && state !== filter);
      token.classList.toggle("here", token === here);
    }
    for (const part of all("[data-state]")) part.classList.toggle("dim", filter !== "" && part.dataset.state !== filter);
  };
  const press = (buttons, pressed) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === pressed));
  };
  const filters = all("[data-filter]"), views = all("[data-view]");
  for (const button of filters) button.addEventListener("click", () => {
    const again = button.getAttribute("aria-pressed") === "true";
    const chosen = again ? filters[0] : button;
    filter = chosen.dataset.filter;
    press(filters, chosen);
    paint();
  });
  for (const button of views) button.addEventListener("click", () => {
    view = button.dataset.view;
    press(views, button);
    paint();
  });
  const inspect = (token) => {
    if (token === here) return;
    if (here) here.classList.remove("here");
    here = token;
    here.classList.add("here");
    const [passage, index] = token.id.slice(1).split("-").map(Number);
    const found = data.passages[passage], [bits, chunk, id, plan] = found.tokens[index];
    inspector.querySelector(".hint").hidden = true;
    inspector.querySelector(".found").hidden = false;
    inspector.querySelector("code").textContent = JSON.stringify(token.textContent);
    const parts = [bits === null ? "impossible" : `${bits} bits of surprise`, `id ${id}`];
    if (found.smoothed.length) parts.splice(1, 0, `chunk ${chunk}`);
    if (plan !== null) parts.push(`written under ${plan}`);
    inspector.querySelector(".about").textContent = parts.join(" · ");
    const before = found.filtered[index] || [], after = new Map(found.smoothed[index] || []);
    inspector.querySelector(".beliefs").replaceChildren(...rows(before, after, found.smoothed.length > 0));
  };
  const rows = (before, after, both) => {
    const states = new Map(before);
    for (const [state] of after) if (!states.has(state)) states.set(state, 0);
    const shown = [...states.keys()].filter((k) => Math.max(states.get(k), after.get(k) || 0) >= 5);
    shown.sort((a, b) => Math.max(states.get(b), after.get(b) || 0) - Math.max(states.get(a), after.get(a) || 0));
    const made = shown.slice(0, 7).map((state) => {
      const row = make("div", `belief-row s${state % 8}`), bars = make("div", "both"), value = make("span", "");
      row.dataset.belief = state;
      const shares = both ? [states.get(state), after.get(state) || 0] : [states.get(state)];
      for (const share of shares) {
        const bar = make("i", "");
        bar.style.width = `${share / 10}%`;
        bars.append(bar);
      }
      value.textContent = shares.map((share) => (share / 1000).toFixed(2)).join(" ");
      row.append(make("b", `chip s${state % 8}`, String(state)), bars, value);
      return row;
    });
    if (both && made.length) made.unshift(make("small", "", "upper bar: as it is read; lower: in hindsight"));
    return made;
  };
  for (const text of all(".text")) {
    const own = all(".token", text);
    const go = (event) => { if (event.target.classList.contains("token")) inspect(event.target); };
    for (const kind of ["pointerover", "focusin", "click"]) text.addEventListener(kind, go);
    text.addEventListener("keydown", (event) => {
      const at = own.indexOf(document.activeElement);
      const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: own.length - 1 };
      const next = own[moves[event.key]];
      if (at < 0 || !next) return;
      event.preventDefault();
      own[at].tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  }
  if (tokens.length) paint();
})();
