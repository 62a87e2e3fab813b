// What the page has requested, and what its policy has refused: as the browser counts it, not as the page's own code.

const counts = { all: 1, elsewhere: 0 }; // the page itself is the first
const refusals = [];

/** Calls `changed({all, elsewhere, refusals})` now and whenever one of them changes. */
export function watch(changed) {
  const tell = () => changed({ ...counts, refusals });
  document.addEventListener('securitypolicyviolation', (event) => {
    refusals.push(`${event.effectiveDirective}: ${event.blockedURI || 'inline'}`);
    tell();
  });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) count(entry);
    tell();
  }).observe({ type: 'resource', buffered: true });
  tell();
}

function count(entry) {
  const address = new URL(entry.name, location.href);
  if (!['http:', 'https:', 'ws:', 'wss:'].includes(address.protocol)) return; // blob: and data: are of this tab
  if (address.host !== location.host && entry.responseStatus === 0 && refused(address)) return; // it was never sent
  counts.all += 1;
  if (address.host !== location.host) counts.elsewhere += 1;
}

function refused(address) {
  return refusals.some((text) => text.includes(address.origin));
}
