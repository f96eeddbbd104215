(() => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const page = JSON.parse(byId("state").textContent);
  const read = page.picks;
  // Maps, not objects: a slot may be called __proto__.
  const entries = (key) => new Map(Object.entries(read[key] ?? {}));
  const picks = {
    title: read.title ?? "", author: read.author ?? "", reject: read.reject ?? [], order: read.order ?? [],
    accept: entries("accept"), emoji: entries("emoji"), text: entries("text"), keywords: entries("keywords"), motion: entries("motion"),
  };
  const sections = all("section.slot");
  const slots = page.slots.map((slot, number) => ({ ...slot, section: sections[number], cards: [] }));
  let saved = "";

  // One line without invisible letters, as picks.yaml is read. Joiners and tags stay, in emoji and words.
  const clean = (text) =>
    text.replace(/\s+/gu, " ").replace(/(?![\u200c\u200d\u{e0020}-\u{e007f}])[\p{Cc}\p{Cf}\p{Cs}\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0]/gu, "").trim().normalize("NFC");
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

  const emojiPattern = new RegExp(page.emoji, "gu");

  const hasOverride = (slot) => slot.candidates.some((one) => one.origin === "override");
  // The candidate in the pack once the picks are read; null: the pipeline chooses another, or none is left.
  function taken(slot) {
    const override = slot.candidates.findIndex((one) => one.origin === "override");
    if (override >= 0) return override;
    const accepted = slot.candidates.findIndex((one) => one.id === picks.accept.get(slot.name));
    if (accepted >= 0) return accepted;
    const chosen = slot.candidates.findIndex((one) => one.chosen && !picks.reject.includes(one.id));
    return chosen >= 0 ? chosen : null;
  }

  // Its sticker was rejected, and another may be chosen when the pack is made again.
  const isOpen = (slot) =>
    taken(slot) === null && slot.candidates.some((one) => one.chosen) && slot.candidates.some((one) => !picks.reject.includes(one.id));
  const isGap = (slot) => taken(slot) === null && !isOpen(slot);

  function showSlot(slot) {
    const at = taken(slot);
    const accepted = picks.accept.get(slot.name);
    slot.cards.forEach(({ card, candidate, number }) => {
      const isRejected = picks.reject.includes(candidate.id);
      card.classList.toggle("chosen", number === at);
      card.classList.toggle("rejected", isRejected);
      card.querySelector("[data-do=accept]")?.setAttribute("aria-pressed", String(candidate.id === accepted));
      card.querySelector("[data-do=reject]")?.setAttribute("aria-pressed", String(isRejected));
    });
    slot.section.classList.toggle("gap", isGap(slot));
    const stated = accepted === undefined || slot.candidates.some((one) => one.id === accepted) ? "" : `${accepted}, which is no candidate any more, is accepted`;
    slot.section.querySelector("[data-state]").textContent =
      stated || (hasOverride(slot) ? "the file in pack/override" : isOpen(slot) ? "the next pack looks for another" : at === null ? "no sticker" : accepted === undefined ? "" : "accepted by you");
  }

  function inOrder() {
    const place = new Map(picks.order.map((name, number) => [name, number]));
    const first = new Map(page.order.map((name, number) => [name, number]));
    const rank = (slot) => place.get(slot.name) ?? picks.order.length + first.get(slot.name);
    return [...slots].sort((one, other) => rank(one) - rank(other));
  }

  function linkTo(slot) {
    const link = document.createElement("a");
    link.href = `#${slot.section.id}`;
    link.textContent = `no ${slot.section.querySelector("h2").textContent}`;
    return link;
  }

  function show() {
    const empty = inOrder().filter((slot) => slot.wanted && isGap(slot));
    byId("gaps").replaceChildren(...(empty.length ? ["Gaps: ", ...empty.flatMap((slot) => [", ", linkTo(slot)]).slice(1), "."] : ["Every slot has a sticker."]));
    byId("yaml").value = yamlText(picks);
    byId("said").textContent = byId("yaml").value === saved ? "" : "Not saved yet.";
  }

  function put(key, name, value, suggested) {
    if (same(value, suggested)) picks[key].delete(name);
    else picks[key].set(name, value);
  }

  function decide(slot, candidate, what) {
    if (what === "accept") {
      if (picks.accept.get(slot.name) === candidate.id) picks.accept.delete(slot.name);
      else picks.accept.set(slot.name, candidate.id);
      picks.reject = picks.reject.filter((id) => id !== candidate.id);
    } else if (picks.reject.includes(candidate.id)) picks.reject = picks.reject.filter((id) => id !== candidate.id);
    else {
      picks.reject = [...picks.reject, candidate.id];
      for (const [name, id] of [...picks.accept]) if (id === candidate.id) picks.accept.delete(name);
    }
    slots.filter((one) => one === slot || one.candidates.some((other) => other.id === candidate.id)).forEach(showSlot);
    show();
  }

  function edit(slot, field, input) {
    const wrong = slot.section.querySelector("[data-wrong]");
    if (field === "emoji") {
      const kept = [...new Set(input.value.match(emojiPattern))].slice(0, page.mostEmoji);
      const others = input.value.replace(emojiPattern, " ").split(/[\s,]+/u).filter(Boolean).join(" ");
      wrong.hidden = !others;
      wrong.textContent = others && `${others} is no emoji, and is left out.`;
      if (kept.length) put("emoji", slot.name, kept, slot.emoji);
      else picks.emoji.delete(slot.name);
    } else if (field === "keywords") {
      const words = [...new Set(input.value.split(",").map(clean).filter(Boolean))].slice(0, 20);
      put("keywords", slot.name, words, slot.keywords);
    } else if (field === "motion") put("motion", slot.name, input.value, "");
    else put("text", slot.name, clean(input.value), slot.text);
    show();
  }

  function move(slot, step, button) {
    const list = inOrder();
    const from = list.indexOf(slot);
    const to = from + step;
    if (to < 0 || to >= list.length) return;
    list.splice(from, 1);
    list.splice(to, 0, slot);
    const names = list.map((one) => one.name).filter((name) => !/\p{Cs}/u.test(name)); // YAML holds no broken letters
    const others = picks.order.filter((name) => !names.includes(name));
    picks.order = same(names, page.order) ? others : [...names, ...others];
    byId("slots").append(...inOrder().map((one) => one.section));
    show();
    button.focus();
  }

  function showOnAll(card, file) {
    byId("all-name").textContent = card.querySelector("b").textContent;
    all("#all img").forEach((image) => { image.src = file; });
    byId("all").showModal();
  }

  async function copy() {
    const text = byId("yaml").value;
    byId("yaml").select();
    try {
      await navigator.clipboard.writeText(text);
      saved = text;
      byId("said").textContent = "Copied.";
    } catch {
      byId("said").textContent = "The text is selected: copy it with Ctrl+C.";
    }
  }

  function download() {
    saved = byId("yaml").value;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([saved], { type: "application/yaml" }));
    link.download = "picks.yaml";
    link.click();
    URL.revokeObjectURL(link.href);
    byId("said").textContent = "Downloaded.";
  }

  slots.forEach((slot) => {
    all(".card", slot.section).forEach((card) => {
      const number = Number(card.dataset.candidate);
      const candidate = slot.candidates[number];
      slot.cards.push({ card, candidate, number });
      card.addEventListener("click", (event) => {
        const button = event.target.closest("button[data-do]");
        if (!button) return;
        if (button.dataset.do === "chats") showOnAll(card, button.dataset.file);
        else decide(slot, candidate, button.dataset.do);
      });
      card.addEventListener("keydown", (event) => {
        const cards = all(".card", slot.section);
        const next = cards[cards.indexOf(card) + ({ ArrowRight: 1, ArrowLeft: -1 }[event.key] ?? NaN)];
        next?.querySelector("button").focus();
      });
    });
    all("[data-field]", slot.section).forEach((input) =>
      input.addEventListener("input", () => edit(slot, input.dataset.field, input)));
    all("[data-move]", slot.section).forEach((button) =>
      button.addEventListener("click", () => move(slot, Number(button.dataset.move), button)));
    showSlot(slot);
  });
  all("[data-pack]").forEach((input) =>
    input.addEventListener("input", () => {
      const key = input.dataset.pack;
      picks[key] = clean(input.value) === page[key] ? "" : clean(input.value);
      show();
    }));
  all("[name=chat]").forEach((choice) => {
    const apply = () => { if (choice.checked) document.body.className = `chat-${choice.value}`; };
    choice.addEventListener("change", apply);
    apply(); // a browser keeps the choice when the page is loaded again
  });
  byId("close").addEventListener("click", () => byId("all").close());
  byId("copy").addEventListener("click", copy);
  byId("download").addEventListener("click", download);
  addEventListener("beforeunload", (event) => { if (byId("yaml").value !== saved) event.preventDefault(); });
  all(".buttons, .move").forEach((part) => { part.hidden = false; });
  all("[data-field], [data-pack], #picks button").forEach((part) => { part.disabled = false; });
  saved = yamlText(picks);
  show();
})();
