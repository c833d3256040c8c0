"use strict";
const videos = Array.from(document.querySelectorAll("video"));
const button = document.getElementById("pause");
const loaded = new Set();
const load = (video) => {
  if (loaded.has(video)) return;
  loaded.add(video);
  document.body.dataset.ready = loaded.size;
  // Clips to be compared should run in step: all start over once the last one is there.
  if (loaded.size === videos.length) videos.forEach((each) => (each.currentTime = 0));
};
const play = (wanted) => {
  videos.forEach((video) => (wanted ? video.play().catch(() => {}) : video.pause()));
  button.textContent = wanted ? "Pause the videos" : "Play the videos";
  button.setAttribute("aria-pressed", String(!wanted));
};
// A browser without H.264 4:4:4 shows the same frames as an animated picture.
const replace = (video) => {
  if (!video.poster || !video.isConnected) return;
  const picture = new Image();
  picture.src = video.poster;
  picture.alt = video.getAttribute("aria-label");
  picture.className = video.className;
  video.replaceWith(picture);
};
videos.forEach((video) => {
  video.addEventListener("loadeddata", () => load(video));
  if (video.readyState >= 2) load(video);
  video.addEventListener("error", () => replace(video));
  if (video.error) replace(video);
});
if (button && videos.length) {
  button.hidden = false;
  button.addEventListener("click", () => play(button.getAttribute("aria-pressed") === "true"));
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) play(false);
}
// A process that was killed cannot say so; one that lives says it every minute.
const alive = document.getElementById("alive");
if (alive) {
  const last = new Date(alive.dataset.alive);
  if (Date.now() - last > 1000 * Number(alive.dataset.silent)) {
    alive.textContent = `Nothing was heard of the run since ${last.toLocaleString()}: it was stopped, or killed. The same command goes on; this page no longer renews itself.`;
    addEventListener("load", () => setTimeout(() => window.stop(), 0));
  }
}
