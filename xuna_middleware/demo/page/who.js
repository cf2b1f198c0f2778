// Who sits in front of this window: the card with which both views begin.

import { ask } from "./gate.js";
import { comeBack, leave } from "./login.js";
import { $, copy, enable } from "./pieces.js";

// Let people sign in. `arrived(token)` is called with the access token of who is back from there.
export async function greet(config, arrived) {
  showPeople(config);
  try {
    const token = await comeBack(config);
    if (token) await showWho(config, token);
    if (token) await arrived(token);
  } catch (error) {
    $("problem").textContent = `Not signed in. ${error.message}`;
    $("problem").hidden = false;
  }
  for (const id of ["sign-in", "sign-in-again"]) enable(id, () => leave(config));
}

function showPeople({ people }) {
  for (const { name, about } of people) {
    const row = copy("person-row");
    row.querySelector("b").textContent = name;
    row.querySelector("span").textContent = about;
    $("people").append(row);
  }
}

async function showWho({ talk_scope: scope }, token) {
  const me = await ask("/api/me", token);
  if (!me.ok) throw new Error(me.answer.detail);
  const { name, plan, may_talk: mayTalk, may_oversee: mayOversee } = me.answer;
  $("name").textContent = name;
  $("face").textContent = name[0];
  $("standing").textContent = `Plan: ${plan}. ${mayTalk ? "Has" : "Lacks"} the scope ${scope}.${mayOversee ? " An operator." : ""}`;
  $("signed-out").hidden = true;
  $("signed-in").hidden = false;
}
