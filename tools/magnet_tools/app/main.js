// What the view knows, and when it asks for more.

const FACTS_KEY = "magnet/view";
const FOLLOW_WAIT_S = 10;
const REST_MS = 1000;
const TALLEST_INLINE_PX = 760;

const state = {
  sessionId: null,
  session: null,
  facts: null,
  trace: new Map(),
  audit: null,
  audited: 0,
  hasAsked: false,
  context: {},
  canCall: false,
  isFollowing: false,
  isClosed: false,
  tracing: null,
  retry: null,
};

const transcript = makeTranscript(byId("transcript"), openTurn);

const host = connectHost({
  "ui/notifications/tool-input": ({ arguments: args }) => {
    state.sessionId ??= args?.session_id ?? null;
    if (!state.session) byId("status").textContent = "Waiting for the result…";
  },
  "ui/notifications/tool-result": (result) => take(result),
  "ui/notifications/tool-cancelled": ({ reason }) => {
    byId("status").textContent = `The call was stopped${reason ? `: ${reason}` : ""}.`;
  },
  "ui/notifications/host-context-changed": (changed) => adapt(changed),
  "ui/resource-teardown": () => {
    state.isClosed = true;
    return {};
  },
  ping: () => ({}),
});

// Taking in results

/** Shows a result that came with the view or that the view asked for. */
function take(result) {
  clearTrouble();
  const data = result.structuredContent;
  if (result.isError) showTrouble(textOf(result) || "The tool failed.", state.sessionId ? askAgain : null);
  else if (data && Array.isArray(data.dialogue) && typeof data.status === "string") takeSession(data, result._meta);
  else if (data && typeof data.text === "string" && data.candidates) showTurn(data);
  else if (data?.status === "brief") showBrief(result);
  else showPlain(result);
}

function takeSession(session, meta) {
  if (state.session && state.session.session_id !== session.session_id) forget();
  // Some results leave the dialogue out; what was shown of the same session stands.
  const dialogue = session.dialogue.length ? session.dialogue : (state.session?.dialogue ?? []);
  const isShorter = dialogue.length < (state.session?.dialogue?.length ?? 0);
  if (isShorter) forget();
  state.sessionId = session.session_id;
  state.session = { ...session, dialogue };
  state.facts = meta?.[FACTS_KEY] ?? null;
  for (const turn of session.turns) state.trace.set(turn.index, turn);
  if (session.audit) Object.assign(state, { audit: session.audit, audited: dialogue.length });
  showSession();
  goOn();
}

/** Asks for what the result left out, and follows a session that is being written. */
function goOn() {
  if (!state.canCall) return;
  if (isWritten()) follow();
  else if (!state.session.dialogue.length) askForDialogue();
  // Hosts may drop `_meta`, which has the techniques; then the trace has them.
  else if (!state.facts && state.session.exchanges > 0 && !state.trace.size) attempt(loadTrace);
  else if (byId("audit").open && isAuditOld() && !state.tracing) attempt(openAudit);
}

/** Asks once: a server that has no dialogue to give would be asked for ever. */
function askForDialogue() {
  if (state.hasAsked) return;
  state.hasAsked = true;
  attempt(() => refresh({}));
}

function forget() {
  state.trace.clear();
  Object.assign(state, { session: null, facts: null, audit: null, audited: 0 });
  transcript.clear();
}

const isRunning = () => state.session?.status === "running";
const isAuditOld = () => state.audited < state.session.dialogue.length;
const isWritten = () => isRunning() && state.facts?.is_written === true;

// Asking the server

async function refresh(args) {
  take(await host.callTool("get_session", { session_id: state.sessionId, ...args }));
}

/** Asks for the trace once, however many readers of it there are. */
function loadTrace() {
  state.tracing ??= refresh({ trace: true }).finally(() => {
    state.tracing = null;
  });
  return state.tracing;
}

async function openTurn(exchange) {
  if (!state.trace.has(exchange)) await loadTrace();
}

async function openAudit() {
  const body = byId("audit-body");
  if (!state.audit) body.replaceChildren(make("p", "quiet", "Loading…"));
  try {
    await loadTrace();
  } catch (error) {
    if (!state.audit) body.replaceChildren();
    throw error;
  }
}

/** Asks again and again, each time waiting at the server, until the session has ended or nobody looks. */
async function follow() {
  if (state.isFollowing) return;
  state.isFollowing = true;
  const goesOn = () => isWritten() && !document.hidden && !state.isClosed;
  try {
    while (goesOn()) {
      await refresh({ wait_seconds: state.session.dialogue.length ? FOLLOW_WAIT_S : 0 });
      if (goesOn()) await new Promise((resolve) => setTimeout(resolve, REST_MS));
    }
  } catch (error) {
    // Without this, hiding and showing the page would call a server that has just failed.
    state.facts = { ...state.facts, is_written: false };
    showTrouble(error.message, askAgain);
  } finally {
    state.isFollowing = false;
  }
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    showTrouble(error.message, () => {
      clearTrouble();
      return attempt(work);
    });
  }
}

function askAgain() {
  clearTrouble();
  return attempt(() => refresh({}));
}

// The host's looks

function adapt(changed) {
  Object.assign(state.context, changed);
  const { theme, styles, safeAreaInsets, availableDisplayModes, displayMode } = state.context;
  if (theme) document.documentElement.dataset.theme = theme;
  for (const [name, value] of Object.entries(styles?.variables ?? {})) {
    if (name.startsWith("--") && value) document.documentElement.style.setProperty(name, value);
  }
  for (const [side, width] of Object.entries(safeAreaInsets ?? {})) {
    document.documentElement.style.setProperty(`--inset-${side}`, `${Number(width) || 0}px`);
  }
  byId("expand").hidden = !availableDisplayModes?.includes("fullscreen");
  byId("expand").textContent = displayMode === "fullscreen" ? "Shrink" : "Expand";
  tellHeight();
}

let toldHeight = 0;

function tellHeight() {
  const tallest = state.context.containerDimensions?.maxHeight ?? TALLEST_INLINE_PX;
  const height = Math.min(Math.ceil(byId("view").getBoundingClientRect().height), tallest);
  if (height === toldHeight || state.context.displayMode === "fullscreen") return;
  toldHeight = height;
  host.notify("ui/notifications/size-changed", { height });
}

async function changeDisplayMode() {
  const mode = state.context.displayMode === "fullscreen" ? "inline" : "fullscreen";
  const granted = await host.request("ui/request-display-mode", { mode });
  adapt({ displayMode: granted.mode ?? state.context.displayMode });
}

// Starting

byId("refresh").addEventListener("click", () => attempt(() => refresh({})));
byId("whole").addEventListener("click", () => attempt(() => refresh({})));
byId("again").addEventListener("click", () => state.retry?.());
byId("expand").addEventListener("click", () => attempt(changeDisplayMode));
byId("audit").addEventListener("toggle", (event) => {
  if (event.target.open && isAuditOld() && state.canCall) attempt(openAudit);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && state.canCall && isWritten()) follow();
});

async function start() {
  if (window.parent === window) {
    say("This page shows sessions inside an MCP host with apps; by itself it has none.");
    return;
  }
  const opened = await host.open();
  state.canCall = Boolean(opened.hostCapabilities?.serverTools);
  adapt(opened.hostContext ?? {});
  new ResizeObserver(tellHeight).observe(byId("view"));
  // The result may have come before the answer that says what the host can do.
  if (state.session) takeSession(state.session, { [FACTS_KEY]: state.facts });
  else say("Waiting for the result…");
}

start().catch((error) => showTrouble(error.message, null));
