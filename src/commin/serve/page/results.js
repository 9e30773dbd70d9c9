// What arrived, drawn: pictures, figures, constellation, samples and fade strips.

const $ = (id) => document.getElementById(id);
const dB = (value) => `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(Math.abs(value) % 1 ? 1 : 0)} dB`;
const number = (value, digits) => (value === null ? "∞" : value.toFixed(digits).replace("-", "−"));

function element(name, content = "", attributes = {}) {
  const made = document.createElement(name);
  made.append(...[content].flat());
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function figure(url, alt, title, ...lines) {
  const caption = element("figcaption", title ? element("strong", title) : "");
  lines.forEach((line) => caption.append(element("span", line), element("br")));
  return element("figure", [element("img", "", { src: url, alt, width: 64, height: 64 }), caption]);
}

// A map of errors or deviations in units of white.
function map(part, alt, title) {
  const mean = part.mean.toFixed(3);
  return figure(part.picture, `${alt}; ${mean} of white in the mean`, title, `mean ${mean}, brightest ${part.top}`);
}

// Put `made` in the place of what has the same key, so that pictures change without the page jumping.
function place(shelf, key, made) {
  made.dataset.key = key;
  const old = [...shelf.children].find((child) => child.dataset.key === key);
  if (old) old.replaceWith(made);
  else shelf.append(made);
}

export function begin(receivers, original, fades) {
  const keys = new Set(["original", ...receivers]);
  for (const shelf of [$("pictures"), $("samples-shelf"), $("fades")]) {
    if (shelf === $("fades") && !fades) continue;
    for (const child of [...shelf.children]) if (!keys.has(child.dataset.key)) child.remove();
  }
  for (const child of [...$("pictures").children, ...$("samples-shelf").children]) child.classList.add("old");
  place($("pictures"), "original", figure(original, "The original, as it is sent", "original", "what the transmitter sees"));
}

// Samples of an earlier transmission that this one did not replace.
export function finish() {
  for (const child of $("samples-shelf").querySelectorAll(".old")) child.remove();
}

export function restored(part) {
  const record = part.record;
  const lpips = record.lpips === null ? "LPIPS n/a" : `LPIPS ${record.lpips.toFixed(3)}`;
  const psnr = `PSNR ${number(record.psnr_db, 2)} dB`;
  const at = dB(record.snr_db);
  const alt = `Restored by ${record.system} at ${at}: ${psnr}, ${lpips}`;
  const calls = record.network_calls ? `, ${record.network_calls} network calls` : "";
  place($("pictures"), record.system, figure(part.picture, alt, record.system, psnr, lpips, `${record.seconds.toFixed(2)} s${calls}`));
  if (!part.samples) return;
  const strip = element("div", "", { class: "pictures" });
  strip.append(
    ...(part.error ? [map(part.error, "How wrong the mean is likely to be", "expected error")] : []),
    map(part.spread, `Where the samples of ${record.system} differ`, "spread"),
    figure(part.mean, `Mean of the samples: PSNR ${number(part.mean_psnr_db, 2)} dB`, "mean", `PSNR ${number(part.mean_psnr_db, 2)} dB`),
    ...part.samples.map((url, index) => figure(url, `Sample ${index + 1} of ${record.system}`, `sample ${index + 1}`)),
  );
  const title = `What ${record.system} imagined: ${part.samples.length} pictures that fit what arrived`;
  place($("samples-shelf"), record.system, element("div", [element("h3", title), strip], { class: "shelf" }));
}

export function symbols(part, channel, snr) {
  $("details").hidden = false;
  const points = (list) => list.map(([x, y]) => `M${x} ${-y}h0`).join("");
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "-3.5 -3.5 7 7");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Constellation: ${part.k} received symbols around the sent ones, measured SNR ${number(part.measured_snr_db, 1)} dB`);
  for (const [name, path] of [["axis", "M-3.5 0h7M0 -3.5v7"], ["got", points(part.received)], ["sent", points(part.sent)]]) {
    const line = document.createElementNS(space, "path");
    line.setAttribute("class", name);
    line.setAttribute("d", path);
    svg.append(line);
  }
  const key = element("p", [
    element("span", "●", { class: "swatch-got", "aria-hidden": "true" }), " received   ",
    element("span", "●", { class: "swatch-sent", "aria-hidden": "true" }), " sent",
  ], { class: "hint" });
  $("constellation").replaceChildren(svg, key);
  const facts = [
    ["Symbols k", `${part.k} complex`],
    ["Samples n", `${part.n}, so ρ = k/n = 1/${Math.round(part.n / part.k)}`],
    ["Channel", channel],
    ["SNR asked", dB(snr)],
    ["SNR measured", `${number(part.measured_snr_db, 2)} dB`],
    ["An ideal code", `carries ${part.ideal_bits} bits over these symbols (${(part.ideal_bits / 8).toFixed(0)} bytes)`],
  ];
  $("facts").replaceChildren(...facts.flatMap(([term, value]) => [element("dt", term), element("dd", value)]));
}

export function fade(part) {
  const strip = element("div", "", { class: "strip", tabindex: "0", role: "group", "aria-label": `Fade of ${part.receiver}` });
  strip.append(...part.steps.map((step) => figure(
    step.picture, `${part.receiver} at ${dB(step.snr_db)}: PSNR ${number(step.psnr_db, 2)} dB`, dB(step.snr_db), `${number(step.psnr_db, 2)} dB PSNR`,
  )));
  place($("fades"), part.receiver, element("div", [element("h3", `${part.receiver}, from 5 down to −5 dB`), strip], { class: "shelf" }));
}

export function files(job, names) {
  const titles = { "commin.png": "Download the picture (PNG)", "commin.json": "Download the record (JSON)" };
  $("files").replaceChildren(...names.map((name) => element("a", titles[name], { href: `/api/jobs/${job}/${name}`, download: name, class: "button" })));
}

$("smooth").addEventListener("change", (event) => $("details").parentElement.classList.toggle("smooth", event.target.checked));
