//! The page.

fn main() {
    // Only the browser has something to start; the rest of the workspace's targets merely compile this.
    #[cfg(target_arch = "wasm32")]
    paddock_app::pages::start();
}
