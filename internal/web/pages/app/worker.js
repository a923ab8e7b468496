// The worker of the installed app. It keeps what is the same for everybody
// (styles, scripts, the page for no network) and never an answer about anybody.

const ASSETS = "/a/hash/";
const OFFLINE = "/offline";
const KEPT = "yesline" + ASSETS;

self.addEventListener("install", (e) => {
  e.waitUntil(caches.open(KEPT).then((kept) => kept.addAll([OFFLINE, ASSETS + "yesline.css", ASSETS + "mark.svg"])).then(() => self.skipWaiting()));
});

// Another version of the house has other assets: what was kept of before goes.
self.addEventListener("activate", (e) => {
  e.waitUntil(caches.keys().then((names) => Promise.all(names.filter((name) => name !== KEPT).map((name) => caches.delete(name)))).then(() => self.clients.claim()));
});

self.addEventListener("fetch", (e) => {
  const { pathname, origin } = new URL(e.request.url);
  if (e.request.method !== "GET" || origin !== self.location.origin) return;
  if (pathname.startsWith(ASSETS)) e.respondWith(asset(e.request));
  else if (e.request.mode === "navigate") e.respondWith(fetch(e.request).catch(() => caches.match(OFFLINE, { cacheName: KEPT })));
});

/** A hashed asset never changes: once fetched, it is kept. @param {Request} request */
const asset = async (request) => {
  const kept = await caches.open(KEPT);
  const known = await kept.match(request);
  if (known) return known;
  const answer = await fetch(request);
  if (answer.ok && answer.type === "basic") await kept.put(request, answer.clone());
  return answer;
};
