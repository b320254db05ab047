//! Navigation between the pages.

use leptos::prelude::*;

use crate::route::Page;

/// The project's name and a link to each page.
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
