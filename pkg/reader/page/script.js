// The page of the demo reader: it shows what GET /status says and browses GET /s3/.
//
// Whoever can write the bucket chose its keys, so nothing that was answered is ever read
// as HTML: it becomes the text of nodes, or an escaped part of an address.

// The pause between two questions about the state, and the patience with one, in ms.
const pause = { green: 5000, red: 2000 }, patience = 4000;
const $ = (id) => document.getElementById(id);

function node(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// say touches a node only where its text differs: a screen reader hears changes alone,
// and a selection survives the polls.
function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

// fill says the values that a container has parts for, and hides the rows of the others.
// A time's part has a <time> beside it, which counts.
function fill(container, values) {
  for (const part of container.querySelectorAll("[data-part]")) {
    const text = [values[part.dataset.part] ?? ""].flat().join(", ");
    const time = part.parentElement.querySelector("time");
    if (time) time.dateTime = text;
    say(part, time && text ? `${utc(text)} UTC` : text);
    part.closest("div").hidden = !text;
  }
}

// problemOf reads an answer that is no success. It never throws: the reader's problems are
// JSON (RFC 9457), and what is not comes from something between.
async function problemOf(answer) {
  const problem = await answer?.json().catch(() => null);
  if (problem?.title) return problem;
  const detail = answer ? `HTTP ${answer.status}, and not from the reader` : "";
  return { title: "The reader does not answer", detail, fix: "Look whether its container runs, and whether the port-forward to it still stands." };
}

async function ask(address, options) {
  const answer = await fetch(address, { cache: "no-store", ...options }).catch(() => null);
  const body = answer?.ok && (await answer.json().catch(() => null));
  return body ? { body, answer } : { problem: await problemOf(answer?.ok ? null : answer) };
}

// ---- Time ----

// ahead is by how much the reader's clock is ahead of this one, in ms: "3 s ago" should
// be right also where the two differ.
let ahead = 0;

function span(milliseconds) {
  const s = Math.floor(Math.abs(milliseconds) / 1000);
  if (s >= 3600) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return s >= 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${s} s`;
}

function tick() {
  for (const time of document.querySelectorAll("time[data-relative]")) {
    const left = Date.parse(time.dateTime) - Date.now() - ahead;
    const until = time.dataset.relative === "until";
    time.dataset.over = String(until && left <= 0);
    const text = until ? (left > 0 ? `${span(left)} left` : `expired ${span(left)} ago`) : `${span(Math.min(left, 0))} ago`;
    say(time, time.dateTime ? text : "");
  }
}

const utc = (iso) => iso.slice(0, 19).replace("T", " ");
const isoOf = (seconds) => (seconds > 0 && seconds < 1e11 ? new Date(seconds * 1000).toISOString() : "");

// ---- The state of access ----

const checkedYet = (report) => !report.checkedAt.startsWith("0001"); // Go's zero time

// judge says what a report proves. Without one, before the first proof, and when the last
// proof is too old, nothing is known.
function judge(report, problem) {
  if (!report) return { ready: "unknown", headline: problem.title, wrong: problem, skipped: "not known" };
  const wrong = report.checks.find((check) => check.state === "Fail")?.diagnosis;
  if (wrong) return { ready: "false", headline: wrong.title, wrong, skipped: "not reached" };
  if (report.ready) return { ready: "true", headline: "Access is proven", skipped: "not reached" };
  if (!checkedYet(report)) return { ready: "unknown", headline: "Not checked yet", skipped: "not checked yet" };
  return { ready: "unknown", headline: "The last proof is too old to be believed", skipped: "not known" };
}

function showVerdict(verdict, report) {
  document.body.dataset.ready = verdict.ready;
  say($("headline"), verdict.headline);
  fill($("why"), verdict.wrong || {});
  fill($("answer"), verdict.wrong?.answer || {});
  $("summary").hidden = verdict.ready !== "true";
  if (report) say($("summary"), `The reader reads ${report.bucket} as ${report.role || "its role"}.`);
  document.body.classList.toggle("stale", verdict.skipped === "not known");
  if (report) $("checked-at").dateTime = checkedYet(report) ? report.checkedAt : "";
  say($("checked-word"), (report ? "" : "no answer, ") + ($("checked-at").dateTime ? "last checked" : "not checked yet"));
}

const stateWord = (state, verdict) => ({ OK: "OK", Fail: "Fails", Skipped: verdict.skipped })[state];

// A link is as bad as the worst of its checks.
function linkState(link, checks) {
  const states = checks.filter((check) => check.link === link).map((check) => check.state);
  return ["Fail", "Skipped", "OK"].find((state) => states.includes(state)) || "Skipped";
}

function showChain(verdict, report) {
  for (const link of document.querySelectorAll("[data-link]")) {
    link.dataset.state = verdict.skipped === "not known" ? "Skipped" : linkState(link.dataset.link, report.checks);
    say(link.querySelector(".state"), stateWord(link.dataset.state, verdict));
  }
}

function nameLinks({ claims, role = "", region = "", bucket, prefix }) {
  const name = (link, what, where) => {
    say(document.querySelector(`[data-link=${link}] .what`), what);
    if (where) say(document.querySelector(`[data-link=${link}] .where`), where);
  };
  name("token", claims?.sub.replace("system:serviceaccount:", "").replace(":", "/") ?? "");
  name("sts", region);
  name("role", role.slice(role.lastIndexOf("/") + 1), role && `account ${role.split(":")[4]}`);
  name("bucket", bucket, prefix && `prefix ${prefix}`);
}

function checkRow(check, verdict) {
  const wrong = check.diagnosis;
  const found = wrong ? [wrong.title, wrong.detail].filter(Boolean).join(": ") : check.detail;
  const state = node("p", { className: "state", textContent: stateWord(check.state, verdict) });
  const row = node("li", {}, node("p", { textContent: check.title }), state, node("p", { className: "found", textContent: found ?? "" }));
  Object.assign(row.dataset, { check: check.id, state: check.state });
  return row;
}

function showChecks(verdict, report) {
  const rows = node("ol", {}, ...report.checks.map((check) => checkRow(check, verdict)));
  if (!$("checks").isEqualNode(Object.assign(rows, { id: "checks" }))) $("checks").replaceWith(rows);
}

function show(report, problem) {
  const before = document.body.dataset.ready;
  const verdict = judge(report, problem);
  showVerdict(verdict, report);
  showChain(verdict, report);
  if (report) {
    const { claims = {}, identity = {}, bucket, region, prefix = "" } = report;
    nameLinks(report);
    showChecks(verdict, report);
    fill($("claims"), { ...claims, iat: isoOf(claims.iat), exp: isoOf(claims.exp) });
    fill($("identity"), identity);
    say($("bucket"), bucket);
    say($("place"), [region, prefix && `prefix ${prefix}`].filter(Boolean).join(", "));
    follow(prefix, verdict.ready === "true" && before !== "true");
  }
  document.title = `${{ true: "✓", false: "✕", unknown: "?" }[verdict.ready]} ${$("bucket").textContent}`;
  tick();
  return verdict.ready === "true" ? pause.green : pause.red;
}

async function poll() {
  const { body, answer, problem } = await ask("status", { signal: AbortSignal.timeout(patience) });
  const date = Date.parse(answer?.headers.get("Date"));
  if (date) ahead = date - Date.now();
  let next = pause.red;
  try {
    next = show(body, problem);
  } finally {
    setTimeout(poll, next); // whatever happens: a page that stands still would lie
  }
}

// ---- The objects ----

// tokens are those of the pages up to this one; the first page's is empty.
const browser = { root: null, prefix: "", tokens: [""], next: "", turn: 0, failed: false };

// follow learns the policy's prefix from a report. A listing that failed is asked for
// again as soon as access is there.
function follow(root, proven) {
  const known = browser.root === root;
  browser.root = root;
  if (!known) open();
  else if (proven && browser.failed) load();
}

// The folder stands behind the # of the address, so that folders are links and the
// browser's own Back works.
const folderAddress = (prefix) => `#at=${encodeURIComponent(prefix)}`;

function open() {
  browser.prefix = new URLSearchParams(location.hash.slice(1)).get("at") ?? browser.root;
  browser.tokens = [""];
  load();
}

async function load() {
  const turn = ++browser.turn;
  const query = new URLSearchParams({ prefix: browser.prefix, delimiter: "/", "max-keys": 100 });
  if (browser.tokens.at(-1)) query.set("continuation-token", browser.tokens.at(-1));
  $("browser").ariaBusy = "true";
  say($("count"), "Asking the bucket");
  const { body, problem } = await ask(`s3/?${query}`);
  if (turn !== browser.turn) return; // a later click has overtaken this one
  $("browser").ariaBusy = "false";
  browser.failed = Boolean(problem);
  fill($("problem"), problem || {});
  showListing(body || { prefix: browser.prefix, objects: [] });
}

function showListing({ prefix, objects, prefixes = [], nextContinuationToken = "" }) {
  const focused = $("browser").contains(document.activeElement);
  browser.next = nextContinuationToken;
  showCrumbs(prefix);
  $("objects").replaceChildren(...prefixes.map((folder) => folderRow(folder, prefix)), ...objects.map((object) => objectRow(object, prefix)));
  $("previous").disabled = browser.tokens.length < 2;
  $("next").disabled = !browser.next;
  const count = `Page ${browser.tokens.length}. Folders: ${prefixes.length}, objects: ${objects.length}${browser.next ? "; there are more" : ""}.`;
  say($("count"), browser.failed ? "" : count);
  // Whoever had the focus on what is gone now goes on from the heading.
  const { activeElement } = document;
  if (focused && (activeElement === document.body || activeElement.disabled)) $("objects-title").focus({ preventScroll: true });
}

// showCrumbs leads up to the policy's prefix and no further. That may end within a name:
// names are shown from their beginning all the same.
function showCrumbs(prefix) {
  let at = browser.root.slice(0, browser.root.lastIndexOf("/") + 1);
  const below = prefix !== browser.root && prefix.startsWith(at) ? prefix.slice(at.length) : "";
  const crumb = (text, prefix) => node("li", {}, node("a", { href: folderAddress(prefix) }, node("bdi", { textContent: text })));
  const crumbs = [crumb(`${$("bucket").textContent}/${browser.root}`, browser.root), ...(below.match(/[^/]*\/|[^/]+$/g) || []).map((part) => crumb(part, (at += part)))];
  crumbs.at(-1).firstChild.ariaCurrent = "page";
  $("crumbs").replaceChildren(...crumbs);
}

// Characters that are not seen but change what is: one name may look like another.
const unseen = /[\p{Cc}\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu;

// nameCell shows what of a key stands behind the last slash of the listing's prefix.
function nameCell(key, prefix, link) {
  const name = key.slice(prefix.lastIndexOf("/") + 1) || "(this folder)";
  const hidden = (key.match(unseen) || []).map((one) => `U+${one.codePointAt().toString(16).toUpperCase().padStart(4, "0")}`);
  const cell = node("th", { scope: "row" }, node("a", { title: key.replace(unseen, "\ufffd"), ...link }, node("bdi", { textContent: name })));
  if (hidden.length) cell.append(" ", node("span", { className: "warning", textContent: `invisible: ${[...new Set(hidden)].join(", ")}` }));
  return cell;
}

const folderRow = (key, prefix) => node("tr", {}, nameCell(key, prefix, { className: "folder", href: folderAddress(key) }), node("td"), node("td"));

function objectRow({ key, size, lastModified }, prefix) {
  const name = nameCell(key, prefix, { className: "object", href: objectAddress(key), download: "", onclick: download });
  const time = node("time", { dateTime: lastModified }, utc(lastModified).slice(0, 10), node("span", { textContent: utc(lastModified).slice(10) }));
  return node("tr", {}, name, node("td", { textContent: human(size), title: `${size.toLocaleString("en")} bytes` }), node("td", {}, time));
}

// objectAddress escapes each segment of a key. A browser resolves . and .. in a path, even
// escaped ones, and would ask for another object; in a query it leaves them alone, and the
// reader refuses them there just as it does in a path.
function objectAddress(key) {
  const segments = key.split("/");
  if (segments.includes(".") || segments.includes("..")) return `s3/?prefix=${encodeURIComponent(key)}`;
  return `s3/${segments.map(encodeURIComponent).join("/")}`;
}

function human(bytes) {
  const power = Math.floor(Math.log2(Math.max(bytes, 1)) / 10);
  const value = bytes / 1024 ** power;
  return `${power && value < 100 ? value.toFixed(1) : Math.round(value)} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][power]}`;
}

// download asks for the first byte before: what fails then is shown here, with its fix,
// and not as the browser's failed download. An empty object has no first byte: 416.
async function download(event) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const address = event.currentTarget.href;
  const answer = await fetch(address, { headers: { Range: "bytes=0-0" }, cache: "no-store" }).catch(() => null);
  const fine = answer?.ok || answer?.status === 416;
  fill($("problem"), fine ? {} : await problemOf(answer));
  if (!fine) return $("problem").scrollIntoView({ block: "nearest" });
  answer.body?.cancel(); // of a server that knows no ranges
  node("a", { href: address, download: "" }).click();
}

// turnPage waits for the page before: a second click would turn twice by one token.
function turnPage(turn) {
  if ($("browser").ariaBusy === "true") return;
  turn();
  load();
}

addEventListener("hashchange", () => {
  if (browser.root !== null && /^(#at=|$)/.test(location.hash)) open(); // the skip link's # names no folder
});
$("reload").addEventListener("click", load);
$("next").addEventListener("click", () => turnPage(() => browser.tokens.push(browser.next)));
$("previous").addEventListener("click", () => turnPage(() => browser.tokens.pop()));
setInterval(tick, 1000);
poll();
