// How fast counters of the server grow, from two looks at them.

/** Remembers what the last look saw; `read(destinations, now)` takes the answer of the server and gives `{ in, out }` per second by name. */
export class Rates {
  #before = new Map();
  #at = 0;

  read(destinations, now) {
    const seconds = (now - this.#at) / 1000;
    const seen = new Map();
    const rates = new Map();
    for (const one of destinations) {
      const isTopic = one.name.startsWith("/topic/");
      // What was not sent to anybody yet came in as well.
      const came = one.taken + (one.depth ?? 0) - (one.unacked ?? 0);
      const before = this.#before.get(one.name);
      seen.set(one.name, { taken: one.taken, came });
      // The counter begins anew when everybody has left.
      if (!before || before.taken > one.taken || seconds <= 0) continue;
      const taken = (one.taken - before.taken) / seconds;
      rates.set(one.name, {
        in: Math.max(0, came - before.came) / seconds,
        out: isTopic ? taken * (one.consumers ?? 0) : taken,
      });
    }
    this.#before = seen;
    this.#at = now;
    return rates;
  }
}

/** For a column of numbers: whole ones, but for slow rates. */
export function rateText(rate) {
  if (rate === undefined) return "–";
  if (rate === 0) return "0";
  return rate < 10 ? rate.toFixed(1) : String(Math.round(rate));
}
