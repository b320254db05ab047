//! What is given as data, put up as elements.

use leptos::html;
use leptos::prelude::*;
use web_sys::Element;

use crate::markup::Markup;

/// The namespace of SVG's elements.
const SVG: &str = "http://www.w3.org/2000/svg";

/// The elements in place of those before.
#[component]
pub fn Drawn(#[prop(into)] markup: Signal<Vec<Markup>>) -> impl IntoView {
    let place = NodeRef::<html::Div>::new();
    Effect::new(move |_| {
        let Some(place) = place.get() else { return };
        place.set_text_content(None);
        markup.with(|markup| markup.iter().for_each(|markup| put(markup, &place, false)));
    });
    view! { <div class="drawn" node_ref=place></div> }
}

/// Appends an element to `place`, which is within SVG or not. A browser that refuses one shows the others.
fn put(markup: &Markup, place: &Element, within_svg: bool) {
    let is_svg = within_svg || markup.name == "svg";
    let made = match is_svg {
        true => document().create_element_ns(Some(SVG), &markup.name),
        false => document().create_element(&markup.name),
    };
    let Ok(made) = made else { return };
    for (name, value) in &markup.attributes {
        made.set_attribute(name, value).ok();
    }
    if !markup.text.is_empty() {
        made.set_text_content(Some(&markup.text));
    }
    markup.inside.iter().for_each(|inside| put(inside, &made, is_svg));
    place.append_child(&made).ok();
}
