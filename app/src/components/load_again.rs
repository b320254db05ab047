//! What has been chosen and holds only once the model is loaded again.

use leptos::prelude::*;

use crate::session::Models;

/// While `changed`: `hint`, which says so, and a button (with the test id `button`) that loads the model again.
#[component]
pub fn LoadAgain(changed: Memo<bool>, hint: &'static str, id: &'static str, button: &'static str) -> impl IntoView {
    let models = expect_context::<Models>();
    view! {
        <Show when=move || changed.get()>
            <p class="hint" role="status" data-testid=id>
                {hint}
                " "
                <button
                    type="button"
                    class="small"
                    data-testid=button
                    disabled=move || !models.can_load()
                    on:click=move |_| models.load_again()
                >
                    "Load it again"
                </button>
            </p>
        </Show>
    }
}
