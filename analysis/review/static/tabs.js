/** Other tabs of this browser, and other browsers of this reviewer: when to ask for what they did. */

const ASK_MS = 10000;

/** Calls `ask()` whenever something may have changed elsewhere; returns what tells the other tabs. */
export function watchTabs(name, ask) {
  const channel = new BroadcastChannel(name);
  const askIfSeen = () => document.visibilityState === "visible" && ask();
  channel.onmessage = ask;
  document.addEventListener("visibilitychange", askIfSeen);
  addEventListener("focus", ask);
  setInterval(askIfSeen, ASK_MS);
  return () => channel.postMessage("changed");
}
