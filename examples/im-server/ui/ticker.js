// The worker behind workerClock: {id, ms} starts a timer, {id} alone ends it, and the id comes back when it is due.

const timers = new Map();

self.onmessage = ({ data: { id, ms } }) => {
  clearTimeout(timers.get(id));
  timers.delete(id);
  if (ms === undefined) return;
  timers.set(
    id,
    setTimeout(() => {
      timers.delete(id);
      self.postMessage(id);
    }, ms),
  );
};
