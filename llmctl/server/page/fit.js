// Whether a model fits this tab, and how fast it would answer, from what was planned for it and what the browser says.

const GB = 1e9;

/** What this browser can do, as far as it tells. */
export async function browser() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return {
    isolated: crossOriginIsolated,
    cores: navigator.hardwareConcurrency || 1,
    memory_bytes: navigator.deviceMemory ? navigator.deviceMemory * 2 ** 30 : null, // at most 8 GiB is told
    memory64: hasMemory64(),
    suspending: 'Suspending' in WebAssembly,
    gpu: adapter && !adapter.info?.isFallbackAdapter ? { buffer_bytes: adapter.limits.maxBufferSize } : null,
  };
}

function hasMemory64() {
  try {
    return Boolean(new WebAssembly.Memory({ address: 'i64', initial: 1n }));
  } catch {
    return false;
  }
}

/** Threads that the engine in the tab gets unless somebody says otherwise: those of few cores all, else half, since
 * browsers count threads of a core as cores. */
export function usualThreads({ isolated, cores }) {
  return isolated ? Math.max(1, cores > 4 ? Math.floor(cores / 2) : cores) : 1;
}

/** `model` is one of models.json. {why} where it can't run here, else {tok_s, notes}. */
export function fit(model, here, threads) {
  const why = obstacle(model, here);
  if (why) return { why };
  const notes = [];
  if (!here.isolated) notes.push('one thread: the page came without the headers for more');
  if (here.memory_bytes && model.memory_bytes > here.memory_bytes / 2) notes.push('more than half of what this device has');
  return { tok_s: speed(model, threads), notes };
}

function obstacle(model, here) {
  if (model.why_not) return model.why_not;
  if (!here.memory64) return 'this browser has no 64-bit memory for WebAssembly';
  if (model.memory_bytes > model.limit_bytes) {
    return `it takes ${size(model.memory_bytes)}, a tab has ${size(model.limit_bytes)} at most`;
  }
  if (here.memory_bytes && here.memory_bytes < 8 * 2 ** 30 && model.memory_bytes > here.memory_bytes) {
    return `it takes ${size(model.memory_bytes)}, this device has ${size(here.memory_bytes)}`;
  }
  return null;
}

/** Tokens per second: those that were planned for a tab on the machine that serves the page, by their threads. */
function speed({ tok_s: tokS, threads: planned }, threads) {
  return tokS ? tokS * Math.min(threads, planned) / planned : null;
}

export function speedWords(tokS) {
  return tokS ? `about ${rate(tokS)} tok/s expected` : '';
}

/** `isHere`: this is the machine for which the speed was planned. */
export function fitWords(model, { why, tok_s: tokS, notes }, isHere) {
  if (why) return `does not fit this tab: ${why}`;
  const speed = isHere ? speedWords(tokS) : '';
  return [`fits this tab, taking ${size(model.memory_bytes)}`, speed, ...notes].filter(Boolean).join(', ');
}

export function limitWords(model, { isolated, cores, gpu }) {
  const threads = isolated ? `${cores} threads` : 'one thread';
  const graphics = gpu ? `WebGPU with buffers of ${size(gpu.buffer_bytes)}` : 'no WebGPU';
  return `This browser offers ${threads}, ${size(model.limit_bytes)} of memory to a tab, and ${graphics}.`;
}

export function opennessWords({ openness, licence }) {
  const graded = { weights: 'open weights', data: 'open weights and data', full: 'fully open' }[openness];
  return [graded ?? 'openness not graded', licence].filter(Boolean).join(', ');
}

export function size(bytes) {
  if (bytes >= GB) return `${(bytes / GB).toFixed(1)} GB`;
  return `${Math.max(1, Math.round(bytes / 1e6))} MB`;
}

export function rate(tokS) {
  return tokS < 10 ? tokS.toFixed(1) : String(Math.round(tokS));
}
