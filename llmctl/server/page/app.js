// The page: what a person chooses and types, and who answers.

import { ask, findKey, problem, setKey } from './access.js';
import { Attached } from './attached.js';
import { Conversation } from './conversation.js';
import { browser, fit, fitWords, limitWords, opennessWords, size, speedWords, usualThreads } from './fit.js';
import * as here from './here.js';
import { keepConversation, keepPage, keptChoices, keptConversation, setKept } from './keep.js';
import { element } from './markdown.js';
import { watch } from './proof.js';
import { Timing } from './timing.js';
import { TurnView } from './view.js';

const FRAME_MS = 80; // an answer is drawn so often while it comes
const CONTROL_MS = 3000;
const NEAR_END = 120; // pixels: who reads further up is left there
const RELOADED = 'llmctl reloaded';
const IS_HERE = ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname);
const MACHINE = IS_HERE ? 'this machine' : location.hostname;
const $ = (id) => document.getElementById(id);

let site = null; // page.json
let able = null; // what the browser can do
const models = { here: [], tab: [] };
let conversation = new Conversation();
const views = new Map();
const attached = new Attached($('attached'), (why) => { $('problem').textContent = why; });
let editing = null; // the turn whose prompt is being changed
let running = null; // what stops the answer that is being made

// Who may ask

async function begin() {
  watch(showProof);
  site = await (await fetch('page.json')).json();
  able = await browser();
  if (site.access !== 'none' && site.api && !await findKey()) return askForToken('This page needs an access token.');
  return enter();
}

function askForToken(why) {
  $('access-why').textContent = site.access === 'link' ? `${why} llmctl web prints a link that has one.` : why;
  $('access').hidden = false;
  $('chat').hidden = true;
  $('token').focus();
}

$('access').addEventListener('submit', (event) => {
  event.preventDefault();
  setKey($('token').value.trim());
  $('token').value = '';
  enter();
});

async function enter() {
  const refused = await readModels();
  if (refused) {
    $('access-error').textContent = refused;
    return askForToken('The token opens nothing here.');
  }
  $('access').hidden = true;
  $('chat').hidden = false;
  prepare();
  return settle();
}

/** Why the gateway lets nobody in, or null; that it doesn't answer is no reason: the tab may. */
async function readModels() {
  if (site.api) {
    const answer = await ask('../v1/models').catch(() => null);
    if (answer?.status === 401) return problem(answer);
    models.here = answer?.ok ? (await answer.json()).data.filter((model) => model.writes !== false) : [];
  }
  const listed = await ask('models.json').catch(() => null);
  models.tab = listed?.ok ? (await listed.json()).models : [];
  return null;
}

// What is chosen

function prepare() {
  $('here-name').textContent = MACHINE;
  $('threads').value = usualThreads(able);
  $('gpu').disabled = !able.gpu;
  $('gpu').checked = false;
  $('keep-chat').checked = keptChoices().chat;
  $('keep-model').checked = keptChoices().model;
  for (const radio of document.getElementsByName('engine')) radio.disabled = models[radio.value].length === 0;
  choose(models.here.length ? 'here' : 'tab');
  const kept = keptConversation();
  if (kept && keptChoices().chat) open(kept);
  $('prompt').focus();
}

function choose(engine) {
  for (const radio of document.getElementsByName('engine')) radio.checked = radio.value === engine;
  $('model').replaceChildren(...models[engine].map((model) => element('option', { value: model.name ?? model.id }, model.name ?? model.id)));
  $('tab-settings').hidden = engine !== 'tab';
  showModel();
}

function chosen() {
  const engine = document.querySelector('[name=engine]:checked')?.value ?? 'here';
  return { engine, model: models[engine][$('model').selectedIndex] };
}

