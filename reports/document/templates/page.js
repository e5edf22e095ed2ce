"use strict";
(() => {
  const NARROW = 640;
  const stored = JSON.parse(document.getElementById("data").textContent);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Hover texts are stored once for all figures that share them.
  const expanded = (trace) => {
    const copy = { ...trace };
    for (const field of ["hovertext", "text"]) {
      if (Array.isArray(copy[field])) {
        copy[field] = copy[field].map((item) => (Array.isArray(item) ? item.map((one) => stored.texts[one]) : stored.texts[item]));
      }
    }
    return copy;
  };

  const rewrapped = (text, width) => {
    const lines = [""];
    for (const word of text.replaceAll("<br>", " ").split(" ")) {
      if (lines.at(-1) && (lines.at(-1) + " " + word).length > width) lines.push("");
      lines[lines.length - 1] = lines.at(-1) ? lines.at(-1) + " " + word : word;
    }
    return lines.join("<br>");
  };

  const layoutFor = (figure, width) => {
    const layout = structuredClone(figure.layout);
    const narrow = width < NARROW;
    const heat = figure.data.some((trace) => trace.type === "heatmap");
    layout.height = layout.meta.height;
    layout.font = { color: color("--ink"), family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 13 };
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.hoverlabel = { bgcolor: color("--paper"), bordercolor: color("--quiet"), align: "left",
      font: { color: color("--ink"), family: layout.font.family, size: 12 } };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: color("--quiet"), activecolor: color("--ink") };
    for (const axis of ["xaxis", "yaxis"]) {
      layout[axis] = { ...layout[axis], gridcolor: color("--line"), linecolor: color("--line") };
    }
    if (!heat) {
      layout.dragmode = narrow ? false : "zoom";
      if (narrow) {
        layout.showlegend = true;
        layout.annotations = (layout.annotations || []).filter((note) => note.name !== "direct" && note.name !== "tolerance" && !(note.name === "rule" && note.yref !== "paper"));
        layout.margin = { ...layout.margin, l: 48, r: 8 };
        for (const axis of [layout.xaxis, layout.yaxis]) axis.title = { ...axis.title, text: rewrapped(axis.title.text, 34) };
      }
      if (layout.showlegend) {
        const entries = figure.data.filter((trace) => trace.showlegend !== false).length;
        const columns = narrow ? 1 : 3;
        layout.height += 22 * Math.ceil(entries / columns);
      }
    } else if (narrow) {
      layout.margin = { ...layout.margin, l: 8, r: 0 };
      layout.yaxis.ticktext = layout.yaxis.ticktext.map((name) => shortened(name, 22));
      const letters = (names) => Math.max(0, ...names.flatMap((name) => name.split("<br>")).map((line) => line.length));
      const room = (width - 7 * letters(layout.yaxis.ticktext)) / layout.xaxis.tickvals.length;
      if (7 * letters(layout.xaxis.ticktext) > room) layout.xaxis.tickangle = -90;
    }
    return layout;
  };

  // The middle goes, as names of layers differ at their ends; escapes such as "&lt;" stay whole.
  const shortened = (name, most) => {
    const letters = name.match(/&[a-z]+;|./gu) || [];
    return letters.length <= most ? name : [...letters.slice(0, most / 2 - 1), "…", ...letters.slice(-most / 2)].join("");
  };

  // What a narrow screen has no room for: color scales, structures in cells, and legend entries longer than a line (cut before
  // a broken "&lt;").
  const slim = (trace) => {
    if (trace.type === "heatmap") {
      const text = trace.x.length > 2 ? trace.text.map((row) => row.map((cell) => cell.split(" · ")[0])) : trace.text;
      return { ...trace, text, showscale: false };
    }
    const name = trace.name && trace.name.length > 42 ? trace.name.slice(0, 40).replace(/&[a-z]*$/, "") + "…" : trace.name;
    return { ...trace, name };
  };

  // Faint on white is invisible on black.
  const lit = (trace) => (trace.opacity < 1 ? { ...trace, opacity: Math.min(1, trace.opacity + 0.35) } : trace);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const draw = (plot) => {
    const figure = stored.figures[plot.dataset.figure];
    const missing = plot.parentElement.querySelector(".missing");
    const notes = plot.parentElement.querySelector(".note");
    plot.hidden = "missing" in figure;
    missing.hidden = !plot.hidden;
    missing.textContent = figure.missing || "";
    notes.textContent = (figure.notes || []).join("\n");
    if (plot.hidden) return;
    plot.removeAttribute("hidden");
    const width = plot.clientWidth || plot.parentElement.clientWidth;
    plot.dataset.width = width;
    const data = figure.data.map(expanded).map((trace) => (width < NARROW ? slim(trace) : trace))
      .map((trace) => (dark.matches ? lit(trace) : trace));
    const config = { displaylogo: false, responsive: false, displayModeBar: width < NARROW ? false : "hover", scrollZoom: false,
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };
    Plotly.purge(plot);  // drawings of one switch have other traces: an update in place may keep a marker of the former
    Plotly.newPlot(plot, data, { ...layoutFor(figure, width), width }, config);
    plot.on("plotly_click", (event) => choose(plot, event.points[0]));
  };

  const choose = (plot, point) => {
    const chosen = plot.parentElement.querySelector(".chosen");
    const shown = String(point.hovertext || point.text || "");
    chosen.textContent = shown.replaceAll("<br>", "\n").replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
    const table = point.customdata && document.getElementById("plan-" + point.customdata);
    document.querySelectorAll("details.picked").forEach((other) => other.classList.remove("picked"));
    if (table) {
      table.open = true;
      table.classList.add("picked");
      table.scrollIntoView({ behavior: "smooth", block: "center" });
    }
  };

  const plots = [...document.querySelectorAll(".plot")];
  // A figure is drawn when it comes near the window: a long report opens at once.
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !entry.target.dataset.width) draw(entry.target);
    }
  }, { rootMargin: "1200px" });
  plots.forEach((plot) => near.observe(plot));
  document.querySelectorAll(".switch button").forEach((button) => {
    button.addEventListener("click", () => {
      const plot = button.closest(".figure").querySelector(".plot");
      button.parentElement.querySelectorAll("button").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      plot.dataset.figure = button.dataset.figure;
      plot.parentElement.querySelector(".chosen").textContent = "";
      draw(plot);
    });
  });
  const again = () => plots.filter((plot) => plot.dataset.width).forEach(draw);
  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (plots.some((plot) => plot.dataset.width && Number(plot.dataset.width) !== plot.parentElement.clientWidth)) again();
    }, 150);
  });
  dark.addEventListener("change", again);
  addEventListener("beforeprint", () => plots.forEach(draw));
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#plan-"]');
    const table = link && document.getElementById(link.hash.slice(1));
    if (table) table.open = true;
  });

  // Which network to take: the answers to all tolerances are in the data, rising; the last that holds is shown.
  document.querySelectorAll(".question").forEach((question) => {
    const answers = stored.answers[Number(question.dataset.question)];
    const input = question.querySelector("input");
    const offer = (part, text) => {
      part.hidden = !text;
      part.querySelector("code").textContent = text;
    };
    const figure = [...document.querySelectorAll('.figure[data-key="front"]')].find((one) => one.dataset.task === question.dataset.figure);
    // The figure's line moves along, in all its drawings.
    const moved = (tolerance) => {
      const at = Number(question.dataset.dense) + (question.dataset.better === "higher" ? -tolerance : tolerance);
      for (const button of figure ? figure.querySelectorAll(".switch button") : []) {
        const layout = stored.figures[button.dataset.figure].layout;
        for (const item of layout ? [...layout.shapes, ...layout.annotations] : []) {
          if (item.name === "tolerance") Object.assign(item, "y0" in item ? { y0: at, y1: at } : { y: at });
        }
      }
      const plot = figure && figure.querySelector(".plot");
      if (plot && plot.dataset.width) draw(plot);
    };
    const answered = () => {
      const tolerance = input.valueAsNumber;
      if (Number.isNaN(tolerance)) return;
      const answer = answers.findLast((one) => one.least === null || one.least <= tolerance + 1e-9);
      question.querySelector(".smallest").textContent = answer.smallest;
      question.querySelector(".fastest").textContent = answer.fastest;
      offer(question.querySelector(".files"), answer.path);
      offer(question.querySelector(".export"), answer.command);
      question.querySelector(".unsaved").hidden = Boolean(answer.path);
      const layers = question.querySelector(".layers");
      layers.href = "#plan-" + answer.key;
      layers.hidden = !document.getElementById("plan-" + answer.key);
    };
    input.addEventListener("input", () => {
      answered();
      if (!Number.isNaN(input.valueAsNumber)) moved(input.valueAsNumber);
    });
    answered();
  });

  // A page that is opened from disk may not be allowed to use the clipboard: then the text is selected and copied.
  const copied = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = document.createElement("textarea");
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    await copied(button.dataset.text || button.parentElement.querySelector("code").textContent);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
})();
