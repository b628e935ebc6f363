/** Of several requests for one thing only the latest counts; earlier ones are given up. */

export class Latest {
  #abort = null;

  /** What `ask(signal)` gives, or undefined where a later request has taken its place. */
  async run(ask) {
    this.cancel();
    const abort = (this.#abort = new AbortController());
    try {
      const answer = await ask(abort.signal);
      return abort.signal.aborted ? undefined : answer;
    } catch (error) {
      if (abort.signal.aborted) return undefined;
      throw error;
    }
  }

  cancel() {
    this.#abort?.abort();
  }
}
