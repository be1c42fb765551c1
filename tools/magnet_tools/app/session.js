// The transcript: one row an utterance. Rows stay as a session grows, so that what a reader opened stays open.

/** Returns the transcript; `openCandidates(exchange)` is asked for a turn whose candidates a reader wants to see. */
function makeTranscript(list, openCandidates) {
  let rows = [];

  function clear() {
    rows = [];
    list.classList.remove("alone");
    list.replaceChildren();
  }

  /** Shows the dialogue; `describe(exchange)` gives what is known of a turn, `findings` are the audit's. */
  function show(dialogue, describe, findings) {
    const isOther = rows.length > dialogue.length || rows.some((row, i) => row.said !== dialogue[i].text);
    if (isOther) clear();
    dialogue.forEach((utterance, position) => {
      if (position === rows.length) rows.push(addRow(utterance, position));
      const isCounselor = utterance.role !== "client";
      const turn = position < 2 ? null : describe(exchangeOf(position));
      decorate(rows[position], isCounselor ? turn : null, findings.filter((found) => found.message === position));
    });
  }

  /** Shows one turn by itself, with what is known of it. */
  function showAlone(utterance, turn) {
    clear();
    list.classList.add("alone");
    rows.push(addRow(utterance, 2));
    decorate(rows[0], turn, []);
  }

  function addRow(utterance, position) {
    const speaker = speakerOf(utterance.role);
    const item = make("li", `utterance ${utterance.role === "client" ? "client" : "counselor"}`);
    item.tabIndex = -1;
    const head = make("p", "speaker", speaker, make("span", "place", ` ${placeOf(position)}`));
    const row = { item, said: utterance.text, marks: make("div", "marks"), shownMarks: "", candidates: null };
    item.append(make("div", "bubble", null, head, make("p", "said", utterance.text)), row.marks);
    list.append(item);
    return row;
  }

  function decorate(row, turn, findings) {
    const marks = marksOf(turn, findings);
    const key = JSON.stringify(marks);
    if (key !== row.shownMarks) {
      row.shownMarks = key;
      row.marks.replaceChildren(...marks.map(({ label, chips }) => makeChips(label, chips)));
    }
    if (!turn?.hasCandidates) return;
    row.candidates ??= addCandidates(row.item, turn.exchange, turn.count);
    if (turn.candidates) fillCandidates(row.candidates.body, turn);
  }

  function addCandidates(item, exchange, count) {
    const summary = make("summary", "", count ? `${count} candidates` : "Candidates");
    const body = make("div", "candidates");
    const details = make("details", "on-demand", null, summary, body);
    details.addEventListener("toggle", () => {
      if (details.open && !body.dataset.filled) load(body, exchange);
    });
    item.append(details);
    return { body };
  }

  async function load(body, exchange) {
    body.replaceChildren(make("p", "quiet", "Loading…"));
    try {
      await openCandidates(exchange);
      if (!body.dataset.filled) body.replaceChildren(make("p", "quiet", "This turn was written without candidates."));
    } catch (error) {
      const again = make("button", "", "Try again");
      again.type = "button";
      again.addEventListener("click", () => load(body, exchange));
      body.replaceChildren(make("p", "bad", error.message), again);
    }
  }

  /** Moves reader and focus to an utterance. */
  function goTo(position) {
    rows[position]?.item.focus();
    rows[position]?.item.scrollIntoView({ block: "center" });
  }

  return { show, showAlone, clear, goTo };
}

function marksOf(turn, findings) {
  const marks = [];
  if (turn?.techniques.length) {
    marks.push({ label: "Techniques", chips: turn.techniques.map((name) => ({ kind: "technique", text: titleOf(name) })) });
  }
  const flags = (turn?.flags ?? []).map((flag) => ({ kind: "bad", text: `Flagged: ${inWords(flag)}` }));
  const found = findings.map((one) => ({ kind: "bad", text: `Found: ${inWords(one.kind)}` }));
  if (flags.length || found.length) marks.push({ label: "Flags and findings", chips: [...flags, ...found] });
  return marks;
}

function fillCandidates(body, turn) {
  if (body.dataset.filled) return;
  const texts = Object.entries(turn.candidates);
  if (!texts.length) return;
  body.dataset.filled = "yes";
  const pairs = texts.map(([technique, text]) => {
    const chosen = turn.techniques.includes(technique) ? [make("span", "chosen", "chosen")] : [];
    return make("div", "", null, make("dt", "", `${titleOf(technique)} `, ...chosen), make("dd", "", text));
  });
  body.replaceChildren(make("dl", "", null, ...pairs));
}

/** Shows what the audit found; a finding leads to its utterance. */
function showAudit(body, audit, goTo) {
  const findings = audit.findings.map((found) => {
    const button = make("button", "link", `${speakerOf(found.role)}, ${placeOf(found.message)}`);
    button.type = "button";
    button.addEventListener("click", () => goTo(found.message));
    return make("li", "", `${inWords(found.kind)}: ${found.detail} `, make("q", "", found.excerpt), " ", button);
  });
  const counts = Object.entries(audit.counts).map(([kind, count]) => `${inWords(kind)} ${count}`);
  const endings = [
    audit.plan_is_unfinished ? "The plan is unfinished." : "",
    audit.closes ? "The speakers take leave of each other." : "The speakers do not take leave of each other.",
  ];
  const summary = `${counts.length ? `Found: ${counts.join(", ")}.` : "Nothing found."} ${endings.join(" ").trim()}`;
  body.replaceChildren(make("p", "", summary), make("ul", "findings", null, ...findings));
}
