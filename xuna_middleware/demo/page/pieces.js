// Small pieces of the page that its modules share.

export const $ = (id) => document.getElementById(id);

export function enable(id, click) {
  $(id).disabled = false;
  $(id).onclick = click;
}

export function copy(template) {
  return $(template).content.firstElementChild.cloneNode(true);
}

// Rows of a <dl>; a detail that there isn't gets none.
export function fill(list, pairs) {
  for (const [name, value] of Object.entries(pairs)) {
    if (!value) continue;
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    text.dataset.of = name;
    list.append(term, text);
  }
}

// The time of day of a moment in seconds since the epoch.
export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
}

// Minutes and seconds until then; 0:00 where that is past.
export function until(seconds) {
  const left = Math.max(0, Math.round(seconds - Date.now() / 1000));
  return `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
}
