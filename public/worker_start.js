// Starts the worker, and tells the page why where it cannot start; see `protocol::Event::Broken`.
"use strict";
const fail = (file, error) => {
  const reason = String((error && error.message) || error);
  postMessage(JSON.stringify({
    broken: `The model's worker did not start, because ${file} cannot be loaded or run here: ${reason}. ` +
      "Reload the page; if that does not help, tell whoever runs this site.",
  }));
};
try {
  importScripts("./worker.js");
  wasm_bindgen({ module_or_path: "./worker_bg.wasm" }).catch((error) => fail("worker_bg.wasm", error));
} catch (error) {
  fail("worker.js", error);
}
