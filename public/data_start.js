// Starts the worker that reads a file for the Data page, and tells the page why where it cannot start; see `Told::Refused` in
// app/src/data/message.rs.
"use strict";
const fail = (file, error) => {
  const reason = String((error && error.message) || error);
  postMessage(JSON.stringify({
    refused: `The file cannot be read, because ${file} of this page cannot be loaded or run here: ${reason}. ` +
      "Reload the page; if that does not help, tell whoever runs this site.",
  }));
};
try {
  importScripts("./data.js");
  wasm_bindgen({ module_or_path: "./data_bg.wasm" }).catch((error) => fail("data_bg.wasm", error));
} catch (error) {
  fail("data.js", error);
}
