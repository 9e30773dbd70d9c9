// The settings, and the way of a transmission: sent, waiting, computing, shown, cancelled.

import * as photo from "/photo.js";
import * as results from "/results.js";

const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const minus = (value) => String(value).replace("-", "−");
const PATIENCE = 45000; // ms to wait for a server that does not answer
let options = null;
let turn = 0; // each transmission has one; an old one that comes back is not shown
let job = null;
let faded = ""; // what the strips on the page show

class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// One request; a server that does not answer (it may be restarting) is asked again for a while.
async function ask(path, init = {}, mine = turn) {
  const until = Date.now() + PATIENCE;
  for (;;) {
    let answer;
    try {
      answer = await fetch(path, init);
    } catch {
      if (mine !== turn) throw new Refusal("", 0);
      if (Date.now() > until) throw new Refusal("The server does not answer. Is commin serve still running?", 0);
      status("The server does not answer; trying again …");
      await sleep(1000);
      continue;
    }
    const content = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Refusal(content.error || `The server answered ${answer.status}.`, answer.status);
    return content;
  }
}

function status(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

function fail(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

function busy(yes) {
  $("cancel").disabled = !yes;
  $("progress").hidden = !yes;
  if (!yes) $("progress").value = 0;
}

const picked = () => [...$("receivers").querySelectorAll("input:checked")].map((input) => input.value);
const offers = (name) => options.receivers.find((receiver) => receiver.name === name);

function settings() {
  const own = $("naturalness-own").checked && !$("naturalness-setting").hidden;
  return {
    bcr: $("bcr").value,
    snr_db: Number($("snr").value),
    channel: $("channel").value,
    receivers: picked(),
    samples: Number($("samples").value),
    naturalness: own ? Number($("naturalness").value) : null,
    seed: Number($("seed").value),
  };
}

async function send() {
  const mine = ++turn;
  drop();
  fail("");
  if (!photo.chosen()) return status("Choose a photo first.");
  const wanted = settings();
  if (!wanted.receivers.length) return fail("Choose at least one receiver.");
  if (!$("seed").checkValidity() || $("seed").value === "") return fail("The seed is a whole number from 0 to 2147483647.");
  // The strips do not depend on the SNR: they are asked for only when something else has changed.
  const key = JSON.stringify({ ...wanted, snr_db: 0, samples: 1, ...photo.chosen() });
  wanted.fade = $("fade").checked && key !== faded;
  busy(true);
  status("Sending …");
  try {
    const begun = await post(wanted, mine);
    if (mine !== turn) return void fetch(`/api/jobs/${begun.job}`, { method: "DELETE" }).catch(() => {});
    job = begun.job;
    if (wanted.fade || !$("fade").checked) faded = "";
    if (!$("fade").checked) $("fades").replaceChildren();
    results.begin(wanted.receivers, begun.original, wanted.fade);
    await follow(wanted, mine);
    if (mine === turn && wanted.fade) faded = key;
  } catch (error) {
    if (mine !== turn) return;
    fail(error.message || "Something went wrong.");
    status("");
  } finally {
    if (mine === turn) {
      job = null;
      busy(false);
    }
  }
}

async function post(wanted, mine) {
  const init = () => ({
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...wanted, ...photo.chosen() }),
  });
  try {
    return await ask("/api/jobs", init(), mine);
  } catch (error) {
    if (error.status !== 410) throw error;
    await photo.again();
    return ask("/api/jobs", init(), mine);
  }
}

