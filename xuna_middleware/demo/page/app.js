// The page: one of two views, for whoever talks (/) or for an operator (/operator).

import { oversee } from "./operator.js";
import { talk } from "./talker.js";
import { follow } from "./timeline.js";
import { greet } from "./who.js";

const config = await (await fetch("/demo/config")).json();
const name = location.pathname === "/operator" ? "operator" : "talker";
for (const piece of document.querySelectorAll("[data-view]")) piece.hidden = piece.dataset.view !== name;

if (name === "operator") document.title = `Operator · ${document.title}`;

const view = name === "operator" ? oversee(config) : talk(config);
follow(view.heard);
await greet(config, view.arrived);
view.listen();
