//! Small drawings for buttons.

use leptos::prelude::*;

/// The strokes of a drawing on a field of 24 by 24.
#[derive(Clone, Copy)]
pub enum Icon {
    /// Three lines.
    Menu,
    /// A cross of two strokes, upright.
    Plus,
    /// A magnifying glass.
    Search,
    /// A drawing pin.
    Pin,
    /// A bin.
    Bin,
    /// Two sheets.
    Copy,
    /// A tick.
    Tick,
    /// An arrow that turns round.
    Again,
    /// A pen.
    Pen,
    /// An arrow to the right, past a line.
    GoOn,
    /// Bars of different heights.
    Bars,
    /// An arrow upwards.
    Up,
    /// An arrow downwards.
    Down,
    /// An angle to the left.
    Left,
    /// An angle to the right.
    Right,
    /// A square.
    Stop,
    /// Three dots.
    More,
    /// Two sliders.
    Sliders,
}

/// A drawing in the colour of the text. What a button does is in its label.
pub fn icon(icon: Icon) -> impl IntoView {
    let path = match icon {
        Icon::Menu => "M4 7h16M4 12h16M4 17h16",
        Icon::Plus => "M12 5v14M5 12h14",
        Icon::Search => "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16.2 16.2 21 21",
        Icon::Pin => "M9 4h6l-1 6 3 3v2H7v-2l3-3zM12 15v6",
        Icon::Bin => "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
        Icon::Copy => "M9 9h11v11H9zM5 15H4V4h11v1",
        Icon::Tick => "M5 13l4 4L19 7",
        Icon::Again => "M20 11a8 8 0 1 0-2.3 6.7M20 4v7h-7",
        Icon::Pen => "M4 20l1-5L16 4l4 4L9 19zM14 6l4 4",
        Icon::GoOn => "M4 5v14M8 12h12M14 6l6 6-6 6",
        Icon::Bars => "M5 20v-6M10 20V8M15 20v-9M20 20V4",
        Icon::Up => "M12 19V5M6 11l6-6 6 6",
        Icon::Down => "M12 5v14M6 13l6 6 6-6",
        Icon::Left => "M14 6l-6 6 6 6",
        Icon::Right => "M10 6l6 6-6 6",
        Icon::Stop => "M7 7h10v10H7z",
        Icon::More => "M5 11v2M4 12h2M12 11v2M11 12h2M19 11v2M18 12h2",
        Icon::Sliders => {
            "M4 8h9M19 8h1M16 8m-2 0a2 2 0 1 0 4 0 2 2 0 1 0-4 0M4 16h1M11 16h9M8 16m-2 0a2 2 0 1 0 4 0 2 2 0 1 0-4 0"
        }
    };
    view! { <svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=path /></svg> }
}

/// A button that shows a drawing; `label` says what it does.
#[component]
pub fn IconButton(
    /// The drawing.
    drawing: Icon,
    /// What the button does.
    #[prop(into)]
    label: Signal<String>,
    /// Its test id.
    id: &'static str,
    /// It cannot be pressed now.
    #[prop(optional, into)]
    disabled: Signal<bool>,
    /// What happens.
    press: impl Fn() + 'static,
) -> impl IntoView {
    view! {
        <button
            type="button"
            class="plain round"
            data-testid=id
            aria-label=move || label.get()
            title=move || label.get()
            disabled=move || disabled.get()
            on:click=move |_| press()
        >
            {icon(drawing)}
        </button>
    }
}
