// A conversation, as llmctl chat writes and reads it as well: a system prompt, and turns of a prompt and its answer.

const FORMAT = 'llmctl-conversation/1';
const LIMIT_BYTES = 64 << 20;
const PICTURES = new Set(['image/png', 'image/jpeg', 'image/webp', 'image/gif']);

export class Conversation {
  system = '';
  turns = []; // {prompt, answer, whole, endpoint, images: [{data, media_type}]}, data in base64

  add(prompt, images) {
    const turn = { prompt, answer: '', whole: false, endpoint: null, images };
    this.turns.push(turn);
    return turn;
  }

  /** What is sent for the last turn, as chat completions take it. */
  get messages() {
    const made = this.system.trim() ? [{ role: 'system', content: this.system }] : [];
    this.turns.forEach((turn, at) => {
      made.push({ role: 'user', content: contentOf(turn) });
      if (at < this.turns.length - 1) made.push({ role: 'assistant', content: turn.answer });
    });
    return made;
  }

  get file() {
    const turns = this.turns.map(({ prompt, answer, whole, endpoint, images }) => ({ prompt, answer, whole, endpoint, images }));
    return JSON.stringify({ format: FORMAT, system: this.system || null, turns, dropped: 0, summary: null, begun: {} }, null, 1);
  }

  /** The conversation that a file holds. Throws where it holds none. */
  static of(text) {
    const document = text.length > LIMIT_BYTES ? {} : JSON.parse(text);
    if (document?.format !== FORMAT || !Array.isArray(document.turns)) throw new Error('this is no conversation of llmctl');
    const made = new Conversation();
    made.system = String(document.system ?? '');
    made.turns = document.turns.map((turn) => ({
      prompt: String(turn.prompt ?? ''),
      answer: String(turn.answer ?? ''),
      whole: turn.whole !== false,
      endpoint: turn.endpoint == null ? null : String(turn.endpoint),
      images: (Array.isArray(turn.images) ? turn.images : []).filter(isPicture),
    }));
    return made;
  }
}

export function pictureAddress({ data, media_type: kind }) {
  return `data:${kind};base64,${data}`;
}

function contentOf(turn) {
  if (!turn.images.length) return turn.prompt;
  const pictures = turn.images.map((image) => ({ type: 'image_url', image_url: { url: pictureAddress(image) } }));
  return [...pictures, { type: 'text', text: turn.prompt }];
}

function isPicture(image) {
  return PICTURES.has(image?.media_type) && /^[\w+/=-]*$/.test(image.data);
}

/** A file that a person attaches: {name, text}, or {name, image}. Throws for one that is neither. */
export async function attachment(file) {
  if (file.size > LIMIT_BYTES / 4) throw new Error(`${file.name} has ${file.size.toLocaleString()} bytes, 16 MB are the most`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (PICTURES.has(file.type)) return { name: file.name, image: { data: base64(bytes), media_type: file.type } };
  try {
    return { name: file.name, text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch {
    throw new Error(`${file.name} is neither text nor a picture (PNG, JPEG, WebP, GIF)`);
  }
}

/** A prompt with the text files that go with it in front. */
export function withTexts(prompt, attached) {
  const texts = attached.filter((file) => file.text !== undefined);
  return [...texts.map((file) => `${file.name}:\n\n${file.text.trimEnd()}\n`), prompt].join('\n');
}

function base64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
}
