// A conversation in text, with the platform or through the gate: the frames, and nothing of the page.

import { ending } from "./endings.js";

// `pass` is the answer of /get-signed-url, wherever its signed URL leads. `on` has ready(),
// said(text), failed(text) and ended(text, code, reason).
export class Conversation {
  #socket;
  #on;
  #farewell = "";

  constructor(pass, on) {
    this.#on = on;
    this.#socket = new WebSocket(pass.signed_url, "convai");
    this.#socket.onopen = () => this.#send(introduction(pass.session ?? {}));
    this.#socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    this.#socket.onclose = ({ code, reason }) => on.ended(this.#farewell || ending(code, reason), code, reason);
  }

  say(text) {
    this.#send({ type: "user_message", text });
  }

  end() {
    this.#farewell = "You ended the conversation.";
    this.#socket.close(1000);
  }

  #send(frame) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #take(frame) {
    switch (frame.type) {
      case "conversation_initiation_metadata":
        return this.#on.ready();
      case "agent_response":
        return this.#on.said(frame.agent_response_event.agent_response);
      case "ping":
        return this.#answer(frame.ping_event);
      case "error":
        return this.#on.failed(frame.error_event.message);
    } // audio and the rest: this page only reads and writes
  }

  #answer({ event_id }) {
    this.#send({ type: "pong", event_id });
  }
}

// The first frame. The gate answers in startSession's spelling, the wire has the platform's own.
function introduction({ dynamicVariables, overrides }) {
  const frame = { type: "conversation_initiation_client_data" };
  if (dynamicVariables) frame.dynamic_variables = dynamicVariables;
  if (overrides) frame.conversation_config_override = underscored(overrides);
  return frame;
}

function underscored(tree) {
  if (!tree || typeof tree !== "object") return tree;
  return Object.fromEntries(Object.entries(tree).map(([name, value]) =>
    [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), underscored(value)]));
}
