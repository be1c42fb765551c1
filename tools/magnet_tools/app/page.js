// What stands around the transcript: facts, status, plan, audit, usage; trouble; results that are no session.

const ENDINGS = {
  client: "the client ended it",
  turn_limit: "it reached its limit of exchanges",
  cancelled: "it was stopped",
  error: "it met an error",
};

function showSession() {
  const session = state.session;
  byId("plain").hidden = true;
  byId("whole").hidden = true;
  byId("refresh").hidden = !state.canCall || !isRunning();
  byId("title").textContent = `Session ${session.session_id}`;
  showFacts([
    ["Client", session.intake_id],
    ["Attitude", session.attitude],
    ["Method", session.method],
    ["Exchanges", `${session.exchanges} of at most ${session.max_turns}`],
    ["Engine", session.engine],
    ...(session.parent_id ? [["Branch of", session.parent_id]] : []),
  ]);
  showEngine(session.engine);
  say(statusOf(session));
  showProgress(session);
  showPlan(session.plan);
  transcript.show(session.dialogue, describeTurn, state.audit?.findings ?? []);
  showAuditOf(session);
  showUsage(session.usage);
  if (session.error) showTrouble(session.error.message, null);
}

function statusOf(session) {
  const many = `${session.exchanges} ${session.exchanges === 1 ? "exchange" : "exchanges"}`;
  const missing = session.dialogue.length || state.canCall ? "" : " Ask for get_session to see what was said.";
  if (isWritten()) return `Being written: ${many} so far.${missing}`;
  if (isRunning()) return `Running: the ${session.next_speaker} speaks next.${missing}`;
  const how = Object.hasOwn(ENDINGS, session.ended_by ?? "") ? `: ${ENDINGS[session.ended_by]}` : "";
  const status = session.status[0].toUpperCase() + session.status.slice(1);
  return `${status} after ${many}${how}.${missing}`;
}

/** Says where things stand; the same again would be read aloud again. */
function say(text) {
  if (byId("status").textContent !== text) byId("status").textContent = text;
}

function showProgress(session) {
  const bar = byId("progress");
  bar.hidden = !isWritten();
  bar.max = session.max_turns;
  bar.value = session.exchanges;
}

function showFacts(facts) {
  byId("facts").replaceChildren(...facts.map(([term, text]) => makeFact(term, text)));
}

function showEngine(engine) {
  byId("rehearsal").hidden = !engine.split("+").includes("rehearsal");
}

function showPlan(plan) {
  byId("plan").hidden = !plan;
  if (!plan) return;
  fill(byId("plan-title"), `Plan: ${plan.technique ?? "no technique named"}`);
  fill(byId("plan-text"), plan.text);
}

/** Returns what is known of a turn, from its trace or else from the facts beside the result. */
function describeTurn(exchange) {
  const traced = state.trace.get(exchange);
  const known = state.facts?.turns?.find((turn) => turn.index === exchange);
  const counted = traced ? Object.keys(traced.candidates).length : known?.candidates;
  const count = counted ?? (state.facts ? 0 : null);
  return {
    exchange,
    count,
    techniques: traced?.techniques ?? known?.techniques ?? [],
    flags: traced?.flags ?? known?.flags ?? [],
    candidates: traced?.candidates ?? null,
    hasCandidates: count !== 0 && Boolean(traced || state.canCall),
  };
}

function showAuditOf(session) {
  const details = byId("audit");
  details.hidden = session.exchanges === 0 || !(state.audit || state.canCall);
  if (state.audit) showAudit(byId("audit-body"), state.audit, transcript.goTo);
  else if (!details.open) byId("audit-body").replaceChildren();
}

function showUsage(usage) {
  const number = (value) => value.toLocaleString(state.context.locale);
  const cost = usage.cost_usd === null ? "" : `, ${usage.cost_usd.toFixed(4)} USD`;
  const tokens = `${number(usage.prompt_tokens)} prompt and ${number(usage.completion_tokens)} completion tokens`;
  fill(byId("usage"), usage.calls ? `${number(usage.calls)} model calls, ${tokens}${cost}` : null);
}

/** Shows one counselor turn that was just written. */
function showTurn(turn) {
  forget();
  state.sessionId = turn.session_id;
  byId("title").textContent = "Counselor turn";
  showFacts([...(turn.session_id ? [["Session", turn.session_id]] : []), ["Engine", turn.engine]]);
  showEngine(turn.engine);
  say(turn.is_added ? "Written and added to the session." : "Written, not added to a session.");
  byId("whole").hidden = !(turn.session_id && state.canCall);
  const count = Object.keys(turn.candidates).length;
  transcript.showAlone({ role: "counselor", text: turn.text }, { ...turn, exchange: 0, count, hasCandidates: count > 0 });
}

/** Shows what the host's own model was asked to write. */
function showBrief(result) {
  fill(byId("plain"), textOf(result));
  say("No model is configured, so the host's own model writes this. It was told:");
}

/** Shows a result that is neither a session nor a turn as the text it is. */
function showPlain(result) {
  fill(byId("plain"), textOf(result) || "The result is empty.");
  say("The host handed on no structure; this is the text of the result.");
}

function showTrouble(reason, retry) {
  byId("reason").textContent = reason;
  byId("again").hidden = !(retry && state.canCall);
  state.retry = retry;
  byId("trouble").hidden = false;
}

function clearTrouble() {
  byId("trouble").hidden = true;
}
