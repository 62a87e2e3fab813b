// How fast an answer is written: by the engine's count of tokens, by pieces until that is known.

import { rate } from './fit.js';

export class Timing {
  pieces = 0;
  usage = null;

  piece() {
    this.last_ms = performance.now();
    this.first_ms ??= this.last_ms;
    this.pieces += 1;
  }

  get words() {
    const tokens = this.usage?.completion_tokens ?? this.pieces;
    const took_ms = this.last_ms - this.first_ms;
    return tokens > 1 && took_ms > 0 ? `${rate((tokens - 1) * 1000 / took_ms)} tok/s` : '';
  }
}
