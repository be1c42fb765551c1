// The host's side of the wire: JSON-RPC 2.0 over postMessage, as MCP Apps 2026-01-26 has it.

const PROTOCOL_VERSION = "2026-01-26";
const ANSWER_WITHIN_MS = 60_000;
const METHOD_NOT_FOUND = -32601;

/**
 * Returns the connection to the page that embeds this one. `handlers` maps a method of the host to what answers it;
 * requests are answered with what their handler returns.
 */
function connectHost(handlers) {
  const waiting = new Map();
  let lastId = 0;

  function send(message) {
    // A sandboxed view cannot know the host's origin. What it sends is session ids and heights, no text of a session.
    window.parent.postMessage({ jsonrpc: "2.0", ...message }, "*");
  }

  function request(method, params) {
    const id = ++lastId;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        waiting.delete(id);
        reject(new Error(`The host did not answer within ${ANSWER_WITHIN_MS / 1000} seconds.`));
      }, ANSWER_WITHIN_MS);
      waiting.set(id, { resolve, reject, timer });
      send({ id, method, params });
    });
  }

  function settle(message) {
    const call = waiting.get(message.id);
    if (!call) return;
    waiting.delete(message.id);
    clearTimeout(call.timer);
    if (message.error) call.reject(new Error(message.error.message || "The host refused."));
    else call.resolve(message.result ?? {});
  }

  function answer(message) {
    const handler = Object.hasOwn(handlers, message.method) ? handlers[message.method] : null;
    if (message.id === undefined) {
      handler?.(message.params ?? {});
    } else if (handler) {
      send({ id: message.id, result: handler(message.params ?? {}) ?? {} });
    } else {
      send({ id: message.id, error: { code: METHOD_NOT_FOUND, message: `no method ${message.method}` } });
    }
  }

  window.addEventListener("message", (event) => {
    const message = event.data;
    if (event.source !== window.parent || message?.jsonrpc !== "2.0") return;
    if (typeof message.method === "string") answer(message);
    else settle(message);
  });

  return {
    notify: (method, params = {}) => send({ method, params }),
    request,
    /** Introduces the view; the host sends the tool's arguments and result only after this. */
    async open() {
      const opened = await request("ui/initialize", {
        protocolVersion: PROTOCOL_VERSION,
        appInfo: { name: "magnet-session-viewer", version: document.documentElement.dataset.version },
        appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
      });
      send({ method: "ui/notifications/initialized", params: {} });
      return opened;
    },
    /** Calls a tool of our server through the host and returns its result; a tool's failure is thrown with its text. */
    async callTool(name, args) {
      const result = await request("tools/call", { name, arguments: args });
      if (result.isError) throw new Error(textOf(result) || `${name} failed.`);
      return result;
    },
  };
}

/** Returns what a result says to a person. */
function textOf(result) {
  const blocks = Array.isArray(result.content) ? result.content : [];
  return blocks.filter((block) => block?.type === "text").map((block) => String(block.text)).join("\n");
}
