//! From Markdown's events to a tree.

use std::mem;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};

use super::{Block, Inline};

/// Blocks that lie in one another, at most; deeper ones are left out, because a tree is walked by recursion.
const DEPTH: usize = 24;

/// The blocks of `text`.
pub fn parse(text: &str) -> Vec<Block> {
    let mut tree = Tree::default();
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_MATH;
    for (event, place) in Parser::new_ext(text, options).into_offset_iter() {
        match event {
            Event::Start(tag) => tree.open(&tag),
            Event::End(_) => tree.close(),
            // TeX's brackets keep the backslash that Markdown takes for an escape.
            Event::Text(piece) if piece.starts_with(['(', ')', '[', ']']) && text[..place.start].ends_with('\\') => {
                tree.text(&format!("\\{piece}"));
            }
            // HTML is shown as it is written.
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => tree.text(&text),
            Event::Code(code) => tree.inline(Inline::Code(code.into_string())),
            Event::SoftBreak => tree.text("\n"),
            Event::HardBreak => tree.inline(Inline::Break),
            Event::Rule => tree.block(Block::Rule),
            Event::InlineMath(maths) => tree.text(&format!("${maths}$")),
            Event::DisplayMath(maths) => tree.text(&format!("$${maths}$$")),
            // Neither is switched on.
            Event::FootnoteReference(_) | Event::TaskListMarker(_) => {}
        }
    }
    while !tree.open.is_empty() {
        tree.close();
    }
    tree.flush();
    tree.blocks
}

/// What has been opened and not closed, and what it holds so far.
#[derive(Default)]
struct Tree {
    blocks: Vec<Block>,
    inlines: Vec<Inline>,
    open: Vec<Open>,
}

struct Open {
    kind: Kind,
    blocks: Vec<Block>,
    inlines: Vec<Inline>,
}

enum Kind {
    Paragraph,
    Heading(u8),
    Code(String),
    Quote,
    List(Option<u64>, Vec<Vec<Block>>),
    Item,
    Table(Vec<Vec<Vec<Inline>>>),
    Row(Vec<Vec<Inline>>),
    Cell,
    Emphasis,
    Strong,
    Struck,
    Reference { address: String, picture: bool },
    Html,
}

impl Tree {
    fn open(&mut self, tag: &Tag) {
        let kind = match tag {
            Tag::Heading { level, .. } => Kind::Heading(*level as u8),
            Tag::BlockQuote(_) => Kind::Quote,
            Tag::CodeBlock(CodeBlockKind::Fenced(info)) => {
                Kind::Code(info.split([' ', ',', '{']).next().unwrap_or_default().to_string())
            }
            Tag::CodeBlock(CodeBlockKind::Indented) => Kind::Code(String::new()),
            Tag::HtmlBlock => Kind::Html,
            Tag::List(start) => Kind::List(*start, Vec::new()),
            Tag::Item => Kind::Item,
            Tag::Table(_) => Kind::Table(Vec::new()),
            Tag::TableHead | Tag::TableRow => Kind::Row(Vec::new()),
            Tag::TableCell => Kind::Cell,
            Tag::Emphasis => Kind::Emphasis,
            Tag::Strong => Kind::Strong,
            Tag::Strikethrough => Kind::Struck,
            Tag::Link { dest_url, .. } => Kind::Reference { address: dest_url.to_string(), picture: false },
            Tag::Image { dest_url, .. } => Kind::Reference { address: dest_url.to_string(), picture: true },
            _ => Kind::Paragraph,
        };
        let block = !matches!(kind, Kind::Emphasis | Kind::Strong | Kind::Struck | Kind::Reference { .. });
        if block {
            // An item of a tight list has its text without a paragraph around it.
            self.flush();
        }
        let (blocks, inlines) = (mem::take(&mut self.blocks), mem::take(&mut self.inlines));
        self.open.push(Open { kind, blocks, inlines });
    }

    fn close(&mut self) {
        let Some(Open { kind, blocks, inlines }) = self.open.pop() else { return };
        if matches!(kind, Kind::Item | Kind::Quote | Kind::List(..)) {
            self.flush();
        }
        let held = mem::replace(&mut self.blocks, blocks);
        let line = mem::replace(&mut self.inlines, inlines);
        match kind {
            Kind::Paragraph => self.block(Block::Paragraph(line)),
            Kind::Heading(level) => self.block(Block::Heading(level, line)),
            Kind::Code(language) => self.block(Block::Code { language, text: plain(&line) }),
            Kind::Html => {
                let text = plain(&line);
                self.block(Block::Paragraph(vec![Inline::Text(text.trim_end().to_string())]));
            }
            Kind::Quote => self.block(Block::Quote(held)),
            Kind::List(start, items) => self.block(Block::List { start, items }),
            Kind::Item => {
                if let Some(Open { kind: Kind::List(_, items), .. }) = self.open.last_mut() {
                    items.push(held);
                }
            }
            Kind::Table(mut rows) => {
                let head = if rows.is_empty() { Vec::new() } else { rows.remove(0) };
                self.block(Block::Table { head, rows });
            }
            Kind::Row(cells) => {
                if let Some(Open { kind: Kind::Table(rows), .. }) = self.open.last_mut() {
                    rows.push(cells);
                }
            }
            Kind::Cell => {
                if let Some(Open { kind: Kind::Row(cells), .. }) = self.open.last_mut() {
                    cells.push(line);
                }
            }
            Kind::Emphasis => self.inline(Inline::Emphasis(line)),
            Kind::Strong => self.inline(Inline::Strong(line)),
            Kind::Struck => self.inline(Inline::Struck(line)),
            Kind::Reference { address, picture } => {
                let label = plain(&line);
                if is_web(&address) {
                    self.inline(Inline::Reference { address, label, picture });
                } else {
                    // An address of any other kind is only text.
                    self.text(&format!("{label} ({address})"));
                }
            }
        }
    }

    fn text(&mut self, text: &str) {
        match self.inlines.last_mut() {
            Some(Inline::Text(last)) => last.push_str(text),
            _ => self.inline(Inline::Text(text.to_string())),
        }
    }

    fn inline(&mut self, inline: Inline) {
        if self.open.len() < 2 * DEPTH {
            self.inlines.push(inline);
        }
    }

    fn block(&mut self, block: Block) {
        if self.open.len() < DEPTH {
            self.blocks.push(block);
        }
    }

    /// Text that stands between blocks becomes a paragraph.
    fn flush(&mut self) {
        if !self.inlines.is_empty() {
            let line = mem::take(&mut self.inlines);
            self.block(Block::Paragraph(line));
        }
    }
}

/// The text of a line without its form.
fn plain(line: &[Inline]) -> String {
    line.iter()
        .map(|inline| match inline {
            Inline::Text(text) | Inline::Code(text) => text.clone(),
            Inline::Emphasis(line) | Inline::Strong(line) | Inline::Struck(line) => plain(line),
            Inline::Reference { label, .. } => label.clone(),
            Inline::Break => "\n".to_string(),
        })
        .collect()
}

/// Whether following an address can only open a page or a letter.
fn is_web(address: &str) -> bool {
    let scheme = address.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let plain = !address.chars().any(|letter| letter.is_control() || letter.is_whitespace());
    plain && matches!(scheme.as_str(), "http" | "https" | "mailto") && address.len() > scheme.len()
}
