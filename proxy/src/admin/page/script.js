'use strict';

// Everything shown is set as text, never as markup: names come from whoever registers an endpoint.
const TOKEN = 'serin-token';
const EVERY_MS = 2000;
// While events come, only figures are left to poll for.
const LISTENING_MS = 5000;
const AGAIN_MS = 10000;
const $ = (id) => document.getElementById(id);

function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props || {})) {
    if (key === 'class') node.className = value; else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const number = (n) => n.toLocaleString('en');
const percent = (n) => n + ' %';

function evidence(e) {
  if (e >= 1e6 || (e > 0 && e < 0.01)) return e.toExponential(1);
  return e >= 100 ? number(Math.round(e)) : String(Number(e.toPrecision(3)));
}

// Where E stands between "no evidence" (1) and the threshold, on a log scale.
function share(e, threshold) {
  if (!(e > 1) || !(threshold > 1)) return 0;
  return Math.min(1, Math.log(e) / Math.log(threshold));
}

function ago(iso) {
  const s = Math.max(0, Math.round((Date.now() - Date.parse(iso)) / 1000));
  if (s < 60) return s + ' s ago';
  if (s < 3600) return Math.floor(s / 60) + ' min ago';
  if (s < 86400) return Math.floor(s / 3600) + ' h ago';
  return Math.floor(s / 86400) + ' d ago';
}

function bar(fraction, label, over) {
  const fill = el('i');
  fill.style.width = (100 * fraction) + '%';
  const node = el('div', { class: 'bar' + (over ? ' over' : '') }, fill);
  node.setAttribute('role', 'img');
  node.setAttribute('aria-label', label);
  return node;
}

function table(columns, rows) {
  const cell = (tag) => (content, i) => el(tag, { class: columns[i].startsWith('#') ? 'n' : '' }, content);
  const head = el('tr', {}, ...columns.map((name) => name.replace('#', '')).map(cell('th')));
  const body = rows.map((row) => el('tr', {}, ...row.map(cell('td'))));
  return el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, head), el('tbody', {}, ...body)));
}

function dotted(kind, text) {
  return el('span', {}, el('i', { class: 'dot ' + kind }), text);
}

function weightPart(service) {
  const { asked, effective } = service.weight;
  const held = asked === effective ? null : el('small', {}, ' asked for ' + percent(asked));
  return el('section', {}, el('h3', {}, 'Canary weight'), el('div', { class: 'big' }, percent(effective), held),
    bar(effective / 100, 'effective weight ' + percent(effective), false));
}

// A pull ends the episode, and with it the running evidence: then the proof of the pull is what counts.
function shownEvidence(service) {
  return service.circuit.evidence || service.verdict;
}

function verdictPart(service) {
  const { decision, why } = service.circuit.evidence
    ? { decision: 'when the circuit opened', why: 'by ' + service.circuit.evidence.decided_by.join(', ') } : service.verdict;
  const proof = shownEvidence(service);
  const shown = 'E ' + evidence(proof.e) + ' of ' + evidence(proof.threshold);
  return el('section', {}, el('h3', {}, 'Evidence against the canary'),
    el('div', { class: 'big' }, evidence(proof.e), el('small', {}, ' of ' + evidence(proof.threshold) + ' · ' + decision)),
    bar(share(proof.e, proof.threshold), shown, proof.e >= proof.threshold),
    el('div', { class: 'soft' }, why === 'by ' ? '' : why));
}

function outlook(what, { canary_units, seconds }) {
  const time = seconds === null ? 'and no new ones come' : Math.max(1, Math.round(seconds / 60)) + ' min at today\u2019s traffic';
  return el('div', { class: 'soft' }, 'About ' + number(canary_units) + ' more canary users to a ' + what + ', ' + time + '.');
}

function passPart(service) {
  const { decision, pass, expected, sample_ratio, stable_failing } = service.verdict;
  const shown = 'E ' + evidence(pass.e) + ' of ' + evidence(pass.threshold);
  const ahead = decision !== 'hold' ? [] : ['pull', 'pass'].filter((what) => expected[what]).map((what) => outlook(what, expected[what]));
  const warn = (text) => el('div', { class: 'alarm' }, text);
  return el('section', {}, el('h3', {}, 'Evidence that it is good enough'),
    el('div', { class: 'big' }, evidence(pass.e), el('small', {}, ' of ' + evidence(pass.threshold) + ' · at ' + percent(pass.weight))),
    bar(share(pass.e, pass.threshold), shown, false), ...ahead,
    sample_ratio.off ? warn('The split itself is broken: nothing passes in this episode.') : null,
    stable_failing ? warn('Stable itself is failing: no step goes on.') : null);
}

function signalsPart(service) {
  const rows = Object.entries(shownEvidence(service).signals).filter(([, signal]) => signal).map(([name, signal]) => {
    const bad = signal.bad || { stable: signal.stable.bad, canary: signal.canary.bad };
    return [name, evidence(signal.e), evidence(signal.threshold), number(bad.stable), number(bad.canary)];
  });
  return rows.length === 0 ? null : el('section', { class: 'wide' }, el('h3', {}, 'Signals'),
    table(['signal', '#evidence', '#of', '#bad on stable', '#bad on canary'], rows));
}

