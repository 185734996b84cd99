// Time for the STOMP client. Browsers slow the timers of a hidden tab down to one a minute, which would miss every
// heart-beat; those of a worker they leave alone.

/** The page's own timers. */
export const pageClock = {
  now: () => performance.now(),
  setTimeout: (callback, ms) => setTimeout(callback, ms),
  clearTimeout: (id) => clearTimeout(id),
};

/** Timers that keep time in a hidden tab, or the page's own where there are no workers. */
export function workerClock(url) {
  let worker;
  try {
    worker = new Worker(url, { type: "module" });
  } catch {
    return pageClock;
  }
  const waiting = new Map();
  let last = 0;
  const run = (id) => {
    const entry = waiting.get(id);
    if (!entry) return;
    waiting.delete(id);
    clearTimeout(entry.fallback);
    entry.callback();
  };
  worker.onmessage = ({ data }) => run(data);
  return {
    now: () => performance.now(),
    setTimeout(callback, ms) {
      last += 1;
      const id = last;
      // Should the worker have failed to load, the page's timer still comes.
      waiting.set(id, { callback, fallback: setTimeout(run, ms + 1000, id) });
      worker.postMessage({ id, ms });
      return id;
    },
    clearTimeout(id) {
      const entry = waiting.get(id);
      if (!entry) return;
      waiting.delete(id);
      clearTimeout(entry.fallback);
      worker.postMessage({ id });
    },
  };
}
