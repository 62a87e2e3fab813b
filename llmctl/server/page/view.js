// How turns of a conversation look, and the buttons below them.

import { pictureAddress } from './conversation.js';
import { element, rendered } from './markdown.js';

/** A turn on the page. `actions` are called with the turn: edit, retry. */
export class TurnView {
  constructor(turn, actions) {
    this.turn = turn;
    this.prompt = element('article', { class: 'user' }, element('h2', {}, 'You'), element('div', { class: 'text' }, turn.prompt));
    if (turn.images.length) this.prompt.append(element('div', { class: 'pictures' }, ...turn.images.map(picture)));
    this.prompt.append(buttons([['Edit', () => actions.edit(turn)]]));
    this.text = element('div', { class: 'text' });
    this.facts = element('span', { class: 'facts' });
    this.thoughts = element('div', { class: 'thoughts' });
    this.thinking = element('details', {}, element('summary', {}, 'Thoughts'), this.thoughts);
    this.thinking.hidden = true;
    const below = buttons([['Copy', () => copy(turn.answer)], ['Retry', () => actions.retry(turn)]]);
    below.append(this.facts);
    this.answer = element('article', { class: 'assistant' }, element('h2', {}, 'Answer'), this.thinking, this.text, below);
    this.text.addEventListener('click', ({ target }) => {
      if (target.classList.contains('copy-code')) copy(target.previousSibling.textContent);
    });
    this.show();
  }

  show() {
    this.text.replaceChildren(rendered(this.turn.answer));
    if (this.turn.thoughts) {
      this.thinking.hidden = false;
      this.thoughts.textContent = this.turn.thoughts;
    }
    this.facts.textContent = this.turn.facts ?? (this.turn.whole || !this.turn.answer ? '' : 'stopped');
  }

  remove() {
    this.prompt.remove();
    this.answer.remove();
  }
}

function buttons(named) {
  const made = element('div', { class: 'actions' });
  for (const [name, pressed] of named) {
    const button = element('button', { type: 'button' }, name);
    button.addEventListener('click', pressed);
    made.append(button);
  }
  return made;
}

function picture(image, at) {
  return element('img', { src: pictureAddress(image), alt: `Attached picture ${at + 1}` });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // without https, away from localhost
    const area = element('textarea', { class: 'unseen', 'aria-hidden': 'true' }, text);
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
}
