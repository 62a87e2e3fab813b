// Answers of the gateway, by OpenAI's chat completions, as they are streamed.

import { ask, problem } from './access.js';

/** Events of an answer: {text}, {thoughts}, {usage}, {finish}; first {place}, the server's name where it isn't the
 * gateway itself that answers. Throws what goes wrong. */
export async function* answer(request, signal) {
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } });
  const response = await ask('../v1/chat/completions', { method: 'POST', headers, body, signal });
  if (!response.ok) throw new Error(await problem(response));
  const route = response.headers.get('x-llmctl-route');
  yield { place: route && route !== 'local' ? `${route} (${response.headers.get('x-llmctl-host') ?? 'a server'})` : null };
  for await (const data of events(response.body)) {
    if (data === '[DONE]') return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    yield* eventsOf(chunk);
  }
}

/** The events of one chunk of a chat completion, which both engines stream. */
export function* eventsOf(chunk) {
  const choice = chunk.choices?.[0];
  const delta = choice?.delta ?? {};
  if (delta.reasoning_content) yield { thoughts: delta.reasoning_content };
  if (delta.content) yield { text: delta.content };
  if (choice?.finish_reason) yield { finish: choice.finish_reason };
  if (chunk.usage) yield { usage: chunk.usage };
}

/** The data of server-sent events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split(/\r?\n/).filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trimStart());
        if (data.length) yield data.join('\n');
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
