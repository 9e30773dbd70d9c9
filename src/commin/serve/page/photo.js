// The photo: chosen, dropped, taken or the sample; sent to the server; its frame shown, dragged and adjusted.

const $ = (id) => document.getElementById(id);
const ready = new Set();
let photo = null; // what the server answered
let source = null; // the bytes, should the server forget them
let frame = null; // left, top, side in pixels of the photo
let turn = 0;
let maxBytes = 20e6;

export const onChange = (listener) => ready.add(listener);
const changed = () => ready.forEach((listener) => listener());
export const limitTo = (bytes) => { maxBytes = bytes; };
export const chosen = () => (photo ? { photo: photo.photo, frame: { ...frame } } : null);

function say(text, error = "") {
  $("photo-status").textContent = text;
  $("photo-error").textContent = error;
  $("photo-error").hidden = !error;
}

async function upload(blob) {
  const type = blob.type.startsWith("image/") ? blob.type : "application/octet-stream";
  const answer = await fetch("/api/photos", { method: "POST", body: blob, headers: { "Content-Type": type } });
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.error || `The server answered ${answer.status}.`);
  return content;
}

async function take(blob) {
  const mine = ++turn;
  if (blob.size > maxBytes) return say("", `The file is larger than ${maxBytes / 1e6} MB; send a smaller one.`);
  if (!blob.size) return say("", "The file is empty.");
  say("Looking for faces …");
  try {
    const found = await upload(blob);
    if (mine !== turn) return;
    [photo, source] = [found, blob];
    say(photo.note || (photo.faces.length === 1 ? "Found a face." : `Found ${photo.faces.length} faces.`));
    show();
  } catch (error) {
    if (mine === turn) say("", error instanceof TypeError ? "The server does not answer." : error.message);
  }
}

// The server was restarted or had to make room: send the same photo again, keep the frame.
export async function again() {
  if (!source) throw new Error("Choose the photo again.");
  photo = { ...photo, photo: (await upload(source)).photo };
}

function show() {
  $("preview").src = photo.preview;
  $("framing").hidden = false;
  $("frame-x").max = photo.width;
  $("frame-y").max = photo.height;
  $("frame-side").min = 16;
  $("frame-side").max = Math.round(1.5 * Math.max(photo.width, photo.height));
  const offers = photo.faces.map((face, index) => [`Face ${index + 1}`, face]);
  offers.push(["Middle", photo.centre]);
  $("faces").replaceChildren(...offers.map(([name, offer]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => set(offer));
    button.offer = offer;
    return button;
  }));
  set(offers[0][1]);
}

function set(next) {
  const side = Math.min(Math.max(next.side, 16), 1.5 * Math.max(photo.width, photo.height));
  const clamp = (value, size) => Math.min(Math.max(value, -side / 2), size - side / 2);
  frame = { left: clamp(next.left, photo.width), top: clamp(next.top, photo.height), side };
  const style = $("frame").style;
  style.left = `${(100 * frame.left) / photo.width}%`;
  style.top = `${(100 * frame.top) / photo.height}%`;
  style.width = `${(100 * side) / photo.width}%`;
  style.height = `${(100 * side) / photo.height}%`;
  $("frame-x").value = frame.left + side / 2;
  $("frame-y").value = frame.top + side / 2;
  $("frame-side").value = side;
  for (const button of $("faces").children) {
    button.setAttribute("aria-pressed", String(["left", "top", "side"].every((key) => Math.abs(button.offer[key] - frame[key]) < 1)));
  }
  changed();
}

function slide() {
  const side = Number($("frame-side").value);
  set({ left: Number($("frame-x").value) - side / 2, top: Number($("frame-y").value) - side / 2, side });
}

function drag(event) {
  if (!photo) return;
  event.preventDefault();
  const stage = $("stage").getBoundingClientRect();
  const unit = photo.width / stage.width;
  const begin = { ...frame };
  if (event.target !== $("frame")) {
    begin.left = (event.clientX - stage.left) * unit - frame.side / 2;
    begin.top = (event.clientY - stage.top) * unit - frame.side / 2;
    set(begin);
  }
  const move = (to) => set({
    ...begin,
    left: begin.left + (to.clientX - event.clientX) * unit,
    top: begin.top + (to.clientY - event.clientY) * unit,
  });
  const end = () => {
    removeEventListener("pointermove", move);
    removeEventListener("pointerup", end);
    removeEventListener("pointercancel", end);
  };
  addEventListener("pointermove", move);
  addEventListener("pointerup", end);
  addEventListener("pointercancel", end);
}

let stream = null;

async function openCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
  } catch (error) {
    return say("", `The camera cannot be used (${error.name || "not allowed here"}); choose a photo instead.`);
  }
  $("video").srcObject = stream;
  $("camera").hidden = false;
  $("camera-take").focus();
}

function closeCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  $("camera").hidden = true;
  $("camera-open").focus();
}

function takePicture() {
  const video = $("video");
  if (!video.videoWidth) return;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => take(blob), "image/png");
  closeCamera();
}

$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) take(file);
  event.target.value = "";
});
$("sample").addEventListener("click", async () => {
  try {
    take(await (await fetch("/sample.png")).blob());
  } catch {
    say("", "The server does not answer.");
  }
});
$("camera-open").addEventListener("click", openCamera);
$("camera-close").addEventListener("click", closeCamera);
$("camera-take").addEventListener("click", takePicture);
for (const id of ["frame-x", "frame-y", "frame-side"]) $(id).addEventListener("input", slide);
$("stage").addEventListener("pointerdown", drag);
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
addEventListener("dragleave", () => document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file) take(file);
});
addEventListener("paste", (event) => {
  const [file] = event.clipboardData?.files || [];
  if (file) take(file);
});
