//! Markdown of answers, as a tree of what can be shown. Raw HTML, scripts and styles have no place in it: whatever is
//! none of these nodes is text.

mod parse;

pub use parse::parse;

/// A block of text.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// A paragraph.
    Paragraph(Vec<Inline>),
    /// A heading; the level is 1 to 6.
    Heading(u8, Vec<Inline>),
    /// Code as it is, with the name of its language, which may be empty.
    Code {
        /// The language.
        language: String,
        /// The code.
        text: String,
    },
    /// A list; an ordered one has the number of its first item.
    List {
        /// The first number.
        start: Option<u64>,
        /// The items.
        items: Vec<Vec<Block>>,
    },
    /// A quotation.
    Quote(Vec<Block>),
    /// A table, whose first row is its head.
    Table {
        /// The head.
        head: Vec<Vec<Inline>>,
        /// The other rows.
        rows: Vec<Vec<Vec<Inline>>>,
    },
    /// A line between two parts.
    Rule,
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq)]
pub enum Inline {
    /// Text.
    Text(String),
    /// Code.
    Code(String),
    /// Text that is stressed.
    Emphasis(Vec<Inline>),
    /// Text that is stressed strongly.
    Strong(Vec<Inline>),
    /// Text that is struck out.
    Struck(Vec<Inline>),
    /// Something of another place: a link, or a picture, which is shown as a link.
    Reference {
        /// Its address, which is `http`, `https` or `mailto`.
        address: String,
        /// What the answer calls it.
        label: String,
        /// It is a picture.
        picture: bool,
    },
    /// The beginning of a line.
    Break,
}

#[cfg(test)]
mod tests;