function showModel() {
  const { engine, model } = chosen();
  $('place').textContent = placeOf(engine);
  $('send').disabled = !model || (engine === 'tab' && Boolean(judged(model).why));
  if (!model) {
    $('about-model').textContent = site.api ? `${MACHINE} does not answer, and no model is kept here.` : 'No model is here.';
    return;
  }
  const expected = engine === 'tab' ? fitWords(model, judged(model), IS_HERE) : speedWords(model.decode_tok_s);
  $('about-model').textContent = [size(model.size_bytes), expected, opennessWords(model)].filter(Boolean).join(' · ');
  if (engine === 'tab') $('tab-limits').textContent = limitWords(model, able);
  if (engine === 'tab' && $('context').dataset.model !== model.name) {
    $('context').value = model.context;
    $('context').dataset.model = model.name;
  }
}

function placeOf(engine) {
  return engine === 'tab' ? 'this tab' : MACHINE;
}

function judged(model) {
  return fit(model, able, Number($('threads').value));
}

for (const radio of document.getElementsByName('engine')) radio.addEventListener('change', () => choose(radio.value));
$('model').addEventListener('change', showModel);
$('threads').addEventListener('change', showModel);

// Prompts and answers

$('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  send();
});
$('prompt').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  if (running) running.abort();
  else if (editing) stopEditing();
});
$('stop').addEventListener('click', () => running?.abort());

function send() {
  const text = $('prompt').value;
  if (running || $('send').disabled || (!text.trim() && !attached.files.length)) return;
  if (editing) cutFrom(conversation.turns.indexOf(editing));
  const turn = conversation.add(attached.promptWith(text), attached.images);
  stopEditing();
  showTurn(turn);
  toEnd();
  answer(turn);
}

function edit(turn) {
  if (running) return;
  editing = turn;
  attached.set(turn.images);
  $('prompt').value = turn.prompt;
  $('send').textContent = 'Send the changed prompt';
  $('prompt').focus();
}

function stopEditing() {
  editing = null;
  attached.set([]);
  $('prompt').value = '';
  $('send').textContent = 'Send';
}

function retry(turn) {
  if (running) return;
  cutFrom(conversation.turns.indexOf(turn) + 1);
  Object.assign(turn, { answer: '', whole: false, thoughts: '' });
  answer(turn);
}

function cutFrom(at) {
  for (const turn of conversation.turns.splice(at)) {
    views.get(turn).remove();
    views.delete(turn);
  }
}

function showTurn(turn) {
  const view = new TurnView(turn, { edit, retry });
  views.set(turn, view);
  $('log').append(view.prompt, view.answer);
}

async function answer(turn) {
  const { engine, model } = chosen();
  const view = views.get(turn);
  const timing = new Timing();
  setRunning(new AbortController());
  turn.facts = ''; // nothing is said of it until it has ended
  let drawn_ms = 0;
  try {
    const events = engine === 'tab' ? await fromTab(model, running.signal) : here.answer(request(model), running.signal);
    for await (const event of events) {
      take(turn, event, timing, engine);
      if (performance.now() - drawn_ms < FRAME_MS) continue;
      drawn_ms = performance.now();
      draw(view, timing);
    }
    turn.whole = true;
  } catch (error) {
    if (!running.signal.aborted) $('problem').textContent = wordsOf(error);
  }
  turn.facts = [turn.whole ? '' : 'stopped', timing.words, turn.place].filter(Boolean).join(' · ');
  draw(view, timing);
  setRunning(null);
  $('said').textContent = turn.whole ? 'The answer is complete.' : 'The answer was stopped.';
  if ($('keep-chat').checked) keepConversation(conversation.file);
}

function wordsOf(error) {
  return error instanceof TypeError && error.message.includes('fetch') ? `${MACHINE} does not answer` : error.message;
}

function draw(view, timing) {
  const isAtEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - NEAR_END;
  view.show();
  $('speed').textContent = timing.words || '–';
  if (isAtEnd) toEnd();
}

function toEnd() {
  scrollTo(0, document.documentElement.scrollHeight);
}

function take(turn, event, timing, engine) {
  if ('place' in event) {
    turn.endpoint = event.place;
    turn.place = event.place ?? placeOf(engine) + (engine === 'tab' && tab ? `, ${tab.backend()}` : '');
    $('place').textContent = turn.place;
  }
  if (event.text) turn.answer += event.text;
  if (event.thoughts) turn.thoughts = (turn.thoughts ?? '') + event.thoughts;
  if (event.text || event.thoughts) timing.piece();
  if (event.usage) timing.usage = event.usage;
}

