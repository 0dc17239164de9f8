"use strict";
(() => {
  const page = JSON.parse(document.getElementById("page").textContent);

  const made = (tag, text, ...classes) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    element.classList.add(...classes);
    return element;
  };
  const option = (value, text) => new Option(text, value);

  // What farm.results.picking.front does in Python, over the cells that are shown.
  const front = (points) => {
    const found = [];
    const ordered = [...points].sort((a, b) => a.ms - b.ms || b.ap - a.ap);
    for (const one of ordered) {
      if (!found.length || one.ap > found[found.length - 1].ap + page.same_ap) found.push(one);
    }
    // Labels of the right half stand on the left of their marks.
    const middle = Math.sqrt(Math.min(...points.map((one) => one.ms)) * Math.max(...points.map((one) => one.ms)));
    return found.map((one) => ({ ...one, side: one.ms > middle ? "right" : "left" }));
  };

  // Colours of text and lines are those of the page, so that a theme and a print need no new plot.
  const config = {
    background: null,
    font: "system-ui, 'DejaVu Sans', sans-serif",
    axis: {
      labelColor: "currentColor", titleColor: "currentColor", gridColor: "currentColor",
      gridOpacity: 0.12, domainColor: "currentColor", tickColor: "currentColor",
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", titlePadding: 10,
      domainOpacity: 0.4, tickOpacity: 0.4,
    },
    legend: {
      labelColor: "currentColor", titleColor: "currentColor", labelFontSize: 12,
      titleFontSize: 12, labelLimit: 220, symbolSize: 90, symbolOpacity: 1,
      symbolBaseFillColor: "currentColor", symbolBaseStrokeColor: "currentColor",
    },
    text: { color: "currentColor" },
    view: { stroke: null },
  };

  class Section {
    constructor(element) {
      this.element = element;
      this.data = JSON.parse(element.querySelector(".data").textContent);
      this.controls = element.querySelector(".controls");
      this.body = element.querySelector("tbody");
      this.rows = [...this.body.rows];
      this.texts = this.rows.map((row) => `${row.title} ${row.textContent}`.toLowerCase());
      this.commands = element.querySelector(".commands pre").textContent.split("\n");
      this.selected = null;
      this.drawn = 0;
      this.setUpControls();
      this.setUpTable();
      this.draw();
    }

    find(selector) {
      return this.controls.querySelector(selector);
    }

    setUpControls() {
      this.controls.hidden = false;
      this.search = this.find("input[type=search]");
      this.filters = {};
      for (const [name, values] of Object.entries(this.data.filters)) {
        const distinct = [...new Set(values)].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
        if (distinct.length < 2) continue;
        const select = made("select");
        select.append(option("", "all"), ...distinct.map((value) => option(`=${value}`, value)));
        const label = made("label", name);
        label.append(select);
        this.find(".filters").append(label);
        this.filters[name] = select;
        select.addEventListener("change", () => this.update());
      }
      this.colour = this.find(".colour");
      this.colour.append(...this.data.axes.map((axis) => option(axis, axis)));
      this.kind = this.find(".kind");
      const kinds = Object.keys(this.data.kinds);
      this.kind.append(...kinds.map((kind) => option(kind, `${kind} AP`)));
      this.find(".kinds").hidden = kinds.length < 2;
      this.log = this.find(".log");
      const latencies = this.points().map((one) => one.ms);
      this.log.checked = Math.max(...latencies) > page.log_from * Math.min(...latencies);
      this.search.addEventListener("input", () => this.update());
      for (const one of [this.colour, this.kind, this.log]) one.addEventListener("change", () => this.draw());
      this.find(".reset").addEventListener("click", () => {
        this.search.value = "";
        for (const select of Object.values(this.filters)) select.value = "";
        this.draw();
      });
    }

    points() {
      return this.data.kinds[this.kind.value] ?? [];
    }

    // The rows that the search and the filters let through.
    passing() {
      const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const chosen = Object.entries(this.filters).filter(([, select]) => select.value);
      return this.rows.map((_, index) =>
        words.every((word) => this.texts[index].includes(word)) &&
        chosen.every(([name, select]) => `=${this.data.filters[name][index]}` === select.value));
    }

    // Show what the search and the filters let through, in the plot and in the table.
    update() {
      const passes = this.passing();
      const points = this.points().filter((one) => passes[one.id]);
      this.view?.data("cells", points).data("front", front(points)).resize().runAsync();
      this.refresh(passes);
    }

    // Show the rows that pass and are selected in the plot.
    refresh(passes) {
      let count = 0;
      this.rows.forEach((row, index) => {
        row.hidden = !(passes[index] && (!this.selected || this.selected.has(index)));
        if (row.hidden) this.close(row);
        count += !row.hidden;
      });
      this.find(".shown").textContent = `${count} of ${this.rows.length} cells`;
    }

    async draw() {
      const turn = ++this.drawn;
      this.view?.finalize();
      this.view = undefined;
      this.selected = null;
      const place = this.element.querySelector(".plot");
      if (!this.points().length) {
        place.textContent = "No cell has both an AP and a latency.";
        this.refresh(this.passing());
        return;
      }
      const spec = structuredClone(page.plot);
      const passes = this.passing();
      this.refresh(passes);
      const points = this.points().filter((one) => passes[one.id]);
      spec.data.values = points;
      spec.layer[0].data.values = front(points);
      const colour = this.colour.value;
      const other = this.data.axes.find((axis) => axis !== colour);
      for (const layer of spec.layer) {
        const encoding = layer.encoding;
        if (encoding.color) encoding.color.field = colour;
        delete encoding.shape;
        encoding.x.scale = this.log.checked
          ? { type: "log", nice: false, padding: 20 }
          : { type: "linear", zero: false, nice: false, padding: 20 };
        encoding.y.title = `${this.kind.value} AP`;
        encoding.y.scale = { zero: false, padding: 12 };
        if (encoding.tooltip) {
          if (other) encoding.shape = { field: other, type: "nominal", scale: page.shapes };
          const axes = this.data.axes.map((axis) => ({ field: axis, title: axis }));
          encoding.tooltip = [
            { field: "cell", title: "cell" }, ...axes,
            { field: "ap_text", title: `${this.kind.value} AP` },
            { field: "ms_text", title: "p50 ms" },
          ];
        }
        for (const param of layer.params ?? []) {
          if (param.name === "legend") param.select.fields = [colour];
        }
      }
      const narrow = place.clientWidth < 600;
      const legend = narrow ? { orient: "bottom", columns: 2 } : { orient: "right" };
      const result = await vegaEmbed(place, spec, {
        renderer: "svg", ast: true, tooltip: { theme: "farm" },
        actions: { export: true, source: false, compiled: false, editor: false },
        config: { ...config, legend: { ...config.legend, ...legend } },
      });
      if (turn !== this.drawn) return result.finalize();
      this.view = result.view;
      this.view.addSignalListener("brush", (_, area) => this.select(area));
      this.view.addEventListener("click", (_, item) => {
        if (item?.datum?.id !== undefined) this.open(this.rows[item.datum.id], true);
      });
      if (String(this.passing()) !== String(passes)) this.update();
      place.dataset.drawn = turn;
    }

    // The cells within the area that was dragged in the plot; none dragged: all.
    select(area) {
      const within = (value, range) => !range || (value >= Math.min(...range) && value <= Math.max(...range));
      const chosen = area.ms || area.ap;
      this.selected = chosen
        ? new Set(this.points().filter((one) => within(one.ms, area.ms) && within(one.ap, area.ap)).map((one) => one.id))
        : null;
      clearTimeout(this.pending);
      this.pending = setTimeout(() => this.refresh(this.passing()), 60);
    }

    setUpTable() {
      this.rows.forEach((row, index) => {
        row.dataset.index = index;
        const button = made("button", "\u25B8");
        button.type = "button";
        button.setAttribute("aria-expanded", "false");
        button.setAttribute("aria-label", `Figures of ${row.title}`);
        row.cells[0].append(button);
      });
      this.body.addEventListener("click", (event) => {
        const row = event.target.closest("tr");
        if (row?.dataset.index === undefined || String(getSelection())) return;
        if (row.nextSibling?.classList?.contains("detail")) this.close(row);
        else this.open(row);
      });
      for (const heading of this.element.querySelectorAll("th[data-column]")) {
        heading.tabIndex = 0;
        const sort = () => this.sort(heading);
        heading.addEventListener("click", sort);
        heading.addEventListener("keydown", (event) => event.key === "Enter" && sort());
      }
    }

    value(index, name) {
      const place = this.data.columns.indexOf(name);
      return place < 0 ? null : this.data.values[index][place];
    }

    sort(heading) {
      const name = heading.dataset.column;
      const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const one of heading.parentElement.children) one.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const compared = (a, b) => {
        if (a === b) return 0;
        if (a === null) return 1;
        if (b === null) return -1;
        return sign * (typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
      };
      const ordered = [...this.rows].sort((a, b) =>
        compared(this.value(a.dataset.index, name), this.value(b.dataset.index, name)));
      for (const row of this.rows) this.close(row);
      this.body.append(...ordered);
    }

    close(row) {
      const next = row.nextSibling;
      if (next?.classList?.contains("detail")) next.remove();
      row.classList.remove("marked");
      const button = row.cells[0].firstChild;
      if (button.textContent !== "\u25B8") {
        button.textContent = "\u25B8";
        button.setAttribute("aria-expanded", "false");
      }
    }

    open(row, scrolls = false) {
      this.close(row);
      row.hidden = false;
      const index = Number(row.dataset.index);
      const cell = made("td");
      cell.colSpan = row.cells.length;
      const inner = made("div", undefined, "inner");
      cell.append(inner);
      inner.append(made("h4", row.title));
      const command = made("p", undefined, "command");
      command.append(made("code", this.commands[index]));
      const copy = made("button", "Copy", "plain");
      copy.type = "button";
      copy.addEventListener("click", async () => {
        await navigator.clipboard.writeText(this.commands[index]);
        copy.textContent = "Copied";
      });
      command.append(copy);
      inner.append(command);
      const list = made("dl");
      this.data.columns.forEach((name, place) => {
        const value = this.data.values[index][place];
        if (value === null) return;
        const pair = made("div");
        const unit = this.data.units[place];
        pair.append(made("dt", name), made("dd", unit ? `${value} ${unit}` : String(value)));
        list.append(pair);
      });
      inner.append(list);
      const detail = made("tr", undefined, "detail");
      detail.append(cell);
      row.after(detail);
      row.classList.add("marked");
      row.cells[0].firstChild.textContent = "\u25BE";
      row.cells[0].firstChild.setAttribute("aria-expanded", "true");
      if (scrolls) row.scrollIntoView({ block: "center" });
    }
  }

  const theme = document.getElementById("theme");
  const kept = { get: () => { try { return localStorage.getItem("farm-theme"); } catch { return null; } },
    set: (value) => { try { localStorage.setItem("farm-theme", value); } catch { /* not kept */ } } };
  const isDark = () => (document.documentElement.dataset.theme
    ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const named = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  if (["light", "dark"].includes(kept.get())) document.documentElement.dataset.theme = kept.get();
  theme.hidden = false;
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    kept.set(document.documentElement.dataset.theme);
    named();
  });
  named();

  for (const element of document.querySelectorAll("section.target")) new Section(element);
})();
