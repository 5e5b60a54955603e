"use strict";
{
  const dialog = document.getElementById("enlarged");
  const picture = dialog.querySelector("img"), words = dialog.querySelector("figcaption");
  const all = [...document.querySelectorAll(".enlarge")];
  let shown = 0;
  const show = (place) => {
    shown = (place + all.length) % all.length;
    const image = all[shown].querySelector("img"), figure = all[shown].closest("figure");
    picture.src = image.src;
    picture.alt = image.alt;
    picture.className = image.className;
    words.textContent = figure && figure.title ? `${image.alt} (${figure.title})` : image.alt;
    if (!dialog.open) dialog.showModal();
  };
  all.forEach((button, place) => button.addEventListener("click", () => show(place)));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(shown + 1);
    if (event.key === "ArrowLeft") show(shown - 1);
  });
  dialog.addEventListener("close", () => all[shown].focus());
}

for (const map of document.querySelectorAll("[data-map]")) {
  const plane = map.querySelector(".plane"), glass = map.querySelector(".glass svg");
  const words = map.querySelector(".glass figcaption");
  const points = [...plane.querySelectorAll("[data-place]")];
  points.sort((one, other) => one.x.baseVal.value - other.x.baseVal.value);
  let at = -1;
  const look = (number) => {
    if (at >= 0) points[at].classList.remove("looked-at");
    at = (number + points.length) % points.length;
    const place = Number(points[at].dataset.place), side = Number(glass.dataset.side);
    const columns = Number(glass.dataset.columns);
    points[at].classList.add("looked-at");
    glass.setAttribute("viewBox", `${place % columns * side} ${Math.floor(place / columns) * side} ${side} ${side}`);
    words.textContent = points[at].querySelector("title").textContent;
  };
  const nearest = (event) => {
    const frame = plane.querySelector(".chart"), drawn = frame.viewBox.baseVal, box = frame.getBoundingClientRect();
    const x = (event.clientX - box.left) * drawn.width / box.width;
    const y = (event.clientY - box.top) * drawn.height / box.height;
    let best = 0, least = Infinity;
    points.forEach((point, number) => {
      const gap = Math.hypot(point.x.baseVal.value - x, point.y.baseVal.value - y);
      if (gap < least) [best, least] = [number, gap];
    });
    look(best);
  };
  plane.addEventListener("pointermove", nearest);
  plane.addEventListener("pointerdown", nearest);
  plane.addEventListener("keydown", (event) => {
    const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1}[event.key];
    if (!step) return;
    event.preventDefault();
    look(at + step);
  });
  if (points.length) look(0);
}
