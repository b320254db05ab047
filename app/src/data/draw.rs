//! What the page shows of a file.

use paddock_engine::instructions::{Diversity, Label, Lengths, Sector, Verb};

use super::file::{Figures, FoundRow, Hit};
use super::message::{Find, Found};
use crate::format::{count, thousands};
use crate::markup::{Markup, element};
use crate::runs::histogram::histogram;

/// What is in the file `name`: its figures, and what it asks for.
pub fn figures(name: &str, figures: &Figures) -> Vec<Markup> {
    let Figures { note, stats, lengths: spread, diversity } = figures;
    let share = |part: usize| {
        let percent = 100.0 * part as f64 / stats.rows.max(1) as f64;
        format!("{} ({percent:.1} %)", thousands(part))
    };
    let lengths = |Lengths { mean, median, p95, longest }: &Lengths| {
        format!("mean {mean:.1} words, median {median}, 95 % at most {p95}, longest {}", thousands(*longest))
    };
    let facts = [
        ("Rows", "data-count", thousands(stats.rows)),
        ("With an input", "data-inputs", share(stats.with_input)),
        ("Equal rows", "data-equal", share(stats.duplicates)),
        ("Nearly equal", "data-near", share(stats.near_duplicates)),
        ("Instructions", "data-instruction", lengths(&stats.instruction_words)),
        ("Outputs", "data-output", lengths(&stats.output_words)),
    ];
    let facts = facts.map(|(name, id, value)| {
        element("div").holding([element("dt").text(name), element("dd").with("data-testid", id).text(value)])
    });
    let words = histogram([0.0, spread.high], &spread.sets, "How many instructions and outputs have how many words");
    let words = words.map(|figure| {
        let hint = hint("Rows by their number of words; the longest are left out.");
        figure.with("data-testid", "data-lengths").holding([hint])
    });
    let file = section("data-name", name, true)
        .holding(note.iter().map(|note| hint(note).with("data-testid", "data-note")))
        .holding([sides().holding([element("dl").with("class", "facts").holding(facts)]).holding(words)]);
    vec![file, asked(diversity)]
}

/// Verbs and their objects as a picture, whose parts tell their share, and as a table.
fn asked(diversity: &Diversity) -> Markup {
    let summary = format!(
        "{} of {} instructions have a verb with an object; there are {} different pairs.",
        thousands(diversity.with_object),
        thousands(diversity.instructions),
        thousands(diversity.pairs)
    );
    let drawing = element("svg")
        .with("viewBox", "-352 -352 704 704")
        .with("role", "img")
        .with("aria-label", "Verbs and their objects; the table has the same")
        .holding(diversity.sectors().into_iter().map(sector));
    let caption = element("figcaption").with("class", "hint").with("data-testid", "sunburst-told");
    let caption = caption.text("Rest the pointer on a part, or touch it, to see its share.");
    let figure =
        element("figure").with("class", "sunburst").with("data-testid", "sunburst").holding([drawing, caption]);
    let summary = hint(&summary).with("data-testid", "data-pairs");
    section("data-verbs", "What is asked for", false).holding([summary, sides().holding([figure, table(diversity)])])
}

fn sector(Sector { is_verb, hue, path, title, label }: Sector) -> Markup {
    let path = element("path").with("d", path).with("fill", format!("hsl({hue} 65% var(--light))"));
    let label = label.map(|Label { text, transform, has_room }| {
        let label = element("text").with("transform", transform).text(text);
        if has_room { label.with("class", "large") } else { label }
    });
    let class = if is_verb { "verb" } else { "object" };
    element("g").with("class", class).holding([path.holding([element("title").text(title)])]).holding(label)
}

fn table(diversity: &Diversity) -> Markup {
    let cell = |text: &str| element("td").text(text);
    let heads = ["Verb", "Rows", "Share", "Objects"].map(|name| element("th").with("scope", "col").text(name));
    let rows = diversity.verbs.iter().map(|Verb { verb, count, objects }| {
        let objects = objects.iter().map(|(object, count)| format!("{object} {}", thousands(*count)));
        let verb = element("th").with("scope", "row").text(verb.as_str());
        let cells = [thousands(*count), diversity.share(*count), objects.collect::<Vec<_>>().join(", ")];
        element("tr").with("data-testid", "verb").holding([verb]).holding(cells.iter().map(|text| cell(text)))
    });
    let head = element("thead").holding([element("tr").holding(heads)]);
    element("table").with("class", "verbs").holding([head, element("tbody").holding(rows)])
}

