// Keeps the page's own files, so that it loads without its server; and gives them the headers without which a browser
// has no threads, where the server has none. Models are kept by the page, answers by nobody.

const CACHE = 'llmctl page';
const FILES = ['./', 'style.css', 'icon.svg', 'app.js', 'access.js', 'attached.js', 'conversation.js', 'fit.js', 'here.js', 'keep.js', 'markdown.js',
  'proof.js', 'tab.js', 'timing.js', 'view.js', 'page.json', 'models.json', 'wllama/index.min.js', 'wllama/wllama.wasm'];
const HEADERS = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
  'cross-origin-resource-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
};
const scope = new URL(self.registration.scope).pathname;

self.addEventListener('install', (event) => event.waitUntil(kept()));
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) => {
  const address = new URL(event.request.url);
  const name = address.pathname.slice(scope.length) || './';
  if (event.request.method === 'GET' && address.origin === location.origin && FILES.includes(name)) {
    event.respondWith(answer(event.request, name));
  }
});

async function kept() {
  const cache = await caches.open(CACHE);
  await Promise.all(FILES.filter((name) => name !== 'models.json').map((name) => cache.add(name))); // that one may need a key
  await self.skipWaiting();
}

/** The server's file where it answers, else the one that was kept. */
async function answer(request, name) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(name, response.clone());
    return withHeaders(response);
  } catch (error) {
    const response = await cache.match(name);
    if (!response) throw error;
    return withHeaders(response);
  }
}

function withHeaders(response) {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
