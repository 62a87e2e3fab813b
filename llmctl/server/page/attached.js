// The files that go with the next prompt.

import { attachment, withTexts } from './conversation.js';
import { element } from './markdown.js';

/** Shown in `list`; `wrong` is called with what can't be attached. */
export class Attached {
  files = [];

  constructor(list, wrong) {
    this.list = list;
    this.wrong = wrong;
  }

  async add(files) {
    for (const file of files) {
      try {
        this.files.push(await attachment(file));
      } catch (error) {
        this.wrong(error.message);
      }
    }
    this.show();
  }

  set(images) {
    this.files = images.map((image, at) => ({ name: `picture ${at + 1}`, image }));
    this.show();
  }

  get images() {
    return this.files.filter((file) => file.image).map((file) => file.image);
  }

  promptWith(text) {
    return withTexts(text, this.files);
  }

  show() {
    this.list.replaceChildren(...this.files.map((file) => {
      const leave = element('button', { type: 'button', 'aria-label': `Leave out ${file.name}` }, `${file.name} ×`);
      leave.addEventListener('click', () => {
        this.files = this.files.filter((other) => other !== file);
        this.show();
      });
      return element('li', {}, leave);
    }));
  }
}