function request(model) {
  conversation.system = $('system').value;
  const made = { model: model?.name ?? model?.id ?? 'auto', messages: conversation.messages };
  for (const name of ['temperature', 'top_p', 'max_tokens']) if ($(name).value) made[name] = Number($(name).value);
  return made;
}

let tab = null; // the engine's module, once it is wanted

async function fromTab(model, signal) {
  const asked = request(model);
  if (asked.messages.some(({ content }) => Array.isArray(content))) throw new Error('the engine in this tab reads no pictures');
  tab ??= await import('./tab.js');
  const settings = {
    threads: Number($('threads').value), context: Number($('context').value), gpu: $('gpu').checked, keep: $('keep-model').checked,
  };
  try {
    await tab.load(model, settings, showProgress, signal);
  } finally {
    $('loading').hidden = true;
  }
  return tab.answer(asked, signal);
}

function showProgress(what, share) {
  $('loading').hidden = false;
  $('loading-what').textContent = what;
  if (share === null) $('progress').removeAttribute('value');
  else $('progress').value = share;
}

function setRunning(controller) {
  running = controller;
  $('log').setAttribute('aria-busy', String(Boolean(running)));
  $('send').hidden = Boolean(running);
  $('stop').hidden = !running;
  if (!running) return;
  $('problem').textContent = '';
  $('said').textContent = 'Answering.';
}

// Files

$('attach').addEventListener('change', async () => {
  await attached.add($('attach').files);
  $('attach').value = '';
});

$('export').addEventListener('click', () => {
  conversation.system = $('system').value;
  const address = URL.createObjectURL(new Blob([conversation.file], { type: 'application/json' }));
  element('a', { href: address, download: 'conversation.json' }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
});

$('import').addEventListener('change', async () => {
  const [file] = $('import').files;
  $('import').value = '';
  if (file && !running) open(await file.text());
});

function open(text) {
  try {
    const read = Conversation.of(text);
    cutFrom(0);
    conversation = read;
    $('system').value = read.system;
    read.turns.forEach(showTurn);
    $('problem').textContent = '';
  } catch (error) {
    $('problem').textContent = `That file can't be read: ${error.message}`;
  }
}

$('clear').addEventListener('click', () => {
  running?.abort();
  cutFrom(0);
  stopEditing();
  if ($('keep-chat').checked) keepConversation(conversation.file);
  $('prompt').focus();
});

// What is kept

for (const id of ['keep-chat', 'keep-model']) $(id).addEventListener('change', changeKept);

async function changeKept() {
  const choices = { chat: $('keep-chat').checked, model: $('keep-model').checked };
  await setKept(choices, site.always_kept);
  if (choices.chat) keepConversation(conversation.file);
  if (choices.model) await controlled();
  $('kept').textContent = Object.values(choices).some(Boolean) ? 'Kept until it is switched off.' : 'Nothing is kept.';
}

/** Waits until the worker that keeps the page answers its requests, and has it keep the list of models. */
async function controlled() {
  if (!navigator.serviceWorker) return;
  if (!navigator.serviceWorker.controller) {
    await new Promise((resolve) => {
      navigator.serviceWorker.addEventListener('controllerchange', resolve, { once: true });
      setTimeout(resolve, CONTROL_MS);
    });
  }
  await ask('models.json').catch(() => null);
}

/** A folder of files is always kept, and loads once more where its server sends no headers for threads. */
async function settle() {
  if (!site.always_kept || !navigator.serviceWorker) return;
  await keepPage();
  await controlled();
  if (crossOriginIsolated || sessionStorage.getItem(RELOADED)) return;
  sessionStorage.setItem(RELOADED, 'once');
  location.reload();
}

function showProof({ all, elsewhere, refusals }) {
  $('requests').textContent = `${all}, to other hosts ${elsewhere}, refused ${refusals.length}`;
  $('refused').textContent = refusals.length;
  $('violations').replaceChildren(...refusals.map((text) => element('li', {}, text)));
}

begin().catch((error) => {
  $('problem').textContent = error.message;
  $('chat').hidden = false;
});
