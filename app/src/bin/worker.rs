//! The worker: the model and the network, off the page's thread.

fn main() {
    // Only the browser has something to start; the rest of the workspace's targets merely compile this.
    #[cfg(target_arch = "wasm32")]
    paddock_app::worker::start();
}
