"use strict";
/* The slider over the images that stand on the page, and tables opened for print. Names are only compared and set as text. */
(function () {
  const slider = document.getElementById("slider");
  if (slider) startSlider(slider);

  window.addEventListener("beforeprint", function () {
    for (const one of document.querySelectorAll("details:not([open])")) {
      one.dataset.closed = "";
      one.open = true;
    }
  });
  window.addEventListener("afterprint", function () {
    for (const one of document.querySelectorAll("details[data-closed]")) {
      one.open = false;
      delete one.dataset.closed;
    }
  });

  function startSlider(slider) {
    const beside = document.getElementById("beside");
    const frame = document.getElementById("frame");
    const split = document.getElementById("split");
    const said = document.getElementById("said");
    const all = document.getElementById("all");
    const before = piece("img", "before");
    const after = piece("img", "after");
    const edge = piece("span", "edge");
    const left = piece("span", "tag left");
    const right = piece("span", "tag right");
    edge.setAttribute("aria-hidden", "true");
    left.setAttribute("aria-hidden", "true");
    right.setAttribute("aria-hidden", "true");
    left.textContent = "as it came";

    for (const radio of slider.querySelectorAll("input[name=sample]")) {
      const first = picture(radio.value, "none");
      if (!first) continue;
      const thumb = document.createElement("img");
      thumb.src = first.src;
      thumb.alt = "";
      radio.after(thumb);
    }
    slider.addEventListener("change", function (event) {
      if (event.target.type === "radio") show();
      if (event.target === split) say();
    });
    split.addEventListener("input", move);
    all.addEventListener("change", function () { beside.classList.toggle("away", !all.checked); });
    frame.addEventListener("pointerdown", function (event) {
      if (event.button !== 0) return;
      frame.setPointerCapture(event.pointerId);
      drag(event);
      split.focus({ preventScroll: true });
      event.preventDefault();
    });
    frame.addEventListener("pointermove", function (event) {
      if (frame.hasPointerCapture(event.pointerId)) drag(event);
    });
    frame.addEventListener("pointerup", say);

    beside.classList.add("away");
    slider.hidden = false;
    show();

    function piece(tag, kind) {
      const element = document.createElement(tag);
      element.className = kind;
      frame.append(element);
      return element;
    }

    function picture(sample, harmonizer) {
      const row = beside.querySelector('[data-sample="' + Number(sample) + '"]');
      for (const tile of row.querySelectorAll("[data-harmonizer]")) {
        if (tile.dataset.harmonizer === harmonizer) return tile.querySelector("img");
      }
      return null;
    }

    function chosen(name) {
      return slider.querySelector("input[name=" + name + "]:checked").value;
    }

    function drag(event) {
      const box = frame.getBoundingClientRect();
      split.value = Math.round(100 * (event.clientX - box.left) / box.width);
      move();
    }

    function show() {
      const harmonizer = chosen("harmonizer");
      put(before, picture(chosen("sample"), "none"));
      put(after, picture(chosen("sample"), harmonizer));
      frame.style.setProperty("--shape", before.getAttribute("width") / before.getAttribute("height"));
      right.textContent = harmonizer;
      move();
      say();
    }

    function put(image, source) {
      image.hidden = !source;
      if (!source) return;
      image.src = source.src;
      image.alt = source.alt;
      image.setAttribute("width", source.getAttribute("width"));
      image.setAttribute("height", source.getAttribute("height"));
    }

    function move() {
      frame.style.setProperty("--split", split.value + "%");
      left.classList.toggle("gone", split.value < 18);
      right.classList.toggle("gone", split.value > 82);
      split.setAttribute("aria-valuetext", words());
    }

    function words() {
      return split.value + " % as it came, " + (100 - split.value) + " % after " + chosen("harmonizer");
    }

    function say() {
      said.textContent = after.hidden
        ? "There is no image after " + chosen("harmonizer") + "."
        : "From the left: " + words() + ".";
    }
  }
})();
