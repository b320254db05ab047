//! Parts of the page as plain data, which a worker can draw and the page puts up. There are elements, attributes and text, and
//! no HTML: what a text says never becomes an element.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// An element.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Markup {
    /// Its name. What is within an `svg` is SVG.
    pub name: String,
    /// Its attributes by name.
    pub attributes: Vec<(String, String)>,
    /// The text with which it begins.
    pub text: String,
    /// The elements in it.
    pub inside: Vec<Markup>,
}

/// An empty element of this name.
pub fn element(name: &str) -> Markup {
    Markup { name: name.to_string(), ..Markup::default() }
}

impl Markup {
    /// With another attribute.
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        self.attributes.push((name.to_string(), value.to_string()));
        self
    }

    /// With this text at its beginning.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// With these elements after the others.
    pub fn holding(mut self, inside: impl IntoIterator<Item = Self>) -> Self {
        self.inside.extend(inside);
        self
    }

    /// All text in it.
    pub fn all_text(&self) -> String {
        self.inside.iter().fold(self.text.clone(), |text, inside| text + &inside.all_text())
    }
}
