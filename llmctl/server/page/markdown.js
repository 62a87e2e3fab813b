// Markdown as elements. Text of a model's only ever becomes text nodes: no HTML of its own, no picture, no address but
// http, https and mailto, which a person has to follow.

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const INLINE = /(`+)([\s\S]+?)\1(?!`)|\*\*(?=\S)([\s\S]*?\S)\*\*|__(?=\S)([^_]+?)__|\*(?=\S)([^*]*?\S)\*|(?<!\w)_(?=\S)([^_]*?\S)_(?!\w)|~~(?=\S)([^~]+?)~~|!?\[([^\]]*)\]\(\s*([^)\s]*)[^)]*\)|(https?:\/\/[^\s<>()]+[^\s<>().,;:!?'"])/g;
const FOLLOWED = new Set(['http:', 'https:', 'mailto:']);
const DEEPEST = 20;

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The elements of `text`. */
export function rendered(text) {
  const made = document.createDocumentFragment();
  made.append(...blocks(text.replace(/\r\n?/g, '\n').split('\n'), 0));
  return made;
}

function blocks(lines, depth) {
  const made = [];
  for (let at = 0; at < lines.length;) {
    const [block, next] = depth < DEEPEST ? blockAt(lines, at, depth) : [element('p', {}, lines.slice(at).join('\n')), lines.length];
    if (block) made.push(...[block].flat());
    at = next;
  }
  return made;
}

/** The block that begins at a line, if one does, and the line behind it. */
function blockAt(lines, at, depth) {
  const line = lines[at];
  if (!line.trim()) return [null, at + 1];
  const fence = FENCE.exec(line);
  if (fence) return code(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) return [element(`h${Math.min(heading[1].length + 2, 6)}`, {}, ...inline(heading[2])), at + 1];
  if (RULE.test(line)) return [element('hr'), at + 1];
  if (QUOTE.test(line)) return quote(lines, at, depth);
  if (ITEM.test(line)) return list(lines, at, depth);
  if (line.includes('|') && TABLE_RULE.test(lines[at + 1] ?? '')) return table(lines, at);
  return paragraph(lines, at);
}

function code(lines, at, [, mark, language]) {
  let end = at + 1;
  while (end < lines.length && !(lines[end].trim().startsWith(mark) && !lines[end].trim().replaceAll(mark[0], ''))) end += 1;
  const block = element('pre', { tabindex: '0', 'aria-label': language ? `Code, ${language}` : 'Code' },
    element('code', {}, lines.slice(at + 1, end).join('\n')));
  return [[block, element('button', { type: 'button', class: 'copy-code' }, 'Copy code')], end + 1];
}

function quote(lines, at, depth) {
  const inner = [];
  for (; at < lines.length && QUOTE.test(lines[at]); at += 1) inner.push(QUOTE.exec(lines[at])[1]);
  return [element('blockquote', {}, ...blocks(inner, depth + 1)), at];
}

function list(lines, at, depth) {
  const [, indent, mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const made = element(ordered ? 'ol' : 'ul', ordered ? { start: parseInt(mark, 10) } : {});
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (!item || item[1].length !== indent.length || /\d/.test(item[2]) !== ordered) break;
    const inner = [item[3]];
    for (at += 1; at < lines.length && belongs(lines, at, indent.length); at += 1) inner.push(lines[at].slice(Math.min(indent.length + 2, lines[at].search(/\S|$/))));
    made.append(element('li', {}, ...tight(blocks(inner, depth + 1))));
    while (at < lines.length && !lines[at].trim() && ITEM.exec(lines[at + 1] ?? '')?.[1].length === indent.length) at += 1;
  }
  return [made, at];
}

function belongs(lines, at, indent) {
  const line = lines[at].trim() ? lines[at] : lines[at + 1] ?? '';
  return Boolean(line.trim()) && line.search(/\S/) > indent;
}

/** One paragraph alone is the item itself. */
function tight(made) {
  return made.length && made[0].localName === 'p' ? [...made[0].childNodes, ...made.slice(1)] : made;
}

function table(lines, at) {
  const head = element('tr', {}, ...cells(lines[at]).map((cell) => element('th', { scope: 'col' }, ...inline(cell))));
  const body = element('tbody');
  for (at += 2; at < lines.length && lines[at].includes('|'); at += 1) {
    body.append(element('tr', {}, ...cells(lines[at]).map((cell) => element('td', {}, ...inline(cell)))));
  }
  const whole = element('table', {}, element('thead', {}, head), body);
  return [element('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': 'Table' }, whole), at];
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, '').split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));
}

function paragraph(lines, at) {
  const begin = at;
  for (at += 1; at < lines.length && lines[at].trim(); at += 1) {
    if ([FENCE, HEADING, RULE, QUOTE, ITEM].some((mark) => mark.test(lines[at]))) break;
  }
  return [element('p', {}, ...inline(lines.slice(begin, at).join('\n'))), at];
}

function inline(text, depth = 0) {
  if (depth > DEEPEST) return [text];
  const made = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    made.push(...broken(text.slice(at, match.index)), marked(match, depth));
    at = match.index + match[0].length;
  }
  return [...made, ...broken(text.slice(at))];
}

function marked([whole, tick, verbatim, bold, bold2, italic, italic2, struck, label, target, bare], depth) {
  if (tick) return element('code', {}, verbatim);
  if (bold ?? bold2) return element('strong', {}, ...inline(bold ?? bold2, depth + 1));
  if (italic ?? italic2) return element('em', {}, ...inline(italic ?? italic2, depth + 1));
  if (struck) return element('del', {}, ...inline(struck, depth + 1));
  return link(bare ?? target, bare ? [bare] : inline(label || target, depth + 1), whole);
}

function link(target, label, whole) {
  let address;
  try {
    address = new URL(target);
  } catch {
    return whole;
  }
  if (!FOLLOWED.has(address.protocol)) return whole;
  return element('a', { href: address.href, rel: 'noopener noreferrer', target: '_blank' }, ...label);
}

/** Two blanks at a line's end are a break. */
function broken(text) {
  return text.split(/ {2,}\n/).flatMap((part, at) => (at ? [element('br'), part] : [part])).filter((part) => part !== '');
}
