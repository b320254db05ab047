//! The worker that reads a file of data, for the Data page.

fn main() {
    // There is only something to start in a browser; elsewhere this merely compiles.
    #[cfg(target_arch = "wasm32")]
    paddock_app::data::worker::start();
}
