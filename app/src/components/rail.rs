//! The way from page to page.

use leptos::prelude::*;

use crate::pages::Page;

/// The name and the pages.
#[component]
pub fn Rail(page: RwSignal<Page>) -> impl IntoView {
    view! {
        <nav class="rail" aria-label="Pages">
            <a class="mark" href=Page::Chat.fragment()>"Paddock"</a>
            {Page::ALL
                .map(|target| view! {
                    <a
                        href=target.fragment()
                        data-testid=format!("nav-{}", &target.fragment()[1..])
                        aria-current=move || (page.get() == target).then_some("page")
                    >
                        {target.title()}
                    </a>
                })
                .collect_view()}
        </nav>
    }
}
