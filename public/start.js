// Starts the worker and the page, side by side. Where the page cannot start, says why in plain HTML: nothing else of
// Paddock runs then.
(() => {
  "use strict";
  const say = (sentence) => {
    const place = document.getElementById("start");
    place.textContent = sentence;
    place.setAttribute("role", "alert");
    place.dataset.state = "broken";
  };
  // What the worker says before the page listens is kept for it; see `Link` in app/src/link.rs.
  const startWorker = () => {
    const worker = new Worker("./worker_start.js");
    const early = [];
    worker.onmessage = (event) => early.push(event);
    worker.onerror = (event) => early.push(event);
    // Left while a worker of it waits for the storage, a page may take its tab down with it (Chromium 156). So there is
    // none by then, and a page that comes back from the browser's memory starts anew.
    addEventListener("pagehide", () => worker.terminate());
    addEventListener("pageshow", (event) => event.persisted && location.reload());
    window.paddockWorker = { worker, early };
  };
  // Keeps the page for when there is no network; see sw.js. Where the browser has no service workers, or the host no
  // sw.js, nothing is lost.
  const keep = () => {
    if (navigator.serviceWorker) navigator.serviceWorker.register("./sw.js").catch(() => {});
  };
  if (location.protocol === "file:") {
    say("Paddock was opened as a file, and browsers run it only from a web server: open it over http or https.");
  } else if (typeof WebAssembly !== "object") {
    say("This browser does not run WebAssembly, which Paddock needs: allow it, or use another browser.");
  } else {
    try {
      startWorker();
    } catch {
      // The page starts another and says what is wrong with it.
    }
    import("./app.js")
      .then((app) => app.default({ module_or_path: "./app_bg.wasm" }))
      .then(() => {
        document.getElementById("start").remove();
        keep();
      })
      .catch((error) => {
        const reason = String((error && error.message) || error);
        say(`Paddock did not start, because a file of this page (app.js, app_bg.wasm) cannot be loaded or run here: ${reason}. ` +
          "Reload the page; if that does not help, tell whoever runs this site.");
      });
  }
})();
