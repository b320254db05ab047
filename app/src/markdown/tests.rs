use super::*;

fn text(text: &str) -> Inline {
    Inline::Text(text.to_string())
}

fn paragraph(inlines: Vec<Inline>) -> Block {
    Block::Paragraph(inlines)
}

#[test]
fn text_has_its_form() {
    assert_eq!(
        parse("# Horses\n\nA *fast* **and ~~old~~** `horse`  \nruns\nhome."),
        [
            Block::Heading(1, vec![text("Horses")]),
            paragraph(vec![
                text("A "),
                Inline::Emphasis(vec![text("fast")]),
                text(" "),
                Inline::Strong(vec![text("and "), Inline::Struck(vec![text("old")])]),
                text(" "),
                Inline::Code("horse".to_string()),
                Inline::Break,
                text("runs\nhome."),
            ]),
        ]
    );
}

#[test]
fn code_keeps_every_letter() {
    let code = |language: &str, text: &str| Block::Code { language: language.to_string(), text: text.to_string() };
    assert_eq!(parse("```rust,ignore\nlet a = \"<b>\";\n\n  *x*\n```"), [code("rust", "let a = \"<b>\";\n\n  *x*\n")]);
    // An answer that is still growing.
    assert_eq!(parse("```py\nprint("), [code("py", "print(")]);
    assert_eq!(parse("    a\n    b"), [code("", "a\nb")]);
}

#[test]
fn lists_quotations_and_tables_have_their_parts() {
    let item = |name: &str| vec![paragraph(vec![text(name)])];
    assert_eq!(
        parse("3. a\n4. b\n   - c\n\n> d\n\n---"),
        [
            Block::List {
                start: Some(3),
                items: vec![
                    item("a"),
                    vec![paragraph(vec![text("b")]), Block::List { start: None, items: vec![item("c")] }],
                ],
            },
            Block::Quote(item("d")),
            Block::Rule,
        ]
    );
    let cell = |name: &str| vec![text(name)];
    assert_eq!(
        parse("| a | b |\n|---|--:|\n| 1 | `2` |"),
        [Block::Table {
            head: vec![cell("a"), cell("b")],
            rows: vec![vec![cell("1"), vec![Inline::Code("2".into())]]]
        }]
    );
}

#[test]
fn maths_and_html_are_text() {
    for maths in ["$a*b*c$ and \\(x_1\\)", "\\[x\\]", "$$\\frac{a}{b}$$"] {
        assert_eq!(parse(maths), [paragraph(vec![text(maths)])]);
    }
    assert_eq!(parse("a <b onclick=x>c</b>"), [paragraph(vec![text("a <b onclick=x>c</b>")])]);
    assert_eq!(parse("<script>\nx()\n</script>\n"), [paragraph(vec![text("<script>\nx()\n</script>")])]);
}

#[test]
fn only_addresses_of_the_web_can_be_followed() {
    let reference = |address: &str, label: &str, picture| {
        vec![paragraph(vec![Inline::Reference { address: address.to_string(), label: label.to_string(), picture }])]
    };
    assert_eq!(parse("[a *b*](https://x.test/y?z)"), reference("https://x.test/y?z", "a b", false));
    assert_eq!(parse("![p](http://x.test/p.png)"), reference("http://x.test/p.png", "p", true));
    assert_eq!(parse("<mailto:a@x.test>"), reference("mailto:a@x.test", "mailto:a@x.test", false));
    for address in [
        "javascript:alert(1)",
        "JaVaScRiPt:x",
        "data:text/html,x",
        "vbscript:x",
        "file:///x",
        "//x.test",
        "/x",
        "blob:x",
    ] {
        assert_eq!(parse(&format!("[a]({address})")), [paragraph(vec![text(&format!("a ({address})"))])]);
        assert_eq!(parse(&format!("![a]({address})")), [paragraph(vec![text(&format!("a ({address})"))])]);
    }
    assert_eq!(parse("[a](<java\nscript:x>)"), [paragraph(vec![text("[a](<java\nscript:x>)")])]);
}

#[test]
fn hostile_depth_is_cut() {
    for text in [">".repeat(5000), "- ".repeat(5000), "*".repeat(5000), "[".repeat(5000), "`".repeat(5000)] {
        parse(&format!("{text}x"));
    }
}
