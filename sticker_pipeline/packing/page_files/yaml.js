"use strict";
// picks.yaml as text. Every value stands in double quotes, where YAML and JSON agree but for the letters escaped here.
const HIDDEN = /[\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202f\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufffe\uffff]/g;
const WORDS = new Set(["y", "n", "yes", "no", "on", "off", "true", "false", "null"]); // YAML 1.1 reads these as other values
const MOST_KEY = 1000; // letters of a key in one line: YAML allows 1,024

const quotedText = (text) =>
  JSON.stringify(text).replace(HIDDEN, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);

const keyText = (name) => (/^[a-z][a-z0-9_-]*$/.test(name) && !WORDS.has(name) ? name : quotedText(name));

const listText = (values) => `[${values.map(quotedText).join(", ")}]`;

function yamlText(picks) {
  const lines = [];
  for (const key of ["title", "author"]) if (picks[key]) lines.push(`${key}: ${quotedText(picks[key])}`);
  for (const key of ["accept", "emoji", "text", "keywords", "motion"]) {
    const entries = [...picks[key]];
    if (!entries.length) continue;
    lines.push(`${key}:`);
    for (const [slot, value] of entries) {
      const name = keyText(slot);
      const shown = Array.isArray(value) ? listText(value) : quotedText(value);
      lines.push(...(name.length < MOST_KEY ? [`  ${name}: ${shown}`] : [`  ? ${name}`, `  : ${shown}`]));
    }
  }
  for (const key of ["reject", "order"]) {
    if (!picks[key].length) continue;
    lines.push(`${key}:`, ...picks[key].map((value) => `  - ${quotedText(value)}`));
  }
  return lines.length ? `${lines.join("\n")}\n` : "# No decisions: the pipeline's own choice is taken.\n";
}
