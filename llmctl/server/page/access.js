// The key that requests to the gateway bring. It is kept for this tab alone, and handed to another tab of this page.

const KEY = 'llmctl key';
const other = 'BroadcastChannel' in self ? new BroadcastChannel('llmctl access') : null;
const WAIT_MS = 150;
let key = sessionStorage.getItem(KEY);

other?.addEventListener('message', ({ data }) => {
  if (data === 'who has a key?' && key) other.postMessage({ key });
});

export function setKey(given) {
  key = given;
  sessionStorage.setItem(KEY, given);
}

/** A key by the link in the address, of this tab, or of another one; whether there is one. */
export async function findKey() {
  const link = location.hash.slice(1);
  if (link) {
    history.replaceState(null, '', location.pathname + location.search); // it is good once, and nobody's to copy
    const answer = await fetch('session', { method: 'POST', body: link });
    if (answer.ok) setKey((await answer.json()).key);
  }
  return Boolean(key) || fromOtherTab();
}

function fromOtherTab() {
  if (!other) return false;
  return new Promise((resolve) => {
    const end = setTimeout(() => resolve(false), WAIT_MS);
    other.addEventListener('message', ({ data }) => {
      if (!data.key) return;
      clearTimeout(end);
      setKey(data.key);
      resolve(true);
    });
    other.postMessage('who has a key?');
  });
}

/** As fetch, with the key. */
export function ask(address, options = {}) {
  const headers = new Headers(options.headers);
  if (key) headers.set('authorization', `Bearer ${key}`);
  return fetch(address, { ...options, headers, cache: 'no-store', redirect: 'error' });
}

/** What an answer says is wrong. */
export async function problem(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `the gateway has answered ${answer.status}`;
  }
}
