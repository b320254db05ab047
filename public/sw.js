// The service worker: the page without a network, and isolated from other sites where the host sends no headers for it.
//
// The build writes the version and the list of files here (xtask/src/page.rs); before that it keeps nothing. A version's
// files are kept all together or not at all, and serve until the next version is complete and no tab of this one is open.
"use strict";
const VERSION = "";
const FILES = [];

const OWN = `paddock-page-${VERSION}`;
const LISTS = "paddock-lists";
const scope = new URL("./", self.location);
const address = (file) => new URL(file, scope).href;

self.addEventListener("install", (event) => {
  const keep = async () => {
    const cache = await caches.open(OWN);
    try {
      await cache.addAll(FILES.map((file) => new Request(address(file), { cache: "reload" })));
    } catch (error) {
      await caches.delete(OWN);
      throw error;
    }
  };
  event.waitUntil(keep());
});

self.addEventListener("activate", (event) => {
  const clean = async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith("paddock-page-") && name !== OWN) await caches.delete(name);
    }
    await self.clients.claim();
  };
  event.waitUntil(clean());
});

// Documents and workers are isolated only by headers of their own.
const isolated = (response) => {
  if (response.type === "opaque" || response.type === "opaqueredirect" || response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
};

self.addEventListener("message", (event) => {
  if (event.data === "take over") self.skipWaiting();
});

// What is shown while a version takes over: it asks for that, and loads the page once the old version is gone. No sooner,
// because Chromium (156) now and then never answers what is asked of a version that is being replaced.
const TAKING_OVER = `<!doctype html><title>Paddock</title><script nonce="paddock">
  const begin = Date.now();
  const look = async (asked) => {
    const { active, waiting } = (await navigator.serviceWorker.getRegistration()) ?? {};
    if (!(waiting || active?.state === "activating") || Date.now() - begin > 10000) return location.reload();
    if (!asked) waiting?.postMessage("take over");
    setTimeout(look, 20, true);
  };
  look();
</script>`;
let offered = false;

// Reloading the only tab is the moment for a version that waits: the tab then loads all files anew. If it cannot take over,
// this one goes on.
const takesOver = async (request) => {
  if (!self.registration.waiting || request.destination !== "document" || offered) return false;
  offered = (await self.clients.matchAll({ type: "window" })).length <= 1;
  return offered;
};

const own = async (file, request) => {
  if (await takesOver(request)) {
    const policy = "default-src 'none'; script-src 'nonce-paddock'";
    return isolated(new Response(TAKING_OVER, { headers: { "Content-Type": "text/html", "Content-Security-Policy": policy } }));
  }
  const kept = await (await caches.open(OWN)).match(address(file));
  return isolated(kept || (await fetch(request)));
};

// The newest list of models, or the last one that was seen.
const list = async (request) => {
  const cache = await caches.open(LISTS);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request.url, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request.url);
    if (kept) return kept;
    throw error;
  }
};

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(scope.href)) return;
  const path = new URL(request.url).pathname.slice(scope.pathname.length);
  const file = path === "" ? "index.html" : path;
  if (file === "models/index.json") {
    event.respondWith(list(request));
  } else if (FILES.includes(file)) {
    event.respondWith(own(file, request));
  } else if (request.destination === "document") {
    event.respondWith(fetch(request).then(isolated));
  }
});
