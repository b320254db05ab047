//! The worker: models and network, off the page's thread.

fn main() {
    // There is only something to start in a browser; elsewhere this merely compiles.
    #[cfg(target_arch = "wasm32")]
    paddock_app::worker::start();
}