function arms(service) {
  return service.has_canary ? ['stable', 'canary'] : ['stable'];
}

function armsPart(service) {
  const row = (arm) => {
    const units = shownEvidence(service)[arm], traffic = service.traffic[arm];
    return [dotted(arm, arm), number(units.units), number(units.bad), number(traffic.requests), number(traffic.bad)];
  };
  return el('section', { class: 'wide' }, el('h3', {}, 'Arms'),
    table(['arm', '#users', '#bad users', '#requests', '#bad requests'], arms(service).map(row)));
}

function poolPart(service, arm) {
  const pool = service.pools[arm];
  const rows = pool.endpoints.map((endpoint) => [
    dotted(endpoint.state, endpoint.id), endpoint.version || '–', endpoint.state, number(endpoint.in_flight), number(endpoint.requests),
  ]);
  const content = rows.length ? table(['endpoint', 'version', 'state', '#in flight', '#requests'], rows)
    : el('p', { class: 'soft' }, 'No endpoint.');
  return el('section', {}, el('h3', {}, arm + ' pool · ' + pool.ready + ' of ' + pool.endpoints.length + ' ready'), content);
}

function rolloutPart(service) {
  const { rollout } = service;
  if (!rollout) return null;
  const at = rollout.phase + ' · step ' + rollout.step + ' of ' + rollout.steps.length;
  return el('section', { class: 'wide' }, el('h3', {}, 'Rollout of ' + rollout.version),
    el('div', {}, at), el('div', { class: 'soft' }, rollout.why));
}

function card(service) {
  const { circuit } = service;
  const open = circuit.state === 'open';
  const head = el('div', { class: 'head' }, el('h2', {}, service.name),
    service.has_canary ? el('span', { class: 'badge' + (open ? ' open' : '') }, 'circuit ' + circuit.state) : null,
    service.has_canary && !open ? el('span', { class: 'badge' }, service.verdict.decision) : null,
    el('span', { class: 'soft' }, service.hosts.join(', ')));
  const why = open ? el('p', { class: 'why' },
    'Opened ' + ago(circuit.since) + ' by ' + circuit.by + ' (' + circuit.cause + '): ' + circuit.reason +
    '. The canary gets nothing until a person resets the circuit.') : null;
  const judged = service.has_canary ? [weightPart(service), verdictPart(service), passPart(service), rolloutPart(service), signalsPart(service), armsPart(service)] : [armsPart(service)];
  return el('article', { class: open ? 'open' : '' }, head, why,
    el('div', { class: 'parts' }, ...judged.filter(Boolean), ...arms(service).map((arm) => poolPart(service, arm))));
}

function showStore(store) {
  const wrong = [];
  if (!store.reachable) {
    const age = store.age_seconds === null ? 'never read' : 'read ' + Math.round(store.age_seconds) + ' s ago';
    wrong.push('The store is unreachable (' + age + '): the last good state is served. ' + (store.detail || ''));
  }
  for (const { key, problem } of store.poisoned) wrong.push(key + ' is passed over: ' + problem);
  $('store').hidden = wrong.length === 0;
  $('store').replaceChildren(...wrong.map((text) => el('div', {}, text)));
}

function show(all) {
  $('proxy').textContent = all.proxy;
  showStore(all.store);
  const cards = all.services.length ? all.services.map(card) : [el('p', { class: 'soft' }, 'No service is configured yet.')];
  $('services').replaceChildren(...cards);
}

function pulse(text, alarm) {
  $('pulse').textContent = text;
  $('pulse').className = alarm ? 'alarm' : '';
}

function ask(message) {
  $('ask').hidden = false;
  $('refused').textContent = message;
  $('services').replaceChildren();
  pulse('Waiting for a token', false);
}

function get(path) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { Authorization: 'Bearer ' + token } : {};
  return fetch(path, { headers, cache: 'no-store' });
}

async function look() {
  const token = sessionStorage.getItem(TOKEN);
  const response = await get('/v1/services');
  if (response.status === 401) {
    sessionStorage.removeItem(TOKEN);
    ask(token ? (await response.json()).detail : '');
    return false;
  }
  if (!response.ok) throw new Error((await response.json()).detail);
  show(await response.json());
  $('ask').hidden = true;
  pulse('Updated ' + new Date().toLocaleTimeString(), false);
  return true;
}

let listening = false;
let next = 0;

async function run() {
  clearTimeout(next);
  let again = true;
  try {
    again = await look();
  } catch (error) {
    pulse('No answer (' + error.message + '); what is shown may be old', true);
  }
  clearTimeout(next);
  if (again) next = setTimeout(run, listening ? LISTENING_MS : EVERY_MS);
  if (again && !heard) listen();
}

// An EventSource can't send a token, so the stream is read by hand: whatever happened, look at once.
let heard = null;
function listen() {
  heard = hear().catch(() => {}).finally(() => {
    listening = false;
    setTimeout(() => { heard = null; }, AGAIN_MS);
  });
}

async function hear() {
  const response = await get('/v1/events');
  if (!response.ok) return;
  listening = true;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    if (value.includes('data:')) run();
  }
}

$('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $('token').value.trim());
  $('token').value = '';
  run();
});

run();
