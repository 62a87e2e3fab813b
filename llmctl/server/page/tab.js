// The engine in this tab: llama.cpp as WebAssembly, by wllama. Everything that it needs comes from the page's own server.

import { eventsOf } from './here.js';
import { modelFiles } from './keep.js';

const UBATCH = 256;
const DEVICES = /(\w+) model buffer size\s*=\s*([\d.]+) MiB/; // llama.cpp says where it has put the weights

let engine = null; // {key, wllama, devices, threads}

/** What runs: "processor, 2 threads", "WebGPU"; null while nothing is loaded. */
export function backend() {
  if (!engine) return null;
  const onGpu = [...engine.devices].some((device) => /webgpu/i.test(device));
  return onGpu ? 'WebGPU' : `processor, ${engine.threads} ${engine.threads === 1 ? 'thread' : 'threads'}`;
}

/** Loads a model of models.json unless it is loaded. `settings`: threads, context, gpu, keep; `progress` is called with
 * words and a share. */
export async function load(model, settings, progress, signal) {
  const key = JSON.stringify([model.name, settings]); // with what is to be kept: then it is fetched once more
  if (engine?.key === key) return;
  await unload();
  const blobs = await modelFiles(model, settings.keep, (share) => progress('Fetching the model', share), signal);
  progress('Loading the model', null);
  const wasm = await fetch('wllama/wllama.wasm', { signal }).then((answer) => answer.blob());
  const address = URL.createObjectURL(wasm.slice(0, wasm.size, 'application/wasm'));
  try {
    engine = await started(key, address, blobs, settings);
  } finally {
    URL.revokeObjectURL(address);
  }
}

async function started(key, wasm, blobs, { threads, context, gpu }) {
  const { Wllama } = await import('./wllama/index.min.js');
  const devices = new Set();
  const wllama = new Wllama({ default: wasm }, { logger: listening(devices) });
  wllama.setCompat(null); // else it would ask a server of others for its second engine
  try {
    await wllama.loadModel(blobs, {
      n_ctx: context, n_threads: threads, n_gpu_layers: gpu ? 99999 : 0, n_parallel: 1, n_ubatch: UBATCH, n_batch: UBATCH, jinja: true,
    });
  } catch (error) {
    await wllama.exit();
    throw new Error(`the engine in this tab could not load the model: ${error.message}`, { cause: error });
  }
  return { key, wllama, devices, threads: wllama.getNumThreads() };
}

/** Hears on which devices the engine has put the weights. */
function listening(devices) {
  const hear = (...words) => {
    const said = DEVICES.exec(words.join(' '));
    if (said && Number(said[2]) > 0) devices.add(said[1]);
  };
  return { debug: hear, log: hear, warn: hear, error: hear };
}

export async function unload() {
  const before = engine;
  engine = null;
  await before?.wllama.exit();
}

/** Events as of here.answer. */
export async function* answer(request, signal) {
  yield { place: null };
  try {
    const chunks = await engine.wllama.createChatCompletion({ ...request, stream: true, abortSignal: signal });
    for await (const chunk of chunks) yield* eventsOf(withUsage(chunk));
  } catch (error) {
    if (error.name === 'RuntimeError') await unload(); // it has crashed, and answers nothing any more
    throw error;
  }
}

function withUsage(chunk) {
  const { timings } = chunk;
  return timings ? { ...chunk, usage: { completion_tokens: timings.predicted_n, prompt_tokens: timings.prompt_n } } : chunk;
}