async function follow(wanted, mine) {
  let have = 0;
  const name = job;
  for (let wait = 60; ; wait = Math.min(wait * 1.3, 400)) {
    const now = await ask(`/api/jobs/${name}?have=${have}`, {}, mine);
    if (mine !== turn) return;
    have += now.parts.length;
    for (const part of now.parts) show(part, name, wanted);
    if (now.state === "failed") throw new Error(now.error);
    if (now.state === "cancelled") return status("Cancelled.");
    if (now.state === "done") {
      results.finish();
      return status(`Done: ${wanted.receivers.join(", ")} at ${minus(wanted.snr_db)} dB.`);
    }
    if (now.state === "waiting") {
      status(now.ahead ? `Waiting: ${now.ahead} before you.` : "You are next.");
      $("progress").removeAttribute("value");
    } else {
      status(now.total ? `${now.label}: ${now.done} of ${now.total}` : `${now.label || "Working"} …`);
      if (now.total) $("progress").value = now.done / now.total;
      else $("progress").removeAttribute("value");
    }
    await sleep(wait);
  }
}

function show(part, name, wanted) {
  if (part.kind === "symbols") results.symbols(part, wanted.channel, wanted.snr_db);
  else if (part.kind === "restored") results.restored(part);
  else if (part.kind === "fade") results.fade(part);
  else if (part.kind === "files") results.files(name, part.names);
}

function drop() {
  if (job) fetch(`/api/jobs/${job}`, { method: "DELETE" }).catch(() => {});
  job = null;
}

function cancel() {
  turn += 1;
  drop();
  busy(false);
  status("Cancelled.");
  $("send").focus();
}

function describe() {
  const snr = Number($("snr").value);
  $("snr-shown").textContent = `${minus(snr)} dB`;
  const [low, high] = options.snr_range_db;
  $("snr-hint").textContent = snr < low || snr > high ? `The networks were trained for ${minus(low)} to ${minus(high)} dB.` : "";
  $("samples-shown").textContent = $("samples").value;
  $("naturalness").disabled = !$("naturalness-own").checked;
  $("naturalness-shown").textContent = $("naturalness-own").checked ? Number($("naturalness").value).toFixed(2) : "tuned";
  $("samples-setting").hidden = !picked().some((name) => offers(name).samples);
  $("naturalness-setting").hidden = !picked().some((name) => offers(name).naturalness);
  const here = options.bcrs.find((offer) => offer.bcr === $("bcr").value).receivers;
  for (const input of $("receivers").querySelectorAll("input")) {
    input.disabled = !here.includes(input.value);
    if (input.disabled) input.checked = false;
  }
}

let timer = 0;

function changed() {
  describe();
  $("send").disabled = !photo.chosen();
  clearTimeout(timer);
  if (!$("follow").checked || !photo.chosen() || !picked().length) return;
  if (!picked().every((name) => offers(name).quick)) return;
  timer = setTimeout(send, 200);
}

function option(value, text) {
  const made = document.createElement("option");
  [made.value, made.textContent] = [value, text];
  return made;
}

async function start() {
  options = await ask("/api/options");
  photo.limitTo(options.max_bytes);
  $("bcr").replaceChildren(...options.bcrs.map((offer) => option(offer.bcr, `${offer.bcr} (k = ${offer.k})`)));
  $("bcr").value = options.bcr;
  $("channel").replaceChildren(...options.channels.map((name) => option(name, name)));
  $("samples").max = options.max_samples;
  $("receivers").replaceChildren(...options.receivers.map((receiver) => {
    const label = document.createElement("label");
    label.className = "tick";
    const input = document.createElement("input");
    [input.type, input.value] = ["checkbox", receiver.name];
    input.checked = options.chosen.includes(receiver.name);
    label.append(input, receiver.name + (receiver.quick ? "" : " (slow)"));
    return label;
  }));
  describe();
  document.querySelector(".controls").addEventListener("input", (event) => {
    if (event.target.closest("#framing") || event.target.id === "file" || event.target.id === "follow") return;
    changed();
  });
  photo.onChange(changed);
  if (photo.chosen()) changed();
}

$("send").addEventListener("click", send);
$("cancel").addEventListener("click", cancel);
$("new-seed").addEventListener("click", () => {
  $("seed").value = Math.floor(Math.random() * 2 ** 31);
  changed();
});
addEventListener("pagehide", drop);
addEventListener("keydown", (event) => { if (event.key === "Escape" && job) cancel(); });
start().catch((error) => fail(error.message));
