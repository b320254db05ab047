//! The pages, with the navigation rail beside and the status line below.

mod chat;
mod data;
mod keys;
mod models;
mod runs;
mod score;
mod title;

use std::collections::BTreeMap;

use leptos::ev;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Element, RequestCache, RequestInit, Response};

use crate::address::Address;
use crate::components::drop_target::DropTarget;
use crate::components::header::Header;
use crate::components::rail::Rail;
use crate::components::status_line::StatusLine;
use crate::components::toast::Toast;
use crate::data::opened::OpenedData;
use crate::models::Index;
use crate::route::Page;
use crate::runs::opened::OpenedRuns;
use crate::session::{History, Session, State};
use crate::share::Shared;
use chat::ChatPage;
use data::DataPage;
use models::ModelsPage;
use runs::RunsPage;
use score::ScorePage;

/// Mounts the page into the document.
pub fn start() {
    std::panic::set_hook(Box::new(|panic| leptos::logging::error!("{panic}")));
    mount_to_body(App);
}

#[component]
fn App() -> impl IntoView {
    let query = window().location().search().unwrap_or_default();
    let fragment = window().location().hash().unwrap_or_default();
    let address = Address::parse_with(&query, &fragment);
    let page = RwSignal::new(Page::current(!address.runs.is_empty()));
    provide_context(OpenedRuns::start(address.runs.clone(), move || page.get_untracked() == Page::Runs));
    provide_context(OpenedData::default());
    let session = Session::start(address);
    session.provide();
    if let Some(shared) = Shared::parse(&fragment) {
        session.begin_with(shared);
    }
    let state = expect_context::<Signal<State>>();
    spawn_local(async move { session.offer(fetch_index().await) });

    let places = StoredValue::new(BTreeMap::<&str, i32>::new());
    let listener = window_event_listener(ev::hashchange, move |_| {
        // Each page is found where it was left; the chat sees to that itself.
        if let Some(scrolled) = scrolling() {
            places.update_value(|places| {
                places.insert(page.get_untracked().fragment(), scrolled.scroll_top());
            });
        }
        let next = Page::current(false);
        page.set(next);
        let place = places.with_value(|places| places.get(next.fragment()).copied());
        if let Some(place) = place.filter(|_| next != Page::Chat) {
            request_animation_frame(move || {
                scrolling().inspect(|scrolled| scrolled.set_scroll_top(place));
            });
        }
    });
    on_cleanup(move || listener.remove());
    let history = expect_context::<History>();
    keys::listen(page);
    title::follow(page);

    view! {
        <div
            class="frame"
            data-testid="page"
            data-state=move || state.get().name()
            data-kept=move || history.kept.get().to_string()
        >
            <Rail page />
            <div class="stage">
                <Header page />
                <main>
                    {move || match page.get() {
                        Page::Chat => view! { <ChatPage /> }.into_any(),
                        Page::Score => view! { <ScorePage /> }.into_any(),
                        Page::Data => view! { <DataPage /> }.into_any(),
                        Page::Runs => view! { <RunsPage /> }.into_any(),
                        Page::Models => view! { <ModelsPage /> }.into_any(),
                    }}
                </main>
                <StatusLine />
            </div>
            <Toast />
            <DropTarget page />
        </div>
    }
}

/// The part of the page that scrolls.
fn scrolling() -> Option<Element> {
    document().query_selector("main .scroll").ok().flatten()
}

/// The longest list of models that is read, in bytes.
const INDEX_LIMIT: u64 = 4 << 20;

/// The site's list of models.
async fn fetch_index() -> Result<Index, String> {
    let init = RequestInit::new();
    init.set_cache(RequestCache::NoCache);
    let response: Response = JsFuture::from(window().fetch_with_str_and_init("models/index.json", &init))
        .await
        .map_err(|_| "The site cannot be reached; check the network and open the page again.".to_string())?
        .unchecked_into();
    if !response.ok() {
        let host = window().location().hostname().unwrap_or_default();
        // Whoever runs the site reads this on a machine of their own; visitors can do nothing about the list.
        return Err(match host.as_str() {
            "localhost" | "127.0.0.1" | "[::1]" => format!(
                "This site's list of models, models/index.json, cannot be read (status {}); `paddock index` writes it.",
                response.status()
            ),
            _ => "This site offers no models of its own; add one under Models, by its address or from this device."
                .to_string(),
        });
    }
    let length = response.headers().get("Content-Length").ok().flatten().and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > INDEX_LIMIT) {
        return Err("models/index.json is too long for a list of models; `paddock index` writes it.".to_string());
    }
    let unreadable = |_| "models/index.json broke off on its way; open the page again.".to_string();
    let text = JsFuture::from(response.text().map_err(unreadable)?).await.map_err(unreadable)?;
    Index::from_json(&text.as_string().unwrap_or_default())
}
