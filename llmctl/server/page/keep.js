// What the browser keeps, which is nothing unless somebody has switched it on: a conversation, models, the page itself.

import { ask, problem } from './access.js';

const CHAT = 'llmctl conversation';
const CHOICES = 'llmctl kept';
const MODELS = 'models';
const PIECE_BYTES = 32 << 20;

export function keptChoices() {
  return JSON.parse(localStorage.getItem(CHOICES) ?? '{"chat": false, "model": false}');
}

/** Switches keeping on or off; what was kept of it goes when it is switched off. */
export async function setKept(choices, always) {
  if (choices.chat || choices.model) localStorage.setItem(CHOICES, JSON.stringify(choices));
  else localStorage.removeItem(CHOICES);
  if (!choices.chat) localStorage.removeItem(CHAT);
  if (choices.model || always) return keepPage();
  return forgetPage();
}

export function keepConversation(text) {
  try {
    localStorage.setItem(CHAT, text);
  } catch {
    localStorage.removeItem(CHAT); // it is too long for what browsers keep
  }
}

export function keptConversation() {
  return localStorage.getItem(CHAT);
}

export async function keepPage() {
  await navigator.serviceWorker?.register('offline.js');
  await navigator.serviceWorker?.ready;
}

async function forgetPage() {
  for (const worker of await navigator.serviceWorker?.getRegistrations() ?? []) await worker.unregister();
  for (const name of await self.caches?.keys() ?? []) await caches.delete(name);
  const folder = await modelsFolder();
  if (folder) await folder.remove({ recursive: true });
}

async function modelsFolder(options) {
  try {
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle(MODELS, options);
  } catch {
    return null;
  }
}

/** The files of a model as blobs: those that are kept, else fetched by parts of 32 MB. `progress` hears which share. */
export async function modelFiles(model, keep, progress, signal) {
  const all = model.parts.reduce((sum, part) => sum + part.bytes, 0);
  const blobs = [];
  let before = 0;
  for (const [at, part] of model.parts.entries()) {
    const name = `${model.sha256 ?? encodeURIComponent(model.name)}-${at}.gguf`;
    const kept = await keptFile(name, part.bytes);
    const start = before;
    blobs.push(kept ?? await fetched(part, keep ? name : null, (bytes) => progress((start + bytes) / all), signal));
    before += part.bytes;
  }
  return blobs.map((blob, at) => new File([blob], `model-${number(at + 1)}-of-${number(blobs.length)}.gguf`));
}

function number(value) {
  return String(value).padStart(5, '0');
}

async function keptFile(name, bytes) {
  const folder = await modelsFolder();
  try {
    const file = await (await folder.getFileHandle(name)).getFile();
    return file.size === bytes ? file : null; // a shorter one was not fetched to its end
  } catch {
    return null;
  }
}

async function fetched({ path, bytes }, name, progress, signal) {
  const folder = name && await modelsFolder({ create: true });
  const handle = folder && await folder.getFileHandle(name, { create: true });
  const file = await handle?.createWritable();
  const pieces = [];
  for (let at = 0; at < bytes; at += PIECE_BYTES) {
    const piece = await fetchedPiece(path, at, Math.min(at + PIECE_BYTES, bytes), signal);
    await (file ? file.write(piece) : pieces.push(piece));
    progress(at + piece.size);
  }
  await file?.close();
  return handle ? handle.getFile() : new Blob(pieces);
}

async function fetchedPiece(path, begin, end, signal) {
  const answer = await ask(path, { headers: { range: `bytes=${begin}-${end - 1}` }, signal });
  if (!answer.ok) throw new Error(await problem(answer));
  const piece = await answer.blob();
  const wanted = answer.status === 206 ? piece : piece.slice(begin, end); // servers without ranges send all of it
  if (wanted.size !== end - begin) throw new Error(`${path} is shorter than it should be`);
  return wanted;
}