/// The rows that were looked for, of which there are `all`.
pub fn found(find: &Find, all: usize, rows: Vec<FoundRow>) -> Found {
    let last = find.from + rows.len();
    let place = match (all, rows.len()) {
        (0, _) => "No rows".to_string(),
        (all, shown) if all == shown => count(all, "row"),
        _ => format!("Rows {} to {} of {}", thousands(find.from + 1), thousands(last), thousands(all)),
    };
    let rows = element("ul").with("class", "data-rows").holding(rows.into_iter().map(row));
    Found { place, next: (last < all).then_some(last), rows: vec![rows] }
}

fn row(FoundRow { place, beginning, hit, repeats, texts }: FoundRow) -> Markup {
    let span = |class: &str| element("span").with("class", class);
    let place = repeats.map_or(place.to_string(), |repeats| format!("{place} · {repeats}"));
    let hit = hit.map(|Hit { of, around: [before, found, after] }| {
        let hit = span("hint").with("dir", "auto").with("data-testid", "data-hit");
        hit.text(format!("{of}: {before}")).holding([element("mark").text(found), element("span").text(after)])
    });
    let head =
        element("summary").holding([span("hint").text(place), span("beginning").with("dir", "auto").text(beginning)]);
    let texts = texts.into_iter().flat_map(|(name, words, text)| {
        let name = element("dt").with("class", "hint").text(format!("{name}, {}", count(words, "word")));
        [name, element("dd").with("dir", "auto").text(text)]
    });
    let details = element("details").with("data-testid", "data-row");
    element("li").holding([details.holding([head.holding(hit), element("dl").holding(texts)])])
}

/// A part of the page with its heading; whether that is what a person wrote.
fn section(id: &str, heading: &str, is_own: bool) -> Markup {
    let heading = element("h2").with("id", id).with("data-testid", id).text(heading);
    let heading = if is_own { heading.with("dir", "auto") } else { heading };
    element("section").with("class", "panels").with("aria-labelledby", id).holding([heading])
}

/// What stands side by side where there is room.
fn sides() -> Markup {
    element("div").with("class", "sides")
}

fn hint(text: &str) -> Markup {
    element("p").with("class", "hint").text(text)
}

#[cfg(test)]
mod tests {
    use super::super::file::DataFile;
    use super::*;

    fn file() -> (DataFile, Figures) {
        let lines = r#"{"prompt":"Write a story.","completion":"<b>Once</b>"}"#.to_string() + "\n";
        DataFile::read("data.jsonl", lines.repeat(30).as_bytes()).unwrap()
    }

    /// The texts of all elements of this name.
    fn texts(markup: &[Markup], name: &str) -> Vec<String> {
        let own = |markup: &Markup| match markup.name == name {
            true => vec![markup.all_text()],
            false => texts(&markup.inside, name),
        };
        markup.iter().flat_map(own).collect()
    }

    #[test]
    fn figures_and_verbs_are_drawn() {
        let drawn = figures("data.jsonl", &file().1);
        assert_eq!(texts(&drawn, "h2"), ["data.jsonl", "What is asked for"]);
        assert_eq!(texts(&drawn, "dd")[..4], ["30", "0 (0.0 %)", "29 (96.7 %)", "29 (96.7 %)"]);
        assert_eq!(
            texts(&drawn, "title"),
            ["write: 30 instructions, 100.0 %", "write story: 30 instructions, 100.0 %"]
        );
        assert_eq!(texts(&drawn, "tbody"), ["write30100.0 %story 30"]);
    }

    #[test]
    fn rows_say_where_they_stand() {
        let (file, _) = file();
        let find = |text: &str, from| {
            let find = Find { text: text.to_string(), repeats: false, from };
            let (all, rows) = file.find(&find);
            found(&find, all, rows)
        };
        let [first, second, none] = [find("", 0), find("once", 25), find("horse", 0)];
        assert_eq!((first.place.as_str(), first.next), ("Rows 1 to 25 of 30", Some(25)));
        assert_eq!((second.place.as_str(), second.next), ("Rows 26 to 30 of 30", None));
        assert_eq!((none.place.as_str(), none.next), ("No rows", None));
        let head = "line 26 · Equal to line 1Write a story.Output: <b>Once</b>";
        assert_eq!(texts(&second.rows, "summary")[0], head);
        assert_eq!(texts(&second.rows, "mark")[0], "Once");
        assert_eq!(texts(&first.rows, "dl")[0], "Instruction, 3 wordsWrite a story.Output, 1 word<b>Once</b>");
    }
}
