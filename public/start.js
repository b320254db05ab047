// Starts the page. Where it cannot start, says why in plain HTML: nothing else of Paddock runs then.
(() => {
  "use strict";
  const say = (sentence) => {
    const place = document.getElementById("start");
    place.textContent = sentence;
    place.setAttribute("role", "alert");
    place.dataset.state = "broken";
  };
  if (location.protocol === "file:") {
    say("Paddock was opened as a file, and browsers run it only from a web server: open it over http or https.");
  } else if (typeof WebAssembly !== "object") {
    say("This browser does not run WebAssembly, which Paddock needs: allow it, or use another browser.");
  } else {
    import("./app.js")
      .then((app) => app.default({ module_or_path: "./app_bg.wasm" }))
      .then(() => document.getElementById("start").remove())
      .catch((error) => {
        const reason = String((error && error.message) || error);
        say(`Paddock did not start, because a file of this page (app.js, app_bg.wasm) cannot be loaded or run here: ${reason}. ` +
          "Reload the page; if that does not help, tell whoever runs this site.");
      });
  }
})();
