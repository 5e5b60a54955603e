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
