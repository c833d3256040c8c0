"use strict";
const videos = Array.from(document.querySelectorAll("video"));
const button = document.getElementById("pause");
const counted = () => {
  const ready = videos.filter((video) => video.readyState >= 2 && video.videoWidth > 0).length;
  document.body.dataset.ready = ready;
  // Clips to be compared should run in step: all start over once the last one is there.
  if (ready === videos.length) videos.forEach((video) => (video.currentTime = 0));
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
  video.addEventListener("loadeddata", counted);
  video.addEventListener("error", () => replace(video));
  if (video.error) replace(video);
});
counted();
if (button && videos.length) {
  button.hidden = false;
  button.addEventListener("click", () => play(button.getAttribute("aria-pressed") === "true"));
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) play(false);
}
